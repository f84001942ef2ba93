//! Turns the description of a machine into QEMU's command line, as a pure function.
//!
//! The option names are those of qemu(1) from QEMU 7.2 to 10.0. No other module writes arguments of
//! a machine.

use std::path::PathBuf;

use sandbox_spec::Accelerator;

use crate::arch;

/// The name of the virtio-serial port on which the guest reports its events.
pub const EVENT_PORT: &str = "org.sandbox.guest.0";

/// The descriptor that connects QEMU's NIC to the gateway.
pub const NETWORK_DESCRIPTOR: i32 = 3;

/// A host directory that QEMU shares with the guest over 9p.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NinePDevice {
    /// The tag that the guest mounts: `[A-Za-z0-9]`, at most 31 bytes.
    pub tag: String,
    /// The host directory.
    pub directory: PathBuf,
    /// The value of `security_model=`: `mapped-xattr` or `none`.
    pub security_model: &'static str,
    /// Whether QEMU rejects the guest's writes.
    pub read_only: bool,
}

/// The guest's NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkCard {
    /// The MAC address.
    pub address: [u8; 6],
    /// The MTU in bytes, which the guest's driver adopts.
    pub mtu: u16,
}

/// The location of the guest's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// Anonymous memory of QEMU.
    Anonymous,
    /// A file that becomes part of a template. The guest writes into it.
    Template(PathBuf),
    /// A template's file, mapped privately. All guests of the template share the pages that they
    /// have not written to.
    Restored(PathBuf),
}

/// The origin of the guest's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A kernel boots.
    Boot {
        /// An ELF `vmlinux` with a PVH note, or a bzImage.
        kernel: PathBuf,
        /// The initial RAM disk.
        initrd: PathBuf,
        /// The kernel's command line.
        command_line: String,
    },
    /// QEMU waits for a saved state. The guest stays paused until it is continued.
    Restore,
}

/// The offset of the guest's memory in a template's file: 1 TiB, after a hole. The offset
/// distinguishes punching a hole into the memory from punching one into a disk (see
/// [`crate::discard_filter`]).
pub const MEMORY_OFFSET: u64 = 1 << 40;

/// A machine, with every value that reaches QEMU's command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The QEMU program.
    pub program: PathBuf,
    /// The value of `-name`, which process lists show.
    pub name: String,
    /// The accelerator of the processors.
    pub accelerator: Accelerator,
    /// Whether the guest's processor has hardware virtualization.
    pub nested_virtualization: bool,
    /// The number of virtual processors.
    pub cpus: u32,
    /// The size of the memory in bytes, a multiple of 1 MiB.
    pub memory_bytes: u64,
    /// The location of the memory.
    pub memory: Memory,
    /// The origin of the guest's state.
    pub origin: Origin,
    /// The root disk, in qcow2. It is discarded with QEMU.
    pub disk: PathBuf,
    /// The NIC, whose frames pass through [`NETWORK_DESCRIPTOR`].
    pub network_card: NetworkCard,
    /// The shared host directories.
    pub shares: Vec<NinePDevice>,
    /// Files that hold one SMBIOS type 11 string each.
    pub smbios_strings: Vec<PathBuf>,
    /// The firmware configuration items: name and file.
    pub firmware_files: Vec<(String, PathBuf)>,
    /// The socket on which QEMU serves QMP.
    pub qmp_socket: PathBuf,
    /// The socket on which QEMU serves the serial console.
    pub console_socket: PathBuf,
    /// The file to which QEMU appends the console's output.
    pub console_log: PathBuf,
    /// The socket on which QEMU serves the guest's events.
    pub event_socket: PathBuf,
    /// The socket on which QEMU serves the guest agent's port.
    pub agent_port_socket: PathBuf,
    /// The file to which QEMU writes its pid.
    pub pid_file: PathBuf,
}

impl Machine {
    /// Returns the complete command line, which begins with the program.
    pub fn to_argv(&self) -> Vec<String> {
        let mut argv = Argv(vec![text(&self.program)]);
        self.base(&mut argv);
        self.origin(&mut argv);
        self.sockets(&mut argv);
        self.devices(&mut argv);
        for path in &self.smbios_strings {
            argv.option("-smbios", format!("type=11,path={}", escaped(path)));
        }
        for (name, path) in &self.firmware_files {
            argv.option("-fw_cfg", format!("name={name},file={}", escaped(path)));
        }
        argv.0
    }

    fn base(&self, argv: &mut Argv) {
        argv.option("-name", format!("{},process={}", self.name, self.name));
        argv.flag("-nodefaults");
        argv.flag("-no-user-config");
        argv.option("-display", "none");
        // A QEMU that its guest has taken over can run no program and gain no privilege.
        argv.option(
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        );
        let accelerator = match self.accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg,thread=multi",
        };
        match self.memory {
            Memory::Anonymous => argv.option("-machine", arch::MACHINE),
            _ => argv.option(
                "-machine",
                format!("{},memory-backend=memory", arch::MACHINE),
            ),
        }
        for (name, value) in arch::MACHINE_OPTIONS {
            argv.option(name, value);
        }
        argv.option("-accel", accelerator);
        argv.option(
            "-cpu",
            arch::cpu_model(self.accelerator, self.nested_virtualization),
        );
        argv.option("-smp", self.cpus.to_string());
        argv.option("-m", format!("{}M", self.memory_bytes >> 20));
        self.memory(argv);
        argv.flag("-no-reboot");
        argv.option("-pidfile", text(&self.pid_file));
    }

    fn memory(&self, argv: &mut Argv) {
        let (path, share) = match &self.memory {
            Memory::Anonymous => return,
            Memory::Template(path) => (path, "on"),
            Memory::Restored(path) => (path, "off"),
        };
        argv.option(
            "-object",
            format!(
                "memory-backend-file,id=memory,size={}M,mem-path={},offset={MEMORY_OFFSET},share={share}",
                self.memory_bytes >> 20,
                escaped(path)
            ),
        );
        // Reports to the kernel that it is a copy, so that it reseeds its random generator.
        argv.device("vmgenid,guid=auto");
    }

    fn origin(&self, argv: &mut Argv) {
        match &self.origin {
            Origin::Boot {
                kernel,
                initrd,
                command_line,
            } => {
                argv.option("-kernel", text(kernel));
                argv.option("-initrd", text(initrd));
                argv.option("-append", command_line.clone());
            }
            Origin::Restore => {
                argv.option("-incoming", "defer");
                argv.flag("-S");
            }
        }
    }

    fn sockets(&self, argv: &mut Argv) {
        argv.option(
            "-chardev",
            format!(
                "socket,id=qmp,path={},server=on,wait=off",
                escaped(&self.qmp_socket)
            ),
        );
        argv.option("-mon", "chardev=qmp,mode=control");
        argv.option(
            "-chardev",
            format!(
                "socket,id=console,path={},server=on,wait=off,logfile={},logappend=on",
                escaped(&self.console_socket),
                escaped(&self.console_log)
            ),
        );
        argv.option("-serial", "chardev:console");
    }

    fn devices(&self, argv: &mut Argv) {
        // The disk is discarded with QEMU, so nothing on it needs to survive a crash of the host,
        // and QEMU can ignore flushes.
        argv.option(
            "-blockdev",
            format!(
                "driver=qcow2,node-name=root,discard=unmap,detect-zeroes=unmap,cache.no-flush=on,\
                 file.driver=file,file.filename={},file.discard=unmap,file.cache.no-flush=on",
                escaped(&self.disk)
            ),
        );
        argv.device("virtio-blk-pci,drive=root");
        argv.option(
            "-netdev",
            format!("stream,id=net,server=off,addr.type=fd,addr.str={NETWORK_DESCRIPTOR}"),
        );
        // The empty `romfile` drops the option ROM for network boot.
        argv.device(&format!(
            "virtio-net-pci,netdev=net,mac={},host_mtu={},romfile=",
            hardware_address(self.network_card.address),
            self.network_card.mtu
        ));
        argv.option("-object", "rng-random,id=rng,filename=/dev/urandom");
        argv.device("virtio-rng-pci,rng=rng");
        argv.device("virtio-balloon-pci,free-page-reporting=on,deflate-on-oom=on");
        argv.device("virtio-serial-pci");
        argv.option(
            "-chardev",
            format!(
                "socket,id=events,path={},server=on,wait=off",
                escaped(&self.event_socket)
            ),
        );
        argv.device(&format!("virtserialport,chardev=events,name={EVENT_PORT}"));
        argv.option(
            "-chardev",
            format!(
                "socket,id=agent,path={},server=on,wait=off",
                escaped(&self.agent_port_socket)
            ),
        );
        argv.device(&format!(
            "virtserialport,chardev=agent,name={}",
            sandbox_protocol::agent::PORT_NAME
        ));
        for share in &self.shares {
            let NinePDevice {
                tag,
                directory,
                security_model,
                read_only,
            } = share;
            let mut fsdev = format!(
                "local,id={tag},path={},security_model={security_model},multidevs=remap",
                escaped(directory)
            );
            if *security_model == "mapped-xattr" {
                // The host's other users can read the files that the guest creates, as with the
                // usual umask.
                fsdev.push_str(",fmode=0644,dmode=0755");
            }
            if *read_only {
                fsdev.push_str(",readonly=on");
            }
            argv.option("-fsdev", fsdev);
            argv.device(&format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
        }
    }
}

struct Argv(Vec<String>);

impl Argv {
    fn flag(&mut self, name: &str) {
        self.0.push(name.into());
    }

    fn option(&mut self, name: &str, value: impl Into<String>) {
        self.0.push(name.into());
        self.0.push(value.into());
    }

    fn device(&mut self, value: &str) {
        self.option("-device", value);
    }
}

/// Returns a MAC address in QEMU's notation.
fn hardware_address(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// Returns a path for QEMU's option parser, with doubled commas.
fn escaped(path: &std::path::Path) -> String {
    text(path).replace(',', ",,")
}

fn text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            program: "/usr/bin/qemu-system-x86_64".into(),
            name: "box".into(),
            accelerator: Accelerator::Kvm,
            nested_virtualization: false,
            cpus: 2,
            memory_bytes: 3 << 29,
            memory: Memory::Anonymous,
            origin: Origin::Boot {
                kernel: "/i/vmlinux".into(),
                initrd: "/s/initrd".into(),
                command_line: "root=/dev/vda quiet".into(),
            },
            disk: "/s/overlay.qcow2".into(),
            network_card: NetworkCard {
                address: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
                mtu: 65520,
            },
            shares: vec![
                NinePDevice {
                    tag: "workspace".into(),
                    directory: "/home/a/one, two".into(),
                    security_model: "mapped-xattr",
                    read_only: false,
                },
                NinePDevice {
                    tag: "share1".into(),
                    directory: "/data".into(),
                    security_model: "passthrough",
                    read_only: true,
                },
            ],
            smbios_strings: vec!["/s/seed/a,b".into()],
            firmware_files: vec![("opt/x".into(), "/s/seed/x".into())],
            qmp_socket: "/s/qmp.sock".into(),
            console_socket: "/s/console.sock".into(),
            console_log: "/s/console.log".into(),
            event_socket: "/s/events.sock".into(),
            agent_port_socket: "/s/agent-port.sock".into(),
            pid_file: "/s/qemu.pid".into(),
        }
    }

    /// Returns the values of an option, in order.
    fn values<'a>(argv: &'a [String], option: &str) -> Vec<&'a str> {
        argv.windows(2)
            .filter(|pair| pair[0] == option)
            .map(|pair| pair[1].as_str())
            .collect()
    }

    #[test]
    fn argv_doubles_commas_in_paths() {
        let argv = machine().to_argv();
        assert_eq!(
            values(&argv, "-fsdev"),
            [
                "local,id=workspace,path=/home/a/one,, two,security_model=mapped-xattr,multidevs=remap,fmode=0644,dmode=0755",
                "local,id=share1,path=/data,security_model=passthrough,multidevs=remap,readonly=on",
            ]
        );
        assert_eq!(values(&argv, "-smbios"), ["type=11,path=/s/seed/a,,b"]);
        assert_eq!(values(&argv, "-fw_cfg"), ["name=opt/x,file=/s/seed/x"]);
    }

    #[test]
    fn argv_has_only_virtio_devices_and_no_network_boot_rom() {
        let argv = machine().to_argv();
        for device in values(&argv, "-device") {
            assert!(device.starts_with("virt"), "{device}");
            assert!(!device.starts_with("virtio-net") || device.contains("romfile="));
        }
        assert!(argv.contains(&"-nodefaults".to_string()));
        assert!(argv.contains(&"-no-user-config".to_string()));
    }

    #[test]
    fn argv_confines_qemu_and_gives_it_no_network() {
        let argv = machine().to_argv();
        let [sandbox] = values(&argv, "-sandbox")[..] else {
            panic!("one -sandbox");
        };
        for denied in ["elevateprivileges", "spawn", "resourcecontrol", "obsolete"] {
            assert!(sandbox.contains(&format!("{denied}=deny")), "{sandbox}");
        }
        assert_eq!(
            values(&argv, "-netdev"),
            ["stream,id=net,server=off,addr.type=fd,addr.str=3"]
        );
    }

    #[test]
    fn restored_machine_has_the_devices_of_its_template_and_no_kernel() {
        let template = Machine {
            memory: Memory::Template("/t/ram".into()),
            ..machine()
        }
        .to_argv();
        let restored = Machine {
            memory: Memory::Restored("/t/ram".into()),
            origin: Origin::Restore,
            ..machine()
        }
        .to_argv();
        for option in ["-device", "-machine", "-cpu", "-smp", "-m"] {
            assert_eq!(values(&template, option), values(&restored, option));
        }
        assert!(values(&restored, "-kernel").is_empty());
        assert!(values(&template, "-object")[0].ends_with("share=on"));
        assert!(values(&restored, "-object")[0].ends_with("share=off"));
        assert!(!values(&machine().to_argv(), "-machine")[0].contains("memory-backend"));
    }

    #[test]
    fn argv_contains_memory_size_and_accelerator() {
        let kvm = machine().to_argv();
        assert_eq!(values(&kvm, "-m"), ["1536M"]);
        assert_eq!(values(&kvm, "-cpu"), ["host,vmx=off,svm=off"]);
        let tcg = Machine {
            accelerator: Accelerator::Tcg,
            ..machine()
        };
        assert_eq!(values(&tcg.to_argv(), "-accel"), ["tcg,thread=multi"]);
    }

    #[test]
    fn argv_hides_hardware_virtualization_unless_it_is_nested() {
        for (accelerator, hidden) in [
            (Accelerator::Kvm, &["vmx=off", "svm=off"][..]),
            (Accelerator::Tcg, &["svm=off"]),
        ] {
            for nested_virtualization in [false, true] {
                let argv = Machine {
                    accelerator,
                    nested_virtualization,
                    ..machine()
                }
                .to_argv();
                let model = values(&argv, "-cpu")[0];
                for feature in hidden {
                    assert_ne!(model.contains(feature), nested_virtualization, "{model}");
                }
            }
        }
    }
}
