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
    /// `security_model=`: `mapped-xattr` or `passthrough`.
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
        let (accelerator, machine, cpu) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "q35", "host"),
            // The high-precision event timer is only ever slower than the
            // alternatives that Linux finds, and emulating it costs.
            Accelerator::Tcg => ("tcg,thread=multi", "q35", "max"),
        };
        argv.option("-machine", format!("{machine},hpet=off,vmport=off"));
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
