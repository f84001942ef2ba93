//! Checks whether KVM is usable.

use super::Finding;
use sandbox_qemu::accelerator::{KvmVerdict, probe_kvm};

pub(super) fn check() -> Finding {
    judge(&probe_kvm())
}

fn judge(verdict: &KvmVerdict) -> Finding {
    const CHECK: &str = "kvm";
    if verdict.is_usable() {
        Finding::ok(CHECK, verdict.reason())
    } else {
        let detail = format!(
            "{}: VMs run in software emulation, many times slower",
            verdict.reason()
        );
        Finding::warning(CHECK, detail, verdict.fix())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn kvm_missing_is_a_warning() {
        let cases = [
            (
                KvmVerdict::Usable {
                    ns_per_instruction: 0.3,
                },
                Outcome::Ok,
            ),
            (
                KvmVerdict::Emulated {
                    ns_per_instruction: 950.0,
                },
                Outcome::Warning,
            ),
            (KvmVerdict::Busy, Outcome::Warning),
        ];
        for (verdict, expected) in cases {
            assert_eq!(judge(&verdict).outcome, expected, "{verdict:?}");
        }
    }
}
