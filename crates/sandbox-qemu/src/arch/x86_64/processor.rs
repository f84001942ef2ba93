//! The processor's properties in `/proc/cpuinfo` that concern virtualization.

use serde::{Deserialize, Serialize};

/// The processor, as this machine's kernel sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processor {
    /// The processor's maker.
    pub vendor: Vendor,
    /// Whether the kernel can use hardware virtualization (flag `vmx` or `svm`).
    pub virtualization: bool,
    /// Whether this machine is itself a virtual machine (flag `hypervisor`).
    pub virtual_machine: bool,
}

/// The makers whose KVM modules and firmware settings have different names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vendor {
    /// VT-x, module `kvm_intel`.
    Intel,
    /// SVM (AMD-V), module `kvm_amd`. This includes Hygon, whose processors are AMD's design.
    Amd,
    /// Any other maker.
    Other,
}

impl Processor {
    /// Parses the content of `/proc/cpuinfo` (Linux `arch/x86/kernel/cpu/proc.c`). Only the first
    /// processor counts.
    pub fn parse(cpuinfo: &str) -> Self {
        let field = |name: &str| {
            cpuinfo
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| key.trim() == name)
                .map_or("", |(_, value)| value.trim())
        };
        let has = |flag: &str| field("flags").split(' ').any(|word| word == flag);
        Self {
            vendor: match field("vendor_id") {
                "GenuineIntel" => Vendor::Intel,
                "AuthenticAMD" | "HygonGenuine" => Vendor::Amd,
                _ => Vendor::Other,
            },
            virtualization: has("vmx") || has("svm"),
            virtual_machine: has("hypervisor"),
        }
    }

    /// Returns the processor of this machine. If `/proc/cpuinfo` is unreadable, its vendor is
    /// [`Vendor::Other`] and it has no flags.
    pub(crate) fn of_this_machine() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
    }
}

/// Returns the values in `/proc/cpuinfo` that differ between kinds of processors.
pub(crate) fn identity(cpuinfo: &str) -> String {
    let names = [
        "vendor_id",
        "cpu family",
        "model",
        "stepping",
        "microcode",
        "flags",
    ];
    let first = cpuinfo.split("\n\n").next().unwrap_or_default();
    let lines = first.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(name, _)| names.contains(&name.trim()))
        .map(|(_, value)| value.trim())
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_parse_reads_vendor_and_flags() {
        let cases = [
            ("", Vendor::Other, false, false),
            (
                "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vmx sse\n",
                Vendor::Intel,
                true,
                false,
            ),
            (
                "vendor_id\t: AuthenticAMD\nflags\t\t: fpu svm_lock hypervisor\n",
                Vendor::Amd,
                false,
                true,
            ),
            (
                "vendor_id\t: HygonGenuine\nflags\t\t: svm\nvmx flags\t: vnmi\n",
                Vendor::Amd,
                true,
                false,
            ),
        ];
        for (cpuinfo, vendor, virtualization, virtual_machine) in cases {
            let expected = Processor {
                vendor,
                virtualization,
                virtual_machine,
            };
            assert_eq!(Processor::parse(cpuinfo), expected, "{cpuinfo}");
        }
    }

    #[test]
    fn identity_contains_only_stable_fields_of_the_first_processor() {
        let text = "processor\t: 0\nvendor_id\t: X\nmodel\t\t: 5\ncpu MHz\t\t: 1234.5\nflags\t\t: a b\n\nprocessor\t: 1\nflags\t\t: c\n";
        assert_eq!(identity(text), "X; 5; a b");
    }
}
