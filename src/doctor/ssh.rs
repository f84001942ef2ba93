//! Checks for programs that connect to a sandbox without `sandbox`.

use super::tool::{Tool, install_tools_fix};
use super::{Context, Finding};

pub(super) fn check(context: &Context) -> [Finding; 2] {
    [
        find(
            context,
            Tool::Ssh,
            "ssh",
            "`sandbox ssh` and SSH aliases need `ssh`",
        ),
        find(
            context,
            Tool::Socat,
            "socat",
            "the console's `socat` line needs `socat`",
        ),
    ]
}

fn find(context: &Context, tool: Tool, check: &'static str, without: &str) -> Finding {
    match tool.find(context) {
        Some(path) => Finding::ok(check, format!("`{}`", path.display())),
        None => {
            let fix = install_tools_fix(context.distribution, &[tool]);
            Finding::warning(check, without, Some(fix))
        }
    }
}
