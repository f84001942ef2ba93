//! Private networks for tests: network namespaces that a test connects.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace, at first with only a loopback interface. The kernel removes it
/// with its last process and socket.
#[derive(Clone)]
pub(crate) struct Namespace(Arc<File>);

impl Namespace {
    /// Creates a namespace. Needs root, or a user namespace in which the test is root.
    pub(crate) fn new() -> Self {
        let file = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let namespace = Self(Arc::new(file.join().unwrap()));
        namespace.ip("link set lo up");
        namespace
    }

    /// Returns its path for `ip … netns`, valid while this process lives.
    pub(crate) fn path(&self) -> PathBuf {
        let process = std::process::id();
        format!("/proc/{process}/fd/{}", self.0.as_raw_fd()).into()
    }

    /// Runs `job` in the namespace. Sockets that it creates stay there.
    pub(crate) fn within<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                job()
            });
            inside.join().expect("the job in a namespace panicked")
        })
    }

    /// Makes a command and its children run in the namespace.
    pub(crate) fn attach(&self, command: &mut Command) {
        let file = Arc::clone(&self.0);
        // SAFETY: the closure makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(move || Ok(setns(&file, CloneFlags::CLONE_NEWNET)?));
        }
    }

    /// Runs commands of ip(8) in the namespace, one per line.
    #[track_caller]
    pub(crate) fn ip(&self, commands: &str) {
        let mut ip = Command::new("ip");
        ip.args(["-batch", "-"]).stdin(Stdio::piped());
        self.attach(&mut ip);
        let mut child = ip.spawn().expect("could not run `ip`");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(commands.as_bytes()).unwrap();
        drop(stdin);
        assert!(child.wait().unwrap().success(), "{commands}");
    }

    /// Sets a parameter of the namespace, a file below `/proc/sys/net`.
    pub(crate) fn set(&self, parameter: &str, value: &str) {
        let path = format!("/proc/sys/net/{parameter}");
        self.within(|| {
            std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"))
        });
    }
}
