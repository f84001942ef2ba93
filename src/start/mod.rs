//! The start of a sandbox.
//!
//! [`SandboxBuilder`] collects the request, and `attempt` carries it out. `prepare` checks it
//! against the host and creates the plan. `image` and `template` obtain the files that the plan
//! needs. `launch` hands the plan to a supervisor, and `wait` follows the start until the sandbox
//! is ready.

mod attempt;
mod builder;
mod image;
mod launch;
mod network_policy;
mod prepare;
mod template;
mod wait;
mod working_set;

pub use builder::{SandboxBuilder, SupervisorKind};
pub use network_policy::NetworkPolicy;
pub use prepare::Planned;
pub use template::{BuiltTemplate, TemplateRequest};

pub(crate) use launch::Supervision;
pub(crate) use template::{BackgroundBuild, expectations, run_in_role};
pub(crate) use wait::{Joined, wait_for_ready};

use crate::event::Event;

use self::prepare::Hypervisor;

/// A receiver of events.
pub(crate) type Listener = Box<dyn FnMut(&Event) + Send>;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Child, Console, Host, Sandbox, SandboxName};

    fn is_send<T: Send>(_: T) {}

    /// Compiles only if a multi-threaded runtime can spawn the futures. Never runs.
    #[expect(dead_code, reason = "the compiler is the test")]
    fn public_futures_are_send(
        host: &Host,
        name: &SandboxName,
        mut sandbox: Sandbox,
        child: &mut Child,
        console: &mut Console,
    ) {
        is_send(Sandbox::builder(host).start());
        is_send(Sandbox::builder(host).start_until(std::future::pending()));
        is_send(Sandbox::connect(host, name));
        is_send(host.stop(name, Duration::ZERO));
        is_send(sandbox.exec("x").spawn());
        is_send(sandbox.exec("x").status());
        is_send(sandbox.exec("x").output());
        is_send(sandbox.status());
        is_send(sandbox.console());
        is_send(sandbox.ended());
        is_send(sandbox.discard(|_| {}));
        is_send(sandbox.stop(Duration::ZERO));
        is_send(child.wait());
        is_send(child.kill());
        is_send(console.wait_for("login:", Duration::ZERO));
    }
}
