//! Checks of the host: whether everything is there that a sandbox needs, and
//! what to do where it is not. One file per check.
//!
//! The checks look and change nothing (but for the probes' caches), and print
//! nothing: the command `sandbox doctor` does. May use `qemu` and `host`.

mod image_tools;
mod kvm;
mod memory;
mod qemu;
mod ssh;
mod state_directory;
mod tool;

use std::ffi::OsString;

use serde::Serialize;

use sandbox_host::directories::Directories;
use sandbox_host::distribution::Distribution;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Sandboxes work, but less well, or not all of their commands.
    Warning,
    /// Sandboxes cannot work.
    Failure,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The check's name, stable, for scripts.
    pub check: &'static str,
    /// How it came out.
    pub outcome: Outcome,
    /// What was seen: lower case, one line, no full stop.
    pub detail: String,
    /// What to do about it, as an instruction; absent when there is nothing to do.
    pub mend: Option<String>,
}

impl Finding {
    /// Makes a finding.
    pub fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self {
            check,
            outcome: Outcome::Ok,
            detail: detail.into(),
            mend: None,
        }
    }

    /// Makes a finding.
    pub fn warning(check: &'static str, detail: impl Into<String>, mend: Option<String>) -> Self {
        let outcome = Outcome::Warning;
        Self {
            outcome,
            mend,
            ..Self::ok(check, detail)
        }
    }

    /// Makes a finding.
    pub fn failure(check: &'static str, detail: impl Into<String>, mend: Option<String>) -> Self {
        let outcome = Outcome::Failure;
        Self {
            outcome,
            mend,
            ..Self::ok(check, detail)
        }
    }
}

/// What the checks look at.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Where state and images are kept.
    pub directories: Directories,
    /// The value of `SANDBOX_QEMU`.
    pub program_override: Option<OsString>,
    /// The value of `PATH`.
    pub search_path: Option<OsString>,
    /// Names the packages.
    pub distribution: Distribution,
}

/// Makes every check, in the order in which to mend. Takes well below a second
/// on a healthy machine.
pub(crate) fn run_all(context: &Context) -> Vec<Finding> {
    let mut findings = qemu::check(context);
    findings.push(kvm::check());
    findings.extend(image_tools::check(context));
    findings.extend(ssh::check(context));
    findings.extend(state_directory::check(context));
    findings.push(memory::check());
    findings
}

/// The worst of all outcomes; [`Outcome::Ok`] if there are none.
pub fn worst(findings: &[Finding]) -> Outcome {
    let outcomes = findings.iter().map(|finding| finding.outcome);
    outcomes.max().unwrap_or(Outcome::Ok)
}

/// An error with its causes, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on whose `PATH` there is nothing.
    fn bare_machine(home: &std::path::Path) -> Context {
        Context {
            directories: Directories {
                state: home.join("state"),
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
    fn whatever_is_wrong_has_a_mend_and_reads_as_one_line() {
        let home = tempfile::tempdir().unwrap();
        let findings = run_all(&bare_machine(home.path()));
        assert_eq!(worst(&findings), Outcome::Failure);
        for finding in findings {
            let text = format!("{finding:?}");
            assert!(
                finding.outcome == Outcome::Ok || finding.mend.is_some(),
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
    fn names_are_unique_and_stable() {
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
    fn findings_read_well_in_json() {
        let finding = Finding::warning("kvm", "slow", Some("mend it".into()));
        assert_eq!(
            serde_json::to_string(&finding).unwrap(),
            r#"{"check":"kvm","outcome":"warning","detail":"slow","mend":"mend it"}"#
        );
    }
}
