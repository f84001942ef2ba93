//! The plan of a template build: boots a guest without an identity and saves it.

use std::path::{Path, PathBuf};

use super::machine::Parts;
use super::{BootImage, HostSetup};
use crate::StateLayout;
use crate::guest::credential::{TooLarge, Transport};
use crate::guest::seed;
use sandbox_spec::{Accelerator, CpuCount, DiskSize, MemorySize, Share, ShareError};

/// The machine parameters that a template depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MachineShape {
    /// The number of processors.
    pub cpus: CpuCount,
    /// The memory size.
    pub memory: MemorySize,
    /// The size of the root disk.
    pub disk: DiskSize,
    /// Whether the guest's processor has hardware virtualization.
    pub nested_virtualization: bool,
    /// The number of share devices, including the workspace's.
    pub share_devices: usize,
}

/// The minimum number of share devices in a template.
const SHARE_DEVICES: usize = 4;

/// The maximum root disk of a template. A guest's disk can grow but not shrink, so a template for a
/// sandbox with a smaller disk has that size.
const DISK: &str = "20G";

impl MachineShape {
    /// Returns the shape of the template for a sandbox. `shares` does not count the workspace.
    pub(crate) fn fitting(
        cpus: CpuCount,
        memory: MemorySize,
        disk: DiskSize,
        nested_virtualization: bool,
        shares: usize,
    ) -> Self {
        let usual: DiskSize = DISK.parse().expect("the constant is a size");
        Self {
            cpus,
            memory,
            disk: usual.min(disk),
            nested_virtualization,
            share_devices: (shares + 1).next_power_of_two().max(SHARE_DEVICES),
        }
    }

    /// Returns shares of `directory` with which a start uses the template of this shape.
    pub(crate) fn shares(self, directory: &Path) -> Result<Vec<Share>, ShareError> {
        let count = if self.share_devices > SHARE_DEVICES {
            self.share_devices - 1
        } else {
            0
        };
        (0..count)
            .map(|index| Ok(Share::new(directory, &format!("/mnt/{index}"))?.read_only()))
            .collect()
    }

    /// Returns the part of QEMU's command line that must be the same to restore a saved guest.
    pub(crate) fn hardware(self, accelerator: Accelerator) -> String {
        let layout = StateLayout::default();
        let parts = Parts {
            name: String::new(),
            program: "qemu".as_ref(),
            accelerator,
            nested_virtualization: self.nested_virtualization,
            cpus: self.cpus,
            memory: self.memory,
            layout: &layout,
        };
        let argv = parts
            .template(Path::new("ram"), self.share_devices)
            .to_argv();
        let decides = |option: &str| {
            ["-machine", "-global", "-cpu", "-smp", "-m", "-device"].contains(&option)
        };
        let words = argv.windows(2).filter(|pair| decides(&pair[0]));
        words
            .map(|pair| pair.join(" "))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// The files of the saved guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateTarget {
    /// The guest's memory, which grows while it boots.
    pub ram: PathBuf,
    /// The state of the guest's devices.
    pub state: PathBuf,
    /// The guest's disk layer on the base image.
    pub disk: PathBuf,
}

/// The plan of a template build.
#[derive(Debug, Clone)]
pub(crate) struct TemplatePlan {
    /// The machine.
    pub shape: MachineShape,
    /// The paths of the running guest's files.
    pub layout: StateLayout,
    /// The files of the saved guest.
    pub target: TemplateTarget,
    /// The accelerator of the guest's processors.
    pub accelerator: Accelerator,
    /// The base image.
    pub image: BootImage,
    /// The files of the seed, which all guests of the template share.
    pub seed: Transport,
    /// QEMU's whole command line.
    pub argv: Vec<String>,
}

impl TemplatePlan {
    /// Creates the plan.
    ///
    /// # Errors
    /// Fails if the seed is too large. It has one short credential, so it never is.
    pub(crate) fn new(
        shape: MachineShape,
        layout: StateLayout,
        target: TemplateTarget,
        image: BootImage,
        host: &HostSetup,
    ) -> Result<Self, TooLarge> {
        let seed = Transport::of(&seed::template_credentials(
            &sandbox_spec::guest_network::for_the_guest(),
        ))?;
        let parts = Parts {
            // `ps` shows this name.
            name: "sandbox-template".into(),
            program: &host.qemu,
            accelerator: host.accelerator,
            nested_virtualization: shape.nested_virtualization,
            cpus: shape.cpus,
            memory: shape.memory,
            layout: &layout,
        };
        let mut machine = parts.template(&target.ram, shape.share_devices);
        parts.boot(&mut machine, &image, &seed);
        machine.disk.clone_from(&target.disk);
        let argv = machine.to_argv();
        Ok(Self {
            shape,
            layout,
            target,
            accelerator: host.accelerator,
            image,
            seed,
            argv,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixtures;

    #[test]
    fn hardware_matches_the_plans_command_line() {
        let shape = MachineShape {
            cpus: "2".parse().unwrap(),
            memory: "1G".parse().unwrap(),
            disk: DISK.parse().unwrap(),
            nested_virtualization: false,
            share_devices: 4,
        };
        let directories = fixtures::directories();
        let (image, host) = (fixtures::image(), fixtures::host());
        let layout = StateLayout::at("/t/partial".into(), &directories);
        let target = TemplateTarget {
            ram: "/t/ram".into(),
            state: "/t/state".into(),
            disk: "/t/disk.qcow2".into(),
        };
        let plan = TemplatePlan::new(shape, layout, target, image, &host).unwrap();
        let line = plan.argv.join(" ");
        let hardware = shape.hardware(Accelerator::Tcg);
        for device in hardware.split(" -").filter(|one| one.starts_with("device")) {
            assert!(line.contains(device), "{device}");
        }
        assert!(hardware.contains("-smp 2 -m 1024M"), "{hardware}");
        assert_eq!(hardware.matches("virtio-9p-pci").count(), 4);
        assert!(line.contains("file.filename=/t/disk.qcow2"));
        assert!(line.contains("mem-path=/t/ram"));
    }
}
