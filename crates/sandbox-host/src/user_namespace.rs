//! A user namespace in which the caller's files have another owner.
//!
//! 9p passes the host's numeric owners to the guest, where the user `dev` has uid 1000. QEMU runs
//! in a user namespace that maps the caller to 1000, so the guest sees the caller's files as
//! `dev`'s. A map of one's own id needs no privilege (user_namespaces(7)). A QEMU started by root
//! has no capability left.

use std::io;

use nix::sched::{CloneFlags, unshare};

/// The id maps of a new user namespace.
#[derive(Debug)]
pub struct IdentityMap {
    uid_map: String,
    gid_map: String,
}

impl IdentityMap {
    /// Returns a map of the calling user and group to `inside`.
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

    /// Moves the calling process into a new user namespace with these maps, and into an empty
    /// network namespace.
    ///
    /// The process must have one thread. This only makes system calls, so it can run between `fork`
    /// and `exec`.
    ///
    /// # Errors
    /// Fails if the host forbids it, for example by `user.max_user_namespaces`, AppArmor's
    /// restriction on Ubuntu, or a container's seccomp filter.
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
