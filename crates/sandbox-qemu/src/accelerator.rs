//! How QEMU executes the guest: with the processor's virtualization (KVM), or by translating the
//! guest's code (TCG).
//!
//! On some machines `/dev/kvm` opens but is an emulation, a thousand times slower than hardware. So
//! the choice needs a measurement, made once per boot of the host.

mod device;
mod probe;
mod verdict;

use std::fmt;
use std::path::Path;

use sandbox_host::hint::Hint;
use sandbox_spec::{Accelerator, AcceleratorChoice};

use crate::arch;

pub use device::{CACHE_FILE, probe_kvm, probe_kvm_once_per_boot};
pub use probe::SLOWEST_USABLE;
pub use verdict::{KvmVerdict, Permissions, ProbeStep};

/// The accelerator for a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The accelerator to start QEMU with.
    pub accelerator: Accelerator,
    /// A warning for the user, if QEMU emulates because KVM does not work.
    pub warning: Option<FallbackWarning>,
}

/// Why QEMU uses TCG although KVM was preferred. Its text is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackWarning {
    /// The obstacle to KVM.
    pub reason: String,
    /// An instruction that makes KVM usable.
    pub fix: Option<String>,
}

impl fmt::Display for FallbackWarning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the VM runs in software emulation, many times slower, because {}",
            self.reason
        )?;
        match &self.fix {
            Some(fix) => write!(formatter, "; to fix this, {fix}"),
            None => Ok(()),
        }
    }
}

/// The chosen accelerator is not available.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum AcceleratorError {
    /// The user requires KVM, and it does not work.
    #[error("could not use KVM: {}", verdict.reason())]
    KvmUnusable {
        /// The result of the probe.
        verdict: KvmVerdict,
    },
    /// The user requires KVM inside the guest, and this host's kernel does not allow it.
    #[error("could not give the guest KVM: nested virtualization is off in this host's `{module}`")]
    NotNested {
        /// The kernel module of KVM.
        module: &'static str,
    },
}

impl AcceleratorError {
    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        const EMULATE: &str = "run in software emulation with ";
        Some(match self {
            Self::KvmUnusable { verdict } => match verdict.fix() {
                Some(fix) => Hint::text(format!("{fix}; or {EMULATE}")),
                None => Hint::text(EMULATE),
            }
            .setting("accel", "tcg"),
            Self::NotNested { module } => Hint::text(format!(
                "stop all virtual machines and reload the module: `sudo modprobe -r {module} && \
                 sudo modprobe {module} nested=1`"
            )),
        })
    }
}

/// Decides from the user's choice and the probe's verdict.
///
/// # Errors
///
/// [`AcceleratorError::KvmUnusable`] if the user requires KVM and it does not work.
pub fn decide(
    choice: AcceleratorChoice,
    verdict: &KvmVerdict,
) -> Result<Decision, AcceleratorError> {
    let (accelerator, warning) = match choice {
        AcceleratorChoice::Tcg => (Accelerator::Tcg, None),
        AcceleratorChoice::Auto | AcceleratorChoice::Kvm if verdict.is_usable() => {
            (Accelerator::Kvm, None)
        }
        AcceleratorChoice::Kvm => {
            let verdict = verdict.clone();
            return Err(AcceleratorError::KvmUnusable { verdict });
        }
        AcceleratorChoice::Auto => {
            let (reason, fix) = (verdict.reason(), verdict.fix());
            (Accelerator::Tcg, Some(FallbackWarning { reason, fix }))
        }
    };
    Ok(Decision {
        accelerator,
        warning,
    })
}

/// Decides for this machine, as [`decide`] does. Probes KVM once per boot and caches the verdict in
/// `cache_directory`. The choice `tcg` needs no probe.
///
/// # Errors
///
/// As [`decide`].
pub fn select(
    choice: AcceleratorChoice,
    cache_directory: &Path,
) -> Result<Decision, AcceleratorError> {
    if choice == AcceleratorChoice::Tcg {
        return Ok(Decision {
            accelerator: Accelerator::Tcg,
            warning: None,
        });
    }
    decide(choice, &probe_kvm_once_per_boot(cache_directory))
}

/// The parameter of KVM's modules that lets guests use KVM themselves (Linux
/// `arch/x86/kvm/{vmx/vmx,svm/svm}.c`).
const NESTED_PARAMETERS: [(&str, &str); 2] = [
    ("kvm_intel", "/sys/module/kvm_intel/parameters/nested"),
    ("kvm_amd", "/sys/module/kvm_amd/parameters/nested"),
];

/// Returns KVM's module and whether it lets guests use KVM themselves. `None` if no module tells.
pub fn nested_virtualization_of_kvm() -> Option<(&'static str, bool)> {
    NESTED_PARAMETERS.into_iter().find_map(|(module, path)| {
        let value = std::fs::read_to_string(path).ok()?;
        Some((module, matches!(value.trim(), "Y" | "1")))
    })
}

/// Checks whether a guest of this accelerator can use KVM itself. An emulated processor has SVM.
///
/// # Errors
///
/// [`AcceleratorError::NotNested`] if this host's kernel does not allow it.
pub fn check_nested_virtualization(accelerator: Accelerator) -> Result<(), AcceleratorError> {
    match (accelerator, nested_virtualization_of_kvm()) {
        (Accelerator::Kvm, Some((module, false))) => Err(AcceleratorError::NotNested { module }),
        _ => Ok(()),
    }
}

/// Returns the properties of the host's processor that a guest with KVM sees: model, microcode and
/// flags of the first processor in `/proc/cpuinfo`. A saved guest needs the same ones.
pub fn host_processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    arch::processor::identity(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USABLE: KvmVerdict = KvmVerdict::Usable {
        ns_per_instruction: 0.3,
    };
    const EMULATED: KvmVerdict = KvmVerdict::Emulated {
        ns_per_instruction: 950.0,
    };

    #[test]
    fn decide_follows_choice_and_verdict() {
        use AcceleratorChoice::{Auto, Kvm, Tcg};
        let cases = [
            (Auto, USABLE, Some((Accelerator::Kvm, false))),
            (Auto, EMULATED, Some((Accelerator::Tcg, true))),
            (Kvm, USABLE, Some((Accelerator::Kvm, false))),
            (Kvm, EMULATED, None),
            (Tcg, USABLE, Some((Accelerator::Tcg, false))),
            (Tcg, EMULATED, Some((Accelerator::Tcg, false))),
        ];
        for (choice, verdict, expected) in cases {
            let decision = decide(choice, &verdict).ok();
            let seen = decision.map(|decision| (decision.accelerator, decision.warning.is_some()));
            assert_eq!(seen, expected, "{choice} {verdict:?}");
        }
    }

    #[test]
    fn fallback_warning_names_reason_and_fix_in_one_line() {
        let warning = decide(AcceleratorChoice::Auto, &EMULATED)
            .unwrap()
            .warning
            .unwrap();
        assert_eq!(
            warning.to_string(),
            "the VM runs in software emulation, many times slower, because `/dev/kvm` is not \
             backed by hardware here (950 ns per instruction); to fix this, enable nested \
             virtualization for this machine in the host that runs it"
        );
    }

    #[test]
    fn kvm_unusable_hint_names_the_emulation() {
        let error = decide(AcceleratorChoice::Kvm, &EMULATED).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("could not use KVM: `/dev/kvm` is not backed")
        );
        assert_eq!(
            error.hint().unwrap().to_string(),
            "enable nested virtualization for this machine in the host that runs it; or run in \
             software emulation with `accel = tcg`"
        );
    }
}
