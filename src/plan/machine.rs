//! The virtual machines of sandboxes and templates. All have the same devices, whether they boot a
//! kernel or restore a saved guest.

use std::path::Path;

use super::{BootImage, TemplateFiles};
use crate::guest::credential::{CredentialFile, Transport};
use crate::{SandboxSpec, StateLayout};
use sandbox_qemu::argv::{Machine, Memory, NetworkCard, NinePDevice, Origin};
use sandbox_spec::{Accelerator, CpuCount, MemorySize, Share, ShareMode};

/// The mount tag of the workspace.
const WORKSPACE_TAG: &str = "workspace";

/// Kernel parameters for all guests.
///
/// Proactive compaction wakes the processor twice a second (Linux `mm/compaction.c`), and a tick
/// follows each wakeup. Memory is still compacted on demand.
const COMMAND_LINE: &str = "sysctl.vm.compaction_proactiveness=0";

/// Kernel parameters for guests with KVM.
///
/// The kernel checks the TSC twice a second, and a tick follows each check. Such a guest uses the
/// TSC only if the host says that it is invariant, and else KVM's clock (Linux
/// `arch/x86/kernel/kvmclock.c`).
const KVM_COMMAND_LINE: &str = "tsc=nowatchdog";

/// Kernel parameters for emulated guests.
///
/// TCG does not speculate, so no mitigations are needed. Timer calibration, cipher tests and the
/// search for serial ports only cost time.
const TCG_COMMAND_LINE: &str = "mitigations=off tsc=reliable no_timer_check \
     rcupdate.rcu_expedited=1 nowatchdog cryptomgr.notests 8250.nr_uarts=1";

/// A share with its mount tag.
pub(super) struct Mount {
    /// The index of the share's device; the workspace's is 0.
    index: usize,
    pub(super) tag: String,
    pub(super) share: Share,
}

/// Returns the workspace, if there is one, and the other shares.
pub(super) fn mounts(spec: &SandboxSpec) -> Vec<Mount> {
    let workspace = spec.workspace.as_ref().map(|directory| Share {
        host: directory.clone(),
        guest: sandbox_spec::guest::WORKSPACE
            .parse()
            .expect("the constant is an absolute path"),
        read_only: false,
    });
    let shares = spec.shares.iter().cloned().enumerate();
    workspace
        .map(|share| (0, share))
        .into_iter()
        .chain(shares.map(|(index, share)| (index + 1, share)))
        .map(|(index, share)| Mount {
            index,
            tag: tag(index),
            share,
        })
        .collect()
}

/// Returns the mount tag of a share device by its index.
fn tag(index: usize) -> String {
    match index {
        0 => WORKSPACE_TAG.into(),
        _ => format!("share{index}"),
    }
}

/// Returns an unused share device, whose `directory` is empty.
fn spare_device(index: usize, directory: &Path) -> NinePDevice {
    NinePDevice {
        tag: tag(index),
        directory: directory.into(),
        security_model: ShareMode::Mapped.security_model(),
        read_only: true,
    }
}

/// Returns the kernel command line for `image`.
pub(super) fn command_line(image: &BootImage, accelerator: Accelerator) -> String {
    let all = format!("{} {COMMAND_LINE}", image.command_line);
    match accelerator {
        Accelerator::Kvm => format!("{all} {KVM_COMMAND_LINE}"),
        Accelerator::Tcg => format!("{all} {TCG_COMMAND_LINE}"),
    }
}

impl Mount {
    pub(super) fn device(&self, mode: ShareMode) -> NinePDevice {
        NinePDevice {
            tag: self.tag.clone(),
            directory: self.share.host.clone(),
            security_model: mode.security_model(),
            read_only: self.share.read_only,
        }
    }
}

/// The parameters that all machines have.
pub(super) struct Parts<'a> {
    pub(super) name: String,
    pub(super) program: &'a Path,
    pub(super) accelerator: Accelerator,
    pub(super) nested_virtualization: bool,
    pub(super) cpus: CpuCount,
    pub(super) memory: MemorySize,
    pub(super) layout: &'a StateLayout,
}

impl Parts<'_> {
    /// Returns a machine with its own memory. [`Self::boot`] sets its kernel and its seed.
    pub(super) fn fresh(&self, shares: Vec<NinePDevice>) -> Machine {
        self.machine(Memory::Anonymous, shares)
    }

    /// Returns a machine whose memory becomes a template's. [`Self::boot`] sets its kernel and its
    /// seed.
    pub(super) fn template(&self, ram: &Path, share_devices: usize) -> Machine {
        let spare = self.layout.spare();
        let shares = (0..share_devices).map(|index| spare_device(index, &spare));
        self.machine(Memory::Template(ram.into()), shares.collect())
    }

    /// Makes the machine boot the image's kernel with this seed.
    pub(super) fn boot(&self, machine: &mut Machine, image: &BootImage, seed: &Transport) {
        let seed_path = |file: &CredentialFile| self.layout.seed().join(&file.name);
        machine.origin = Origin::Boot {
            kernel: image.kernel.clone(),
            initrd: self.layout.initrd(),
            command_line: command_line(image, self.accelerator),
        };
        machine.smbios_strings = seed.smbios.iter().map(seed_path).collect();
        machine.firmware_files = seed
            .firmware
            .iter()
            .map(|file| {
                (
                    format!("opt/io.systemd.credentials/{}", file.name),
                    seed_path(file),
                )
            })
            .collect();
    }

    /// Returns a machine that restores the template.
    pub(super) fn restored(
        &self,
        template: &TemplateFiles,
        mounts: &[Mount],
        mode: ShareMode,
    ) -> Machine {
        let spare = self.layout.spare();
        let device = |index: usize| match mounts.iter().find(|mount| mount.index == index) {
            Some(mount) => mount.device(mode),
            None => spare_device(index, &spare),
        };
        let shares = (0..template.share_devices).map(device).collect();
        self.machine(Memory::Restored(template.ram.clone()), shares)
    }

    fn machine(&self, memory: Memory, shares: Vec<NinePDevice>) -> Machine {
        let layout = self.layout;
        Machine {
            program: self.program.into(),
            name: self.name.clone(),
            accelerator: self.accelerator,
            nested_virtualization: self.nested_virtualization,
            cpus: self.cpus.get(),
            memory_bytes: self.memory.bytes(),
            memory,
            origin: Origin::Restore,
            disk: layout.overlay(),
            network_card: NetworkCard {
                address: sandbox_spec::guest_network::GUEST_MAC,
                mtu: sandbox_spec::guest_network::MTU,
            },
            shares,
            smbios_strings: Vec::new(),
            firmware_files: Vec::new(),
            qmp_socket: layout.qmp_socket(),
            console_socket: layout.console_socket(),
            console_log: layout.console_log(),
            event_socket: layout.event_socket(),
            agent_port_socket: layout.agent_port_socket(),
            pid_file: layout.qemu_pid(),
        }
    }
}
