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
