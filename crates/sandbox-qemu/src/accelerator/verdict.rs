//! The result of the `/dev/kvm` probe, and its texts for the user.

use std::fmt;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::arch::{Processor, Vendor};

/// The result of the `/dev/kvm` probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "verdict",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum KvmVerdict {
    /// Guest code runs at hardware speed.
    Usable {
        /// Nanoseconds per guest instruction.
        ns_per_instruction: f64,
    },
    /// The device does not exist, or has no driver.
    Missing {
        /// The host's processor, on which the fix depends.
        processor: Processor,
    },
    /// The user may not open the device.
    Forbidden(Permissions),
    /// Another hypervisor uses the processor's virtualization.
    Busy,
    /// The device's API version is not 12, the only one since Linux 2.6.22.
    WrongVersion {
        /// The device's API version.
        found: i32,
    },
    /// A step failed.
    Failed {
        /// The step.
        step: ProbeStep,
        /// The system's error number.
        errno: i32,
    },
    /// The test guest stopped for a reason that its code cannot cause.
    WrongExit {
        /// KVM's name of the exit.
        exit: String,
    },
    /// A step did not end in time.
    Unresponsive {
        /// The step.
        step: ProbeStep,
    },
    /// Guest code runs far slower than on hardware.
    Emulated {
        /// Nanoseconds per guest instruction.
        ns_per_instruction: f64,
    },
}

/// The device's permissions, and the caller's relation to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Permissions {
    /// The owner's name, or its number if it has none.
    pub owner: String,
    /// The group's name, or its number if it has none.
    pub group: String,
    /// The permission bits.
    pub mode: u32,
    /// Whether the caller is root. Permission bits do not stop root, so something else does.
    pub caller_is_root: bool,
    /// Whether the user database lists the caller in the group. Then the session began before
    /// that.
    pub caller_joined_group: bool,
}

/// The steps of the probe, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeStep {
    /// Opening the device.
    Open,
    /// `KVM_GET_API_VERSION`.
    ReadVersion,
    /// `KVM_CREATE_VM`.
    CreateVm,
    /// `KVM_SET_USER_MEMORY_REGION` and the pages KVM needs for itself.
    SetMemory,
    /// `KVM_CREATE_VCPU`.
    CreateVcpu,
    /// `KVM_SET_CPUID2`, `KVM_SET_SREGS`, `KVM_SET_REGS`.
    SetRegisters,
    /// `KVM_RUN`.
    Run,
}

impl fmt::Display for ProbeStep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Open => "opening it",
            Self::ReadVersion => "reading its version",
            Self::CreateVm => "creating a virtual machine",
            Self::SetMemory => "giving memory to a virtual machine",
            Self::CreateVcpu => "creating a virtual processor",
            Self::SetRegisters => "setting a virtual processor's registers",
            Self::Run => "running a virtual processor",
        })
    }
}

impl KvmVerdict {
    /// Returns whether guests can run with KVM.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Usable { .. })
    }

    /// Returns whether the verdict was expensive to get and holds until the next boot.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Usable { .. } | Self::Unresponsive { .. } | Self::Emulated { .. } => true,
            Self::Missing { .. }
            | Self::Forbidden(_)
            | Self::Busy
            | Self::WrongVersion { .. }
            | Self::Failed { .. }
            | Self::WrongExit { .. } => false,
        }
    }

    /// Returns the verdict as one clause, without a full stop.
    pub fn reason(&self) -> String {
        match self {
            Self::Usable { ns_per_instruction } => {
                format!(
                    "`/dev/kvm` runs guest code in hardware ({ns_per_instruction:.1} ns per instruction)"
                )
            }
            Self::Missing { .. } => "`/dev/kvm` does not exist or has no driver".into(),
            Self::Forbidden(permissions) if permissions.caller_is_root => {
                "even root may not open `/dev/kvm` here".into()
            }
            Self::Forbidden(Permissions {
                owner, group, mode, ..
            }) => format!(
                "you may not open `/dev/kvm` (owner `{owner}`, group `{group}`, mode {mode:04o})"
            ),
            Self::Busy => "another hypervisor is using the processor's virtualization".into(),
            Self::WrongVersion { found } => {
                format!("`/dev/kvm` has API version {found}, not 12")
            }
            Self::Failed { step, errno } => format!(
                "`/dev/kvm` does not work: {step} failed ({})",
                Errno::from_raw(*errno).desc()
            ),
            Self::WrongExit { exit } => {
                format!("`/dev/kvm` does not work: a test guest stopped with {exit}")
            }
            Self::Unresponsive { step } => {
                format!("`/dev/kvm` does not work: {step} did not end in time")
            }
            Self::Emulated { ns_per_instruction } => format!(
                "`/dev/kvm` is not backed by hardware here ({ns_per_instruction:.0} ns per instruction)"
            ),
        }
    }

    /// Returns an instruction that makes KVM usable, or `None` if it is usable.
    pub fn fix(&self) -> Option<String> {
        const IN_THE_HOST: &str =
            "enable nested virtualization for this machine in the host that runs it";
        match self {
            Self::Usable { .. } => None,
            Self::Missing { processor } => Some(match processor {
                Processor {
                    virtualization: true,
                    vendor,
                    ..
                } => match vendor {
                    Vendor::Intel => "load the kernel module: `sudo modprobe kvm_intel`".into(),
                    Vendor::Amd => "load the kernel module: `sudo modprobe kvm_amd`".into(),
                    Vendor::Other => "load the kernel's KVM module for this processor".into(),
                },
                Processor {
                    virtual_machine: true,
                    ..
                } => IN_THE_HOST.into(),
                Processor { vendor, .. } => match vendor {
                    Vendor::Intel => "enable VT-x in the firmware settings of this machine".into(),
                    Vendor::Amd => "enable SVM in the firmware settings of this machine".into(),
                    Vendor::Other => {
                        "enable virtualization in the firmware settings of this machine".into()
                    }
                },
            }),
            Self::Forbidden(permissions) => Some(permissions.fix()),
            Self::Busy => {
                Some("stop the other hypervisor, for example VirtualBox or VMware".into())
            }
            Self::Emulated { .. } => Some(IN_THE_HOST.into()),
            Self::WrongVersion { .. }
            | Self::Failed { .. }
            | Self::WrongExit { .. }
            | Self::Unresponsive { .. } => {
                Some("read KVM's kernel messages: `sudo dmesg | grep -i kvm`".into())
            }
        }
    }
}

impl Permissions {
    const GROUP_READ_WRITE: u32 = 0o060;

    fn fix(&self) -> String {
        let group = &self.group;
        let group_may = self.mode & Self::GROUP_READ_WRITE == Self::GROUP_READ_WRITE;
        if self.caller_is_root {
            "let this container use the device, for example with `--device /dev/kvm`".into()
        } else if !group_may || group == "root" {
            "give the device to group `kvm` and join it: `sudo usermod -aG kvm $USER && \
             sudo chgrp kvm /dev/kvm && sudo chmod 0660 /dev/kvm`, then log in again"
                .into()
        } else if self.caller_joined_group {
            format!("log in again: this session began before you joined group `{group}`")
        } else {
            format!("join its group: `sudo usermod -aG {group} $USER`, then log in again")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions() -> Permissions {
        Permissions {
            owner: "root".into(),
            group: "kvm".into(),
            mode: 0o660,
            caller_is_root: false,
            caller_joined_group: false,
        }
    }

    fn missing(vendor: Vendor, virtualization: bool, virtual_machine: bool) -> KvmVerdict {
        let processor = Processor {
            vendor,
            virtualization,
            virtual_machine,
        };
        KvmVerdict::Missing { processor }
    }

    #[test]
    fn fix_depends_on_the_verdict() {
        let cases = [
            (missing(Vendor::Intel, true, false), "modprobe kvm_intel"),
            (missing(Vendor::Amd, true, true), "modprobe kvm_amd"),
            (missing(Vendor::Intel, false, true), "nested virtualization"),
            (missing(Vendor::Intel, false, false), "VT-x"),
            (missing(Vendor::Amd, false, false), "SVM"),
            (
                KvmVerdict::Forbidden(permissions()),
                "usermod -aG kvm $USER",
            ),
            (
                KvmVerdict::Forbidden(Permissions {
                    caller_joined_group: true,
                    ..permissions()
                }),
                "log in again: ",
            ),
            (
                KvmVerdict::Forbidden(Permissions {
                    mode: 0o600,
                    ..permissions()
                }),
                "chmod 0660",
            ),
            (
                KvmVerdict::Forbidden(Permissions {
                    caller_is_root: true,
                    ..permissions()
                }),
                "--device /dev/kvm",
            ),
            (
                KvmVerdict::Emulated {
                    ns_per_instruction: 950.0,
                },
                "nested virtualization",
            ),
            (KvmVerdict::Busy, "VirtualBox"),
        ];
        for (verdict, expected) in cases {
            let fix = verdict.fix().unwrap();
            assert!(fix.contains(expected), "{verdict:?}: {fix}");
        }
    }

    #[test]
    fn reason_contains_the_values() {
        let cases = [
            (
                KvmVerdict::Emulated {
                    ns_per_instruction: 950.4,
                },
                "(950 ns per instruction)",
            ),
            (
                KvmVerdict::Forbidden(permissions()),
                "group `kvm`, mode 0660",
            ),
            (
                KvmVerdict::Failed {
                    step: ProbeStep::CreateVm,
                    errno: Errno::ENOMEM as i32,
                },
                "creating a virtual machine failed (Out of memory)",
            ),
            (
                KvmVerdict::Unresponsive {
                    step: ProbeStep::Run,
                },
                "running a virtual processor did not end in time",
            ),
        ];
        for (verdict, expected) in cases {
            let reason = verdict.reason();
            assert!(reason.contains(expected), "{verdict:?}: {reason}");
            assert!(!reason.ends_with('.') && !reason.contains('\n'), "{reason}");
        }
    }

    #[test]
    fn verdict_round_trips_through_json() {
        for verdict in [
            KvmVerdict::Usable {
                ns_per_instruction: 0.25,
            },
            KvmVerdict::Forbidden(permissions()),
            KvmVerdict::Unresponsive {
                step: ProbeStep::SetMemory,
            },
        ] {
            let text = serde_json::to_string(&verdict).unwrap();
            assert_eq!(
                serde_json::from_str::<KvmVerdict>(&text).unwrap(),
                verdict,
                "{text}"
            );
        }
    }
}
