//! Virtual machines for project directories: start, enter and stop them from a program.
//!
//! A sandbox is a Debian system with systemd in its own virtual machine. It shares one host
//! directory, the workspace. Its disk is discarded when it stops.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use sandbox::{Host, NetworkPolicy, Sandbox, Share};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let host = Host::from_environment()?;
//! let sandbox = Sandbox::builder(&host)
//!     .image("debian-13-minimal")
//!     .cpus(2)
//!     .memory_mib(2048)
//!     .workspace("./project")
//!     .share(Share::new("./data", "/mnt/data")?.read_only())
//!     .network(NetworkPolicy::proxy().allow_domain("*.crates.io")?)
//!     .publish(([127, 0, 0, 1], 0), 8080)
//!     .on_event(|event| eprintln!("{event}"))
//!     .start()
//!     .await?; // ready when this returns
//! let output = sandbox
//!     .exec("cargo")
//!     .args(["test", "-q"])
//!     .env("CI", "1")
//!     .timeout(Duration::from_secs(600))
//!     .output()
//!     .await?;
//! println!("{}", output.status);
//! sandbox.stop(Duration::from_secs(10)).await?; // dropped instead: discarded
//! # Ok(())
//! # }
//! ```
//!
//! # Ownership
//!
//! Each running sandbox has a supervisor. It is QEMU's parent, runs the guest's gateway, and
//! removes the sandbox's state at the end. By default the supervisor is a thread of this program.
//! QEMU then ends with the program, even if the program is killed. With [`SandboxBuilder::detach`],
//! a process of the installed `sandbox` program is the supervisor, so the sandbox outlives this
//! program. `sandbox list`, `exec` and `stop` work with both.
//!
//! # Errors
//!
//! Every failure is an [`Error`] with a [kind](Error::kind), causes, and a [hint](Error::hint) for
//! the user. A command that exits with another status than 0 is not an error.
//!
//! `ARCHITECTURE.md` explains the modules and their order.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod agent;
mod console;
mod differences;
mod doctor;
mod error;
mod event;
mod exec;
mod garbage;
mod guest;
mod host;
mod network;
mod options;
mod plan;
mod registry;
mod role;
mod sandbox;
mod spec;
mod ssh;
mod start;
mod state;
mod supervisor;
mod templates;

pub use console::{Console, ConsoleError, follow_log, last_lines};
pub use doctor::{Finding, Outcome as FindingOutcome, worst as worst_finding};
pub use error::{Error, ErrorKind};
pub use event::{Event, Stage};
pub use exec::{
    Child, ChildControl, ChildStderr, ChildStdin, ChildStdout, CommandError, EnvironmentVariable,
    Exec, ExitStatus, Output, Terminal, TerminalSize,
};
pub use garbage::{Garbage, GarbageKind, StorageKind, Usage};
pub use host::Host;
pub use network::NetworkSpec;
pub use options::{StartOptions, parse_duration};
pub use plan::{BootImage, ColdStart, StartPlan, WarmStart};
pub use registry::Found;
pub use sandbox::Sandbox;
pub use sandbox_host::hint::{Hint, Part as HintPart};
pub use sandbox_protocol::Record;
pub use sandbox_protocol::agent::message::Status as GuestStatus;
pub use sandbox_spec::guest::WORKSPACE;
pub use sandbox_spec::{SandboxName, Share, ShareMode, TemplateKey, TemplatePolicy};
pub use spec::{Lifetime, SandboxSpec};
pub use ssh::{Endpoint, KeyError};
pub use start::{
    BuiltTemplate, NetworkPolicy, Planned, SandboxBuilder, SupervisorKind, TemplateRequest,
};
pub use state::StateLayout;
pub use supervisor::{TemplateStage, TemplateTimes};

/// The process roles that the command-line program provides to the library.
pub mod program {
    pub use crate::role::{ARGUMENT, Inheritance, run};
}

/// Internal items, for tests of this workspace.
#[doc(hidden)]
pub mod inside {
    pub use crate::agent::{AgentError, ask};
    pub use crate::exec::Connection;
    pub use crate::ssh::keys::{KeyFiles, Keys};
    pub use crate::templates::program;
}
