//! The plan for making a template: a guest of nobody, booted to be saved.

use std::path::{Path, PathBuf};

use super::machine::Parts;
use super::{BootImage, HostSetup};
use crate::StateLayout;
use crate::guest::credential::{TooLarge, Transport};
use crate::guest::seed;
use sandbox_spec::{Accelerator, CpuCount, DiskSize, MemorySize};

/// The shape of the machine that a template is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MachineShape {
    /// Number of processors.
    pub cpus: CpuCount,
    /// Memory.
    pub memory: MemorySize,
    /// Size of the root disk.
    pub disk: DiskSize,
    /// Devices for shares, the workspace's included.
    pub share_devices: usize,
}

/// The least number of devices for shares in a template.
const SHARE_DEVICES: usize = 4;

/// The root disk of a template, unless a sandbox wants a smaller one: a guest's
/// disk can grow, not shrink.
const DISK: &str = "20G";

impl MachineShape {
    /// The shape of the template that a sandbox with this machine and this many
    /// shares, the workspace not counted, fits on.
    pub(crate) fn fitting(
        cpus: CpuCount,
        memory: MemorySize,
        disk: DiskSize,
        shares: usize,
    ) -> Self {
        let usual: DiskSize = DISK.parse().expect("the constant is a size");
        Self {
            cpus,
            memory,
            disk: usual.min(disk),
            share_devices: (shares + 1).next_power_of_two().max(SHARE_DEVICES),
        }
    }

    /// Everything on QEMU's command line that decides whether a saved guest
    /// finds the machine that it was saved on.
    pub(crate) fn hardware(self, accelerator: Accelerator) -> String {
        let layout = StateLayout::default();
        let parts = Parts {
            name: String::new(),
            program: "qemu".as_ref(),
            accelerator,
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

/// Where the saved guest goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateTarget {
    /// The guest's memory, which grows while it boots.
    pub ram: PathBuf,
    /// The state of its devices.
    pub state: PathBuf,
    /// Its disk layer on the base image.
    pub disk: PathBuf,
}

/// Everything that making a template does.
#[derive(Debug, Clone)]
pub(crate) struct TemplatePlan {
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
            // What `ps` shows of the guest's QEMU.
            name: "sandbox-template".into(),
            program: &host.qemu,
            accelerator: host.accelerator,
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
    fn the_hardware_is_that_of_the_plan() {
        let shape = MachineShape {
            cpus: "2".parse().unwrap(),
            memory: "1G".parse().unwrap(),
            disk: DISK.parse().unwrap(),
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
