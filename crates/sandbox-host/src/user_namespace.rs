//! A user namespace that shows the caller's own files under another owner.
//!
//! 9p passes the host's numeric owners to the guest, where the user `dev` has
//! uid 1000. A QEMU that runs in a user namespace which maps the caller to
//! 1000 sees, and so passes on, exactly the caller's files as `dev`'s. A map
//! of one id to oneself needs no privilege (user_namespaces(7)); and a QEMU
//! started by root loses every capability on the way.

use std::io;

use nix::sched::{CloneFlags, unshare};

/// The maps to write once inside the new namespace.
#[derive(Debug)]
pub struct IdentityMap {
    uid_map: String,
    gid_map: String,
}

impl IdentityMap {
    /// Maps the calling user and group to `inside`.
    pub fn of_caller(inside: u32) -> Self {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        Self {
            uid_map: format!("{inside} {uid} 1\n"),
            gid_map: format!("{inside} {gid} 1\n"),
        }
    }

    /// Returns a map that every kernel refuses, for tests of hosts without user namespaces.
    #[doc(hidden)]
    pub fn malformed() -> Self {
        Self {
            uid_map: "-\n".to_owned(),
            gid_map: "-\n".to_owned(),
        }
    }

    /// Moves the calling process into a new user namespace with these maps,
    /// and there into a network namespace without any network.
    /// It must have one thread. Only system calls are made, so that it can run
    /// between `fork` and `exec`. Many settings can forbid it
    /// (`user.max_user_namespaces`, AppArmor's restriction on Ubuntu, a
    /// container's seccomp filter).
    pub fn enter(&self) -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWUSER)?;
        write_once(c"/proc/self/setgroups", b"deny")?;
        write_once(c"/proc/self/uid_map", self.uid_map.as_bytes())?;
        write_once(c"/proc/self/gid_map", self.gid_map.as_bytes())?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
    }
}

fn write_once(path: &std::ffi::CStr, content: &[u8]) -> io::Result<()> {
    let file = rustix::fs::open(
        path,
        rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    if rustix::io::write(&file, content)? == content.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}
