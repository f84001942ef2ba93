//! From the description of a machine to QEMU's command line: a pure function.
//!
//! Option names are those of qemu(1) of QEMU 7.2 to 10.0. Nothing else in this
//! crate writes a QEMU argument.

use std::path::PathBuf;

use super::accelerator::Accelerator;

/// The name of the virtio-serial port on which the guest tells its events.
pub const EVENT_PORT: &str = "org.sandbox.guest.0";

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
    /// The kernel: an ELF `vmlinux` with a PVH note, or a bzImage.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: PathBuf,
    /// The kernel's command line.
    pub kernel_command_line: String,
    /// The root disk, qcow2; everything written to it is thrown away.
    pub disk: PathBuf,
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
        self.boot(&mut argv);
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
        let (accelerator, cpu) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            // Nothing in the guest runs guests of its own by emulating SVM in
            // an emulation, and a kernel that sees it loads code for it.
            Accelerator::Tcg => ("tcg,thread=multi", "max,svm=off"),
        };
        // No device of a PC but those that Linux cannot do without: each
        // costs the guest's kernel time to find.
        argv.option(
            "-machine",
            "q35,usb=off,sata=off,smbus=off,i8042=off,vmport=off,smm=off,hpet=off,graphics=off",
        );
        argv.option("-accel", accelerator);
        argv.option("-cpu", cpu);
        argv.option("-smp", self.cpus.to_string());
        argv.option("-m", format!("{}M", self.memory_bytes >> 20));
        argv.flag("-no-reboot");
        argv.option("-pidfile", text(&self.pid_file));
    }

    fn boot(&self, argv: &mut Argv) {
        argv.option("-kernel", text(&self.kernel));
        argv.option("-initrd", text(&self.initrd));
        argv.option("-append", self.kernel_command_line.clone());
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
        argv.option("-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:0-:22");
        // An empty romfile: there is nothing to boot from the network.
        argv.device("virtio-net-pci,netdev=net,romfile=");
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
            agent_protocol::PORT_NAME
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
            kernel: "/i/vmlinux".into(),
            initrd: "/s/initrd".into(),
            kernel_command_line: "root=/dev/vda quiet".into(),
            disk: "/s/overlay.qcow2".into(),
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
    fn qemu_is_confined_and_its_port_is_the_loopbacks() {
        let argv = machine().to_argv();
        let [sandbox] = values(&argv, "-sandbox")[..] else {
            panic!("one -sandbox");
        };
        for denied in ["elevateprivileges", "spawn", "resourcecontrol", "obsolete"] {
            assert!(sandbox.contains(&format!("{denied}=deny")), "{sandbox}");
        }
        assert_eq!(
            values(&argv, "-netdev"),
            ["user,id=net,hostfwd=tcp:127.0.0.1:0-:22"]
        );
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
