//! From the description of a machine to QEMU's command line: a pure function.
//!
//! Option names are those of qemu(1) of QEMU 7.2 to 10.0. Nothing else in this
//! crate writes a QEMU argument.

use std::path::PathBuf;

use sandbox_spec::Accelerator;

/// The name of the virtio-serial port on which the guest tells its events.
pub const EVENT_PORT: &str = "org.sandbox.guest.0";

/// The descriptor by which QEMU reaches the guest's gateway.
pub const NETWORK_DESCRIPTOR: i32 = 3;

/// One host directory offered to the guest over 9p.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NinePDevice {
    /// The tag that the guest mounts; `[A-Za-z0-9]`, at most 31 bytes.
    pub tag: String,
    /// The host directory.
    pub directory: PathBuf,
    /// `security_model=`: `mapped-xattr` or `none`.
    pub security_model: &'static str,
    /// Whether QEMU refuses the guest's writes.
    pub read_only: bool,
}

/// The guest's NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkCard {
    /// Its hardware address.
    pub address: [u8; 6],
    /// The largest IP packet in bytes, which the guest's driver takes over.
    pub mtu: u16,
}

/// Where the guest's memory lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// In QEMU's own.
    Anonymous,
    /// In a file that becomes part of a template: what the guest writes goes
    /// into it.
    Template(PathBuf),
    /// What the guest writes is QEMU's own; the rest is the file's, shared
    /// with every other QEMU that has it as its memory.
    Restored(PathBuf),
}

/// How the guest's state comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A kernel starts.
    Boot {
        /// An ELF `vmlinux` with a PVH note, or a bzImage.
        kernel: PathBuf,
        /// The initial RAM disk.
        initrd: PathBuf,
        /// The kernel's command line.
        command_line: String,
    },
    /// QEMU waits for a saved state, and the guest for being continued.
    Restore,
}

/// Where the guest's memory begins in a template's file: 1 TiB, the rest of
/// the file being a hole. So a request to punch a hole into the memory is told
/// from one to punch a hole into a disk; see [`crate::discard_filter`].
pub const MEMORY_OFFSET: u64 = 1 << 40;

/// The machine type and what is left out of it: no device of a PC but those
/// that Linux cannot do without, since each costs the guest's kernel time to
/// find. If QEMU crashes, the guest's memory, gigabytes that may hold secrets, is
/// not part of what the host keeps of it (core(5)).
pub const MACHINE: &str = "q35,usb=off,sata=off,smbus=off,i8042=off,vmport=off,smm=off,hpet=off,graphics=off,dump-guest-core=off";

/// The processor's model, as `-cpu` takes it.
pub const fn cpu_model(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "host",
        // Nothing in the guest runs guests of its own by emulating SVM in an
        // emulation, and a kernel that sees it loads code for it. With ERMS and
        // FSRM it clears and copies memory by single bytes, which are fast in
        // hardware and an emulated loop here.
        Accelerator::Tcg => "max,svm=off,erms=off,fsrm=off",
    }
}

/// A machine with everything that reaches QEMU's command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The QEMU program.
    pub program: PathBuf,
    /// `-name`, shown in process lists.
    pub name: String,
    /// How the processors run.
    pub accelerator: Accelerator,
    /// Number of virtual processors.
    pub cpus: u32,
    /// Size of the memory in bytes, a multiple of 1 MiB.
    pub memory_bytes: u64,
    /// Where that lies.
    pub memory: Memory,
    /// How the guest's state comes about.
    pub origin: Origin,
    /// The root disk, qcow2; everything written to it is thrown away.
    pub disk: PathBuf,
    /// The NIC, whose frames go by [`NETWORK_DESCRIPTOR`].
    pub network_card: NetworkCard,
    /// Host directories.
    pub shares: Vec<NinePDevice>,
    /// Files that hold one SMBIOS type 11 string each.
    pub smbios_strings: Vec<PathBuf>,
    /// Firmware configuration items: (name, file).
    pub firmware_files: Vec<(String, PathBuf)>,
    /// Where QEMU listens for QMP.
    pub qmp_socket: PathBuf,
    /// Where QEMU listens for the serial console.
    pub console_socket: PathBuf,
    /// Where QEMU appends what the console prints.
    pub console_log: PathBuf,
    /// Where QEMU listens for the reader of the guest's events.
    pub event_socket: PathBuf,
    /// Where QEMU listens for the guest agent's peer.
    pub agent_port_socket: PathBuf,
    /// Where QEMU writes its pid.
    pub pid_file: PathBuf,
}

impl Machine {
    /// The complete command line, the program first.
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
        // Everything that a QEMU taken over by its guest would like to do next.
        argv.option(
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        );
        let accelerator = match self.accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg,thread=multi",
        };
        match self.memory {
            Memory::Anonymous => argv.option("-machine", MACHINE),
            _ => argv.option("-machine", format!("{MACHINE},memory-backend=memory")),
        }
        // An option ROM and a patcher of guests' code, for the task priorities of
        // 32-bit Windows.
        argv.option("-global", "apic-common.vapic=off");
        argv.option("-accel", accelerator);
        argv.option("-cpu", cpu_model(self.accelerator));
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
        // Tells the kernel that it is a copy: it seeds its random generator anew.
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
        // The disk lives as long as QEMU does, so nothing needs to survive a
        // crash of the host: flushes are not passed on.
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
        // An empty romfile: there is nothing to boot from the network.
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
                // What the guest creates is readable on the host by others, as
                // the files of an ordinary umask are.
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

/// An address of a NIC as QEMU takes it.
fn hardware_address(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// A path as QEMU's option parser wants it: commas are doubled.
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

    /// The values of an option, in order.
    fn values<'a>(argv: &'a [String], option: &str) -> Vec<&'a str> {
        argv.windows(2)
            .filter(|pair| pair[0] == option)
            .map(|pair| pair[1].as_str())
            .collect()
    }

    #[test]
    fn paths_with_commas_stay_one_value() {
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
    fn the_guest_gets_virtio_devices_only_and_no_boot_rom() {
        let argv = machine().to_argv();
        for device in values(&argv, "-device") {
            assert!(device.starts_with("virt"), "{device}");
            assert!(!device.starts_with("virtio-net") || device.contains("romfile="));
        }
        assert!(argv.contains(&"-nodefaults".to_string()));
        assert!(argv.contains(&"-no-user-config".to_string()));
    }

    #[test]
    fn qemu_is_confined_and_reaches_no_network_itself() {
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
    fn a_restored_machine_has_the_devices_of_its_template_and_no_kernel() {
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
    fn sizes_and_accelerators_are_passed_on() {
        let kvm = machine().to_argv();
        assert_eq!(values(&kvm, "-m"), ["1536M"]);
        assert_eq!(values(&kvm, "-cpu"), ["host"]);
        let tcg = Machine {
            accelerator: Accelerator::Tcg,
            ..machine()
        };
        assert_eq!(values(&tcg.to_argv(), "-accel"), ["tcg,thread=multi"]);
    }
}
