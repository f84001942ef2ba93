//! The tests' image as any other tool would boot it: Debian's kernel image and
//! initramfs, a complete PC, and the default target.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sandbox_spec::Accelerator;
use sandbox_test_support::StockMachine;

use super::{Host, Terminal, image};

/// The shell prompt of `dev` on the console.
const PROMPT: &str = "dev@localhost:~$ ";

/// The guest's mount point of the directory that it shares with the test.
const MOUNT_POINT: &str = "/mnt";

/// A running machine. Dropping it kills it.
pub(crate) struct Stock {
    console: Terminal,
    directory: PathBuf,
}

impl Stock {
    /// Starts the machine without waiting for its boot.
    pub(crate) fn start(host: &Host) -> Self {
        let boot = boot_directory(host);
        let directory = host.root().join("stock");
        fs::create_dir(&directory).unwrap();
        let disk = host.root().join("stock.qcow2");
        sandbox_qemu::overlay::create(&disk, &base_disk(), 20 << 30).unwrap();
        let mut command = StockMachine {
            accelerator: Accelerator::Tcg,
            kernel: &boot.join("vmlinuz"),
            initrd: &boot.join("initrd.img"),
            // `rw`, since the image has no fstab by which systemd would remount the root.
            command_line: "root=/dev/vda rw console=ttyS0 quiet",
            disk: &disk,
        }
        .command();
        // The devices that a sandbox also has, and a share for the test.
        command
            .args(["-netdev", "user,id=net"])
            .args(["-device", "virtio-net-pci,netdev=net"])
            .args(["-device", "virtio-balloon-pci"])
            .args(["-device", "virtio-serial-pci"]);
        for name in ["org.sandbox.guest.0", "org.sandbox.agent.0"] {
            command
                .arg("-chardev")
                .arg(format!("null,id={name}"))
                .arg("-device")
                .arg(format!("virtserialport,chardev={name},name={name}"));
        }
        command
            .arg("-fsdev")
            .arg(format!(
                "local,id=share,path={},security_model=mapped-xattr",
                directory.display()
            ))
            .args(["-device", "virtio-9p-pci,fsdev=share,mount_tag=share"])
            .args(["-chardev", "stdio,id=console,signal=off"])
            .args(["-serial", "chardev:console"])
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(host.root());
        Self {
            console: Terminal::open(&command),
            directory,
        }
    }

    /// Returns the host's directory that is mounted at [`MOUNT_POINT`] in the guest.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits for the login on the console, and mounts the shared directory.
    #[track_caller]
    pub(crate) fn log_in(&mut self) {
        self.console.expect(PROMPT);
        self.run(&format!(
            "sudo mount -t 9p -o trans=virtio,version=9p2000.L share {MOUNT_POINT}"
        ));
    }

    /// Types a command on the console. The command must succeed.
    #[track_caller]
    pub(crate) fn run(&mut self, command: &str) {
        self.console.send(&format!("{command}; echo status: $?\r"));
        self.console.expect("status: 0");
        self.console.expect(PROMPT);
    }
}

fn base_disk() -> PathBuf {
    let digest = image::metadata()["content"]["files"]["disk"]["file"]["digest"].clone();
    let (algorithm, hex) = digest.as_str().unwrap().split_once(':').unwrap();
    image::store().join("blobs").join(algorithm).join(hex)
}

/// Returns a directory with Debian's kernel image and an initramfs. An image has no
/// initramfs, so a sandbox of the image makes one at the first use.
fn boot_directory(host: &Host) -> PathBuf {
    let parent = image::store().parent().unwrap();
    let digest = image::metadata()["digest"]
        .as_str()
        .unwrap()
        .replace(':', "-");
    let directory = parent.join(format!("stock-{digest}"));
    let lock = File::create(parent.join("stock.lock")).unwrap();
    lock.lock().unwrap();
    if !directory.exists() {
        eprintln!("making an initramfs in {}", directory.display());
        let release = "$(uname -r)";
        let script = format!(
            "sudo mkinitramfs -o /var/tmp/initrd.img {release}\n\
             sudo install -m 644 /var/tmp/initrd.img initrd.img\n\
             sudo install -m 644 /boot/vmlinuz-{release} vmlinuz"
        );
        host.run(["run", "--", "sh", "-euc", &script]).success();
        let partial = parent.join("stock.partial");
        fs::create_dir_all(&partial).unwrap();
        for name in ["initrd.img", "vmlinuz"] {
            fs::copy(host.project().join(name), partial.join(name)).unwrap();
            fs::remove_file(host.project().join(name)).unwrap();
        }
        fs::rename(partial, &directory).unwrap();
    }
    directory
}
