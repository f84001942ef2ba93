//! The plan for making a template: a guest of nobody, booted to be saved.

use std::path::PathBuf;

use super::machine::Parts;
use super::{BootImage, HostSetup};
use crate::guest::credential::{TooLarge, Transport};
use crate::guest::seed;
use crate::qemu::argv::Memory;
use crate::sandbox::{CpuCount, DiskSize, MemorySize, StateLayout};

/// The shape of the machine that a template is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineShape {
    /// Number of processors.
    pub cpus: CpuCount,
    /// Memory.
    pub memory: MemorySize,
    /// Size of the root disk.
    pub disk: DiskSize,
    /// Devices for shares, the workspace's included.
    pub share_devices: usize,
}

/// Where the saved guest goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateTarget {
    /// The guest's memory, which grows while it boots.
    pub ram: PathBuf,
    /// The state of its devices.
    pub state: PathBuf,
    /// Its disk layer on the base image.
    pub disk: PathBuf,
}

/// Everything that making a template does.
#[derive(Debug, Clone)]
pub struct TemplatePlan {
    /// The machine.
    pub shape: MachineShape,
    /// Where the files of the running guest lie.
    pub layout: StateLayout,
    /// Where the saved guest goes.
    pub target: TemplateTarget,
    /// The base image.
    pub image: BootImage,
    /// The seed's files: what every guest has in common.
    pub seed: Transport,
    /// QEMU's whole command line.
    pub argv: Vec<String>,
}

impl TemplatePlan {
    /// Makes the plan.
    ///
    /// # Errors
    /// When the seed is too large, which it is not.
    pub fn new(
        shape: MachineShape,
        layout: StateLayout,
        target: TemplateTarget,
        image: BootImage,
        host: &HostSetup,
    ) -> Result<Self, TooLarge> {
        let seed = Transport::of(&seed::template_credentials(&host.machine_id))?;
        let parts = Parts {
            // What `ps` shows of the guest's QEMU.
            name: "sandbox-template".into(),
            program: &host.qemu,
            accelerator: host.accelerator,
            cpus: shape.cpus,
            memory: shape.memory,
            layout: &layout,
        };
        let mut machine = parts.booted(
            &image,
            Memory::Template(target.ram.clone()),
            parts.spare_devices(shape.share_devices),
            &seed,
        );
        machine.disk.clone_from(&target.disk);
        let argv = machine.to_argv();
        Ok(Self {
            shape,
            layout,
            target,
            image,
            seed,
            argv,
        })
    }
}
