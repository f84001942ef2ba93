//! From a wish to a running sandbox.
//!
//! [`SandboxBuilder`] collects the wish; `target` finds the sandbox that it is about; `prepare`
//! checks it against the host and makes the plan; `image` and `template` obtain what the plan
//! needs; `launch` hands the plan to a supervisor; `wait` follows the start until it is ready.

mod builder;
mod image;
mod launch;
mod network_policy;
mod prepare;
mod template;
mod wait;

pub use builder::{SandboxBuilder, SupervisorKind};
pub use network_policy::NetworkPolicy;
pub use prepare::Planned;
pub use template::{BuiltTemplate, TemplateRequest};

pub(crate) use launch::Supervision;
pub(crate) use template::{BackgroundBuild, expectations, run_in_role};
pub(crate) use wait::{Joined, wait_for_ready};

use crate::event::Event;

use self::prepare::Hypervisor;

/// Where events go.
pub(crate) type Listener = Box<dyn FnMut(&Event) + Send>;
