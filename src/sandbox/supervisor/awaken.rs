//! Telling a restored guest what time it is and who it is.

use std::time::Duration;

use agent_protocol::message::{Request, Response, Start};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::time::Instant;

use super::SupervisorError;
use super::agent_link::Asker;
use crate::agent::AgentError;
use crate::sandbox::{StartPlan, WarmStart};

/// How often the time is told at most. The first time, an emulated guest has
/// its code translated on the way, which takes long.
const CLOCK_ROUNDS: usize = 4;

/// A way there and back that is short enough: the clock is off by less.
const SHORT_WAY: Duration = Duration::from_millis(15);

/// Makes the guest this sandbox. The future is the guest's answer.
pub(super) fn awaken(
    agent: Asker,
    plan: &StartPlan,
    warm: &WarmStart,
) -> Result<impl Future<Output = Result<Response, AgentError>> + use<>, SupervisorError> {
    let mut entropy = [0; 32];
    getrandom(&mut entropy, GetRandomFlags::empty()).map_err(std::io::Error::from)?;
    let credentials = warm.credentials.iter().cloned();
    let start = Request::Start(Start {
        credentials: credentials.map(|one| (one.name, one.value)).collect(),
        entropy,
        grow_root: plan.spec.disk.bytes() > warm.template.disk_bytes,
    });
    let deadline = plan.spec.ready_timeout;
    Ok(async move {
        set_clock(&agent, deadline).await?;
        agent.ask(start, deadline).await
    })
}

/// Tells the guest the time until the way to it was short enough, each time
/// ahead by half of the last way there and back. No service of the sandbox has
/// started yet, so none sees the clock go backward.
async fn set_clock(agent: &Asker, deadline: Duration) -> Result<(), AgentError> {
    let mut one_way = Duration::ZERO;
    for _ in 0..CLOCK_ROUNDS {
        let sent = Instant::now();
        let now = jiff::Timestamp::now().as_nanosecond() + one_way.as_nanos().cast_signed();
        let clock = i64::try_from(now).unwrap_or(i64::MAX);
        agent.ask(Request::SetClock(clock), deadline).await?;
        let way = sent.elapsed();
        if way < SHORT_WAY {
            break;
        }
        one_way = way / 2;
    }
    Ok(())
}
