//! Checks whether KVM is usable.

use super::Finding;
use sandbox_qemu::accelerator::{KvmVerdict, nested_virtualization_of_kvm, probe_kvm};

pub(super) fn check() -> Finding {
    let nested = nested_virtualization_of_kvm().map(|(_, allowed)| allowed);
    judge(&probe_kvm(), nested)
}

/// `nested` tells whether guests can use KVM themselves, if the host's kernel tells.
fn judge(verdict: &KvmVerdict, nested: Option<bool>) -> Finding {
    const CHECK: &str = "kvm";
    if verdict.is_usable() {
        let nested = match nested {
            Some(true) => ", and allows it inside a VM (`--nested-virtualization`)",
            Some(false) => ", and does not allow it inside a VM",
            None => "",
        };
        Finding::ok(CHECK, format!("{}{nested}", verdict.reason()))
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
            let finding = judge(&verdict, Some(true));
            assert_eq!(finding.outcome, expected, "{verdict:?}");
        }
    }

    #[test]
    fn kvm_usable_tells_whether_it_can_be_nested() {
        let usable = KvmVerdict::Usable {
            ns_per_instruction: 0.3,
        };
        for (nested, expected) in [
            (Some(true), "and allows it inside a VM"),
            (Some(false), "and does not allow it inside a VM"),
            (None, "ns per instruction)"),
        ] {
            let detail = judge(&usable, nested).detail;
            assert!(detail.contains(expected), "{detail}");
        }
    }
}
