//! Checks whether QEMU is installed, recent enough, and built with the needed features.

use super::{Context, Finding, with_causes};
use sandbox_qemu::program::{Search, locate, probe_features};

const CHECK: &str = "qemu";
const FEATURES: &str = "qemu-features";

pub(super) fn check(context: &Context) -> Vec<Finding> {
    let program = match locate(Search {
        program_override: context.program_override.as_deref(),
        search_path: context.search_path.as_deref(),
        cache_directory: &context.directories.state,
    }) {
        Ok(program) => program,
        Err(error) => {
            return vec![Finding::failure(
                CHECK,
                with_causes(&error),
                error.hint().map(|hint| hint.to_string()),
            )];
        }
    };
    let path = program.path.display();
    let found = Finding::ok(CHECK, format!("QEMU {} (`{path}`)", program.version));
    let features = match probe_features(&program.path) {
        Ok(features) if features.missing().is_empty() => {
            Finding::ok(FEATURES, "network by a stream, 9p shares, seccomp sandbox")
        }
        Ok(features) => Finding::failure(
            FEATURES,
            format!(
                "`{path}` was built without: {}",
                features.missing().join(", ")
            ),
            Some("use the QEMU of your distribution, or build yours with these features".into()),
        ),
        Err(error) => Finding::failure(
            FEATURES,
            format!("could not query the features of `{path}`: {error}"),
            Some(format!("run `{path} -netdev help`")),
        ),
    };
    vec![found, features]
}
