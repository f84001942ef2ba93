//! Checks of the host's requirements, and the fix of each problem. Each check has its own file.
//!
//! The checks change nothing but the caches of their probes, and print nothing: `sandbox doctor`
//! prints the findings. They may use `sandbox_qemu` and `sandbox_host`.

mod image_tools;
mod kvm;
mod memory;
mod qemu;
mod ssh;
mod state_directory;
mod tool;

use std::ffi::OsString;
use std::fmt;

use serde::Serialize;

use sandbox_host::directories::Directories;
use sandbox_host::distribution::Distribution;

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Outcome {
    /// The requirement is met.
    Ok,
    /// Sandboxes work, but slowly or without some commands.
    Warning,
    /// Sandboxes cannot work.
    Failure,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        })
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Finding {
    /// The check's name, which is stable for scripts.
    pub check: &'static str,
    /// The outcome.
    pub outcome: Outcome,
    /// The observation: one line in lower case, without a full stop.
    pub detail: String,
    /// The fix, as an instruction; `None` if there is nothing to fix.
    pub fix: Option<String>,
}

impl Finding {
    /// Creates a finding with the outcome [`Outcome::Ok`].
    pub fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self {
            check,
            outcome: Outcome::Ok,
            detail: detail.into(),
            fix: None,
        }
    }

    /// Creates a finding with the outcome [`Outcome::Warning`].
    pub fn warning(check: &'static str, detail: impl Into<String>, fix: Option<String>) -> Self {
        let outcome = Outcome::Warning;
        Self {
            outcome,
            fix,
            ..Self::ok(check, detail)
        }
    }

    /// Creates a finding with the outcome [`Outcome::Failure`].
    pub fn failure(check: &'static str, detail: impl Into<String>, fix: Option<String>) -> Self {
        let outcome = Outcome::Failure;
        Self {
            outcome,
            fix,
            ..Self::ok(check, detail)
        }
    }
}

/// The input of the checks.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The directories of state and images.
    pub directories: Directories,
    /// The value of `SANDBOX_QEMU`.
    pub program_override: Option<OsString>,
    /// The value of `PATH`.
    pub search_path: Option<OsString>,
    /// The distribution, which decides the names of packages.
    pub distribution: Distribution,
}

/// Runs all checks, in the order in which to fix their findings. Takes less than a second on a
/// healthy host.
pub(crate) fn run_all(context: &Context) -> Vec<Finding> {
    let mut findings = qemu::check(context);
    findings.push(kvm::check());
    findings.extend(image_tools::check(context));
    findings.extend(ssh::check(context));
    findings.extend(state_directory::check(context));
    findings.push(memory::check());
    findings
}

/// Returns the worst outcome; [`Outcome::Ok`] if there are no findings.
pub fn worst(findings: &[Finding]) -> Outcome {
    let outcomes = findings.iter().map(|finding| finding.outcome);
    outcomes.max().unwrap_or(Outcome::Ok)
}

/// Returns an error and its causes in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the context of a host with an empty `PATH`.
    fn bare_machine(home: &std::path::Path) -> Context {
        Context {
            directories: Directories {
                state: home.join("state"),
                data: home.join("data"),
                config: home.join("config"),
                home: home.to_path_buf(),
                runtime: home.to_owned(),
            },
            program_override: None,
            search_path: Some(home.join("bin").into_os_string()),
            distribution: Distribution::Debian,
        }
    }

    #[test]
    fn findings_have_a_fix_and_one_line() {
        let home = tempfile::tempdir().unwrap();
        let findings = run_all(&bare_machine(home.path()));
        assert_eq!(worst(&findings), Outcome::Failure);
        for finding in findings {
            let text = format!("{finding:?}");
            assert!(
                finding.outcome == Outcome::Ok || finding.fix.is_some(),
                "{text}"
            );
            assert!(
                !finding.detail.contains('\n') && !finding.detail.ends_with('.'),
                "{text}"
            );
        }
        assert_eq!(
            home.path().read_dir().unwrap().count(),
            0,
            "a check left something behind"
        );
    }

    #[test]
    fn check_names_are_stable() {
        let home = tempfile::tempdir().unwrap();
        let findings = run_all(&bare_machine(home.path()));
        let names: Vec<_> = findings.iter().map(|finding| finding.check).collect();
        let expected = [
            "qemu",
            "kvm",
            "image-tools",
            "ssh",
            "socat",
            "state-directory",
            "memory",
        ];
        let known =
            |name: &&str| !matches!(*name, "archive-keyring" | "user-namespaces" | "free-space");
        let seen: Vec<_> = names.into_iter().filter(known).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn finding_serializes_to_json() {
        let finding = Finding::warning("kvm", "slow", Some("fix it".into()));
        assert_eq!(
            serde_json::to_string(&finding).unwrap(),
            r#"{"check":"kvm","outcome":"warning","detail":"slow","fix":"fix it"}"#
        );
    }
}
