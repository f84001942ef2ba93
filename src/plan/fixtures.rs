//! A host and an image for tests of plans.

use super::{BootImage, HostSetup};
use sandbox_host::directories::Directories;
use sandbox_spec::{Accelerator, Digest};

pub(super) fn directories() -> Directories {
    Directories {
        state: "/home/a/.cache/sandbox".into(),
        data: "/home/a/.local/share/sandbox".into(),
        config: "/home/a/.config/sandbox".into(),
        home: "/home/a".into(),
        runtime: "/run/user/1".into(),
    }
}

pub(super) fn image() -> BootImage {
    BootImage {
        name: "debian-13".parse().expect("a valid name"),
        digest: Some(Digest::of(b"image")),
        disk: "/blobs/disk".into(),
        disk_bytes: 2 << 30,
        kernel: "/blobs/kernel".into(),
        modules: "/blobs/modules".into(),
        command_line: "root=/dev/vda".into(),
    }
}

pub(super) fn host() -> HostSetup {
    HostSetup {
        qemu: "/usr/bin/qemu-system-x86_64".into(),
        accelerator: Accelerator::Tcg,
        home: "/home/a".into(),
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        agent_keys: vec!["ssh-ed25519 AGENT".into()],
    }
}
