//! x86-64: the machine type `q35` without its PC devices.

pub(crate) mod guest_code;
pub(crate) mod processor;

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

/// Returns the processor model, as a value of `-cpu`.
pub const fn cpu_model(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "host",
        // No guest needs SVM inside an emulation, and a kernel that sees it loads code for it. With
        // ERMS and FSRM, Linux clears and copies memory by single bytes, which is fast in hardware
        // and a slow loop in an emulation.
        Accelerator::Tcg => "max,svm=off,erms=off,fsrm=off",
    }
}
