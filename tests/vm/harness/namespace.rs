//! Networks of a test's own: namespaces of the kernel's, joined as the test says.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// A network of its own: nothing but a loopback, until something is added.
/// It ends with its last process and socket.
#[derive(Clone)]
pub(crate) struct Namespace(Arc<File>);

impl Namespace {
    /// Makes one; needs root, or a user namespace in which the test is root.
    pub(crate) fn new() -> Self {
        let file = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("networks of their own need root");
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let namespace = Self(Arc::new(file.join().unwrap()));
        namespace.ip("link set lo up");
        namespace
    }

    /// A name of it for `ip … netns`, good as long as this process lives.
    pub(crate) fn path(&self) -> PathBuf {
        let process = std::process::id();
        format!("/proc/{process}/fd/{}", self.0.as_raw_fd()).into()
    }

    /// Does something in it: sockets that are made there stay there.
    pub(crate) fn within<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                job()
            });
            inside.join().expect("what was to be done in a namespace")
        })
    }

    /// Makes a command run in it, and whatever that starts.
    pub(crate) fn hold(&self, command: &mut Command) {
        let file = Arc::clone(&self.0);
        // SAFETY: the closure makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(move || Ok(setns(&file, CloneFlags::CLONE_NEWNET)?));
        }
    }

    /// Runs commands of ip(8) in it, one a line.
    #[track_caller]
    pub(crate) fn ip(&self, commands: &str) {
        let mut ip = Command::new("ip");
        ip.args(["-batch", "-"]).stdin(Stdio::piped());
        self.hold(&mut ip);
        let mut child = ip.spawn().expect("`ip` of iproute2");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(commands.as_bytes()).unwrap();
        drop(stdin);
        assert!(child.wait().unwrap().success(), "{commands}");
    }

    /// Sets one of its parameters, a file below `/proc/sys/net`.
    pub(crate) fn set(&self, parameter: &str, value: &str) {
        let path = format!("/proc/sys/net/{parameter}");
        self.within(|| {
            std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"))
        });
    }
}
