//! The machines of one sandbox or template: the same devices, whether a
//! kernel boots in it or a saved guest goes on.

use std::path::Path;

use super::{BootImage, TemplateFiles};
use crate::guest::credential::{CredentialFile, Transport};
use crate::{SandboxSpec, StateLayout};
use sandbox_qemu::argv::{Machine, Memory, NetworkCard, NinePDevice, Origin};
use sandbox_spec::{Accelerator, CpuCount, MemorySize, Share, ShareMode};

/// The mount tag of the workspace.
const WORKSPACE_TAG: &str = "workspace";

/// What the kernel is told under emulation: speculation is not emulated, so
/// nothing needs protection from it; calibrating timers, testing ciphers and
/// looking for serial ports only costs time.
const TCG_COMMAND_LINE: &str = "mitigations=off tsc=reliable no_timer_check \
     rcupdate.rcu_expedited=1 nowatchdog cryptomgr.notests 8250.nr_uarts=1";

/// A share with the tag under which the guest finds it.
pub(super) struct Mount {
    /// The place of its device, counted from the workspace's, which is 0.
    index: usize,
    pub(super) tag: String,
    pub(super) share: Share,
}

/// The workspace, if there is one, and the further shares.
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

/// The tag of a device for shares, counted from the workspace's.
fn tag(index: usize) -> String {
    match index {
        0 => WORKSPACE_TAG.into(),
        _ => format!("share{index}"),
    }
}

/// A device through which nothing can be reached: `directory` is empty.
fn spare_device(index: usize, directory: &Path) -> NinePDevice {
    NinePDevice {
        tag: tag(index),
        directory: directory.into(),
        security_model: ShareMode::Mapped.security_model(),
        read_only: true,
    }
}

/// The kernel's command line of `image`.
pub(super) fn command_line(image: &BootImage, accelerator: Accelerator) -> String {
    match accelerator {
        Accelerator::Kvm => image.command_line.clone(),
        Accelerator::Tcg => format!("{} {TCG_COMMAND_LINE}", image.command_line),
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

/// What all machines have.
pub(super) struct Parts<'a> {
    pub(super) name: String,
    pub(super) program: &'a Path,
    pub(super) accelerator: Accelerator,
    pub(super) cpus: CpuCount,
    pub(super) memory: MemorySize,
    pub(super) layout: &'a StateLayout,
}

impl Parts<'_> {
    /// A machine with its own memory, which has yet to be told what to boot.
    pub(super) fn fresh(&self, shares: Vec<NinePDevice>) -> Machine {
        self.machine(Memory::Anonymous, shares)
    }

    /// A machine whose memory becomes a template's, which has yet to be told
    /// what to boot.
    pub(super) fn template(&self, ram: &Path, share_devices: usize) -> Machine {
        let spare = self.layout.spare();
        let shares = (0..share_devices).map(|index| spare_device(index, &spare));
        self.machine(Memory::Template(ram.into()), shares.collect())
    }

    /// Lets the machine boot the image's kernel with this seed.
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

    /// A machine that goes on where the template was saved.
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
