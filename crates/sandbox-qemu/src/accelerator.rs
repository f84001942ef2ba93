//! How QEMU executes the guest: with the processor's virtualization (KVM) or
//! by translating its code (TCG).
//!
//! A `/dev/kvm` that opens proves nothing: on some machines it is an emulation
//! a thousand times slower than hardware. So the choice rests on a
//! measurement, made once per boot of the host.

mod device;
mod guest_code;
mod probe;
mod processor;
mod verdict;

use sandbox_host::hint::Hint;
use std::fmt;
use std::path::Path;

pub use device::{CACHE_FILE, probe_kvm, probe_kvm_once_per_boot};
pub use probe::SLOWEST_USABLE;
pub use processor::{Processor, Vendor};
use sandbox_spec::{Accelerator, AcceleratorChoice};
pub use verdict::{KvmVerdict, Permissions, ProbeStep};

/// What will execute the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The accelerator to start QEMU with.
    pub accelerator: Accelerator,
    /// Set when the user gets less than could be: tell them once.
    pub warning: Option<FallbackWarning>,
}

/// Why TCG is used although KVM was wanted. One line as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackWarning {
    /// What is wrong with KVM.
    pub reason: String,
    /// What would make it usable.
    pub mend: Option<String>,
}

impl fmt::Display for FallbackWarning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the VM runs in software emulation, many times slower, because {}",
            self.reason
        )?;
        match &self.mend {
            Some(mend) => write!(formatter, "; to mend it, {mend}"),
            None => Ok(()),
        }
    }
}

/// No accelerator as the user wants it.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum AcceleratorError {
    /// KVM was required and does not work.
    #[error("cannot use KVM: {}", verdict.reason())]
    KvmUnusable {
        /// What the probe found.
        verdict: KvmVerdict,
    },
}

impl AcceleratorError {
    /// What the user can do.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::KvmUnusable { verdict } => match verdict.mend() {
                Some(mend) => {
                    format!("{mend}; or run in software emulation with `--accel tcg`").into()
                }
                None => "run in software emulation with `--accel tcg`".into(),
            },
        })
    }
}

/// Chooses from what the user wants and what the probe found.
///
/// # Errors
///
/// [`AcceleratorError::KvmUnusable`] if only KVM will do and it does not work.
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
            let (reason, mend) = (verdict.reason(), verdict.mend());
            (Accelerator::Tcg, Some(FallbackWarning { reason, mend }))
        }
    };
    Ok(Decision {
        accelerator,
        warning,
    })
}

/// Chooses for this machine: [`decide`] on the verdict of this boot, which is
/// remembered in `cache_directory`. With `tcg`, KVM is not looked at.
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

/// What a guest under KVM sees of the host's processor, and what a saved guest
/// would miss on another one: its model, its microcode and its flags, as
/// `/proc/cpuinfo` tells them of the first processor.
pub fn host_processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    processor::identity(&text)
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
    fn every_choice_with_and_without_kvm() {
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
    fn a_fallback_says_why_and_what_mends_it_in_one_line() {
        let warning = decide(AcceleratorChoice::Auto, &EMULATED)
            .unwrap()
            .warning
            .unwrap();
        assert_eq!(
            warning.to_string(),
            "the VM runs in software emulation, many times slower, because `/dev/kvm` is not \
             backed by hardware here (950 ns per instruction); to mend it, enable nested \
             virtualization for this machine in the host that runs it"
        );
    }

    #[test]
    fn a_refusal_names_the_way_out() {
        let error = decide(AcceleratorChoice::Kvm, &EMULATED).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot use KVM: `/dev/kvm` is not backed")
        );
        assert!(error.hint().unwrap().to_string().ends_with("`--accel tcg`"));
    }
}
