//! x86-64: the machine type `q35` without its PC devices.

pub(crate) mod guest_code;
pub(crate) mod processor;
pub(crate) mod remote_call;

use std::ops::Range;

use sandbox_spec::Accelerator;

/// The name of QEMU's program in every distribution.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// The machine type, without the PC devices that Linux does not need, since the guest's kernel
/// spends time on each. If QEMU crashes, its core dump (core(5)) omits the guest's memory:
/// gigabytes that may hold secrets.
pub const MACHINE: &str = "q35,usb=off,sata=off,smbus=off,i8042=off,vmport=off,smm=off,hpet=off,graphics=off,dump-guest-core=off";

/// Further options of the machine, as name and value. vAPIC is an option ROM that patches guest
/// code for the task priorities of 32-bit Windows.
pub const MACHINE_OPTIONS: [(&str, &str); 1] = [("-global", "apic-common.vapic=off")];

/// Returns the processor model, as a value of `-cpu`. With `nested_virtualization`, the guest can
/// use KVM itself.
pub const fn cpu_model(accelerator: Accelerator, nested_virtualization: bool) -> &'static str {
    // A guest that sees VMX or SVM loads KVM, and can reach the host's code for nested guests. An
    // emulation has SVM only. With ERMS and FSRM, Linux clears and copies memory by single bytes,
    // which is fast in hardware and a slow loop in an emulation.
    match (accelerator, nested_virtualization) {
        (Accelerator::Kvm, false) => "host,vmx=off,svm=off",
        (Accelerator::Kvm, true) => "host",
        (Accelerator::Tcg, false) => "max,svm=off,erms=off,fsrm=off",
        (Accelerator::Tcg, true) => "max,erms=off,fsrm=off",
    }
}

/// The end of the addresses that a PC uses for its devices in part.
const FIRST_MIB: u64 = 1 << 20;
const FOUR_GIB: u64 = 1 << 32;

/// Returns where a guest with `size` bytes of memory finds this part of it. The memory after the
/// first 2 or 2.75 GiB lies at 4 GiB (QEMU `hw/i386/pc_q35.c`). Omits the first MiB.
pub(crate) fn guest_addresses(part: Range<u64>, size: u64) -> impl Iterator<Item = Range<u64>> {
    let most_below = if size >= 0xb000_0000 {
        0x8000_0000
    } else {
        0xb000_0000
    };
    let end = part.end.min(size);
    let below = part.start.max(FIRST_MIB)..end.min(most_below);
    let above = part.start.max(most_below)..end;
    let moved = |address| address - most_below + FOUR_GIB;
    let above = above.start..above.end.max(above.start);
    [below, moved(above.start)..moved(above.end)]
        .into_iter()
        .filter(|range| !range.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_addresses_have_a_gap_below_4_gib() {
        let addresses = |part, size| -> Vec<(u64, u64)> {
            guest_addresses(part, size)
                .map(|range| (range.start, range.end))
                .collect()
        };
        assert_eq!(addresses(0..0x30_0000, 1 << 30), [(0x10_0000, 0x30_0000)]);
        assert_eq!(addresses(0..0x1000, 1 << 30), []);
        assert_eq!(
            addresses(0x7fff_f000..0x8000_1000, 4 << 30),
            [(0x7fff_f000, 0x8000_0000), (0x1_0000_0000, 0x1_0000_1000)]
        );
        assert_eq!(
            addresses(0x8000_0000..0x9000_0000, 0xa000_0000),
            [(0x8000_0000, 0x9000_0000)]
        );
        assert_eq!(addresses(0x5000_0000..0x6000_0000, 1 << 30), []);
    }
}
