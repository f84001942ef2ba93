//! The comparison: a Debian from a usual recipe, started by plain QEMU and polled over SSH
//! until it answers.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sandbox_test_support::StockMachine;

use super::support::{Result, accelerator, time};

/// The interval at which the usual recipe polls sshd.
const POLL: Duration = Duration::from_secs(2);

/// The packages of a Debian 13 cloud image that affect its start.
const PACKAGES: &str = "systemd-sysv,dbus,libpam-systemd,udev,systemd-resolved,systemd-timesyncd,\
    openssh-server,sudo,linux-image-amd64,initramfs-tools,cloud-init,netplan.io,iproute2,\
    ca-certificates,procps,python3,locales,less,apparmor,unattended-upgrades,cron";

/// A stored stock guest.
pub(super) struct Guest {
    directory: PathBuf,
}

impl Guest {
    /// Returns the guest in `directory`, and builds a missing one.
    pub(super) fn obtain(directory: PathBuf) -> Result<Self> {
        let guest = Self { directory };
        if !guest.file("stock.qcow2").exists() {
            eprintln!("building the stock guest");
            guest.build()?;
        }
        Ok(guest)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn build(&self) -> Result<()> {
        fs::create_dir_all(&self.directory)?;
        let key = self.file("id_ed25519");
        if !key.exists() {
            run(Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&key))?;
        }
        let public_key = fs::read_to_string(key.with_extension("pub"))?;
        let root = self.file("root");
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        let hook = self.file("hook");
        fs::write(&hook, hook_script(&self.directory, public_key.trim()))?;
        run(Command::new("chmod").arg("+x").arg(&hook))?;
        run(Command::new("mmdebstrap")
            .args(["--variant=minbase", "--format=directory", "--quiet"])
            .arg(format!("--include={}", PACKAGES.replace(' ', "")))
            .arg(format!("--customize-hook={}", hook.display()))
            .arg("trixie")
            .arg(&root))?;
        run(Command::new("mkfs.ext4")
            .args([
                "-q",
                "-F",
                "-E",
                "lazy_itable_init=0,lazy_journal_init=0",
                "-d",
            ])
            .args([&root, &self.file("stock.raw")])
            .arg("4G"))?;
        fs::remove_dir_all(&root)?;
        let partial = self.file("partial.qcow2");
        run(Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "qcow2"])
            .args([&self.file("stock.raw"), &partial]))?;
        fs::remove_file(self.file("stock.raw"))?;
        fs::rename(partial, self.file("stock.qcow2"))?;
        Ok(())
    }

    /// Starts the guest and tries SSH every two seconds until `true` has run in it.
    pub(super) fn time_to_first_ssh(&self, patience: Duration) -> Result<Duration> {
        let overlay = self.file("overlay.qcow2");
        run(Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
            .arg(self.file("stock.qcow2"))
            .arg(&overlay))?;
        // The port was free a moment ago, and nothing else in this bench takes ports.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let started = Instant::now();
        let mut qemu = Running(self.qemu(&overlay, port).spawn()?);
        loop {
            std::thread::sleep(POLL);
            if self.ssh(port).status()?.success() {
                return Ok(started.elapsed());
            }
            if let Some(status) = qemu.0.try_wait()? {
                return Err(format!("the stock guest's QEMU ended with {status}").into());
            }
            if started.elapsed() > patience {
                return Err("the stock guest did not answer in time".into());
            }
        }
    }

    fn qemu(&self, overlay: &Path, port: u16) -> Command {
        let machine = StockMachine {
            accelerator: accelerator(),
            kernel: &self.file("vmlinuz"),
            initrd: &self.file("initrd.img"),
            command_line: "root=/dev/vda ro console=ttyS0",
            disk: overlay,
        };
        let mut command = machine.command();
        command
            .arg("-netdev")
            .arg(format!("user,id=n,hostfwd=tcp:127.0.0.1:{port}-:22"))
            .args(["-device", "virtio-net-pci,netdev=n"])
            .args(["-serial", "null"]);
        command
    }

    fn ssh(&self, port: u16) -> Command {
        let mut command = Command::new("ssh");
        command
            .args([
                "-F",
                "none",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .args([
                "-o",
                "BatchMode=yes",
                "-o",
                "ConnectTimeout=2",
                "-o",
                "LogLevel=QUIET",
                "-i",
            ])
            .arg(self.file("id_ed25519"))
            .args(["-p", &port.to_string(), "debian@127.0.0.1", "true"])
            .stdin(Stdio::null());
        command
    }
}

/// A process that is killed when this is dropped.
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the hook of mmdebstrap, which copies kernel and initrd out of the new root and
/// writes the data of cloud-init into NoCloud's directory.
fn hook_script(directory: &Path, public_key: &str) -> String {
    format!(
        r#"#!/bin/sh
set -eu
root=$1
out='{directory}'
echo '/dev/vda / ext4 defaults 0 1' > "$root/etc/fstab"
seed=$root/var/lib/cloud/seed/nocloud
mkdir -p "$seed"
printf 'instance-id: stock\nlocal-hostname: stock\n' > "$seed/meta-data"
cat > "$seed/user-data" <<'END'
#cloud-config
users:
- name: debian
  sudo: ALL=(ALL) NOPASSWD:ALL
  shell: /bin/bash
  ssh_authorized_keys: ['{public_key}']
END
cp "$root"/boot/vmlinuz-* "$out/vmlinuz"
cp "$root"/boot/initrd.img-* "$out/initrd.img"
"#,
        directory = directory.display()
    )
}

fn run(command: &mut Command) -> Result<()> {
    time(command).map(drop)
}
