//! Plain QEMU as Debian guests are usually started: the default PC, a kernel with
//! its initramfs, and a disk.

use std::path::Path;
use std::process::{Command, Stdio};

use sandbox_spec::Accelerator;

/// A guest and the way it is started.
pub struct StockMachine<'a> {
    /// How the guest's processors run.
    pub accelerator: Accelerator,
    /// The distribution's kernel image.
    pub kernel: &'a Path,
    /// Its initramfs.
    pub initrd: &'a Path,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// The root disk, in the qcow2 format.
    pub disk: &'a Path,
}

impl StockMachine<'_> {
    /// Returns QEMU with two processors, 2 GiB of memory and an empty standard input.
    /// The caller adds network and console.
    pub fn command(&self) -> Command {
        let accelerator = match self.accelerator {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Accelerator::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        };
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-machine", "pc", "-smp", "2", "-m", "2G"])
            .args(["-nodefaults", "-display", "none"])
            .args(accelerator)
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initrd)
            .args(["-append", self.command_line])
            .arg("-drive")
            .arg(format!(
                "file={},if=virtio,format=qcow2",
                self.disk.display()
            ))
            .args(["-device", "virtio-rng-pci"])
            .stdin(Stdio::null());
        command
    }
}
