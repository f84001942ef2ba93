//! Telling a restored guest what time it is and who it is.

use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use sandbox_protocol::agent::message::{Request, Response, Start};
use tokio::time::Instant;

use super::SupervisorError;
use super::agent_link::Asker;
use crate::agent::AgentError;
use crate::{StartPlan, WarmStart};

/// How often the time is told at most. The first time, an emulated guest has
/// its code translated on the way, which takes long.
const CLOCK_ROUNDS: usize = 6;

/// By how much the clock may be off.
const CLOCK_ERROR: Duration = Duration::from_millis(10);

/// Makes the guest this sandbox. The future is the guest's answer.
pub(super) fn awaken(
    agent: Asker,
    plan: &StartPlan,
    warm: &WarmStart,
) -> Result<impl Future<Output = Result<Response, AgentError>> + use<>, SupervisorError> {
    let mut entropy = [0; 32];
    getrandom(&mut entropy, GetRandomFlags::empty()).map_err(std::io::Error::from)?;
    let credentials = warm.credentials.iter().cloned();
    let credentials = credentials.map(|one| (one.name, one.value)).collect();
    let grow_root = plan.spec.disk.bytes() > warm.template.disk_bytes;
    let deadline = plan.spec.ready_timeout;
    Ok(async move {
        let start = || {
            Request::Start(Start {
                credentials,
                wall_clock_ns: wall_clock_ns(Duration::ZERO),
                entropy,
                grow_root,
            })
        };
        let answer = agent.ask_with(start, deadline).await?;
        correct_clock(&agent, deadline).await?;
        Ok(answer)
    })
}

/// The wall clock as it will be after `delay`.
fn wall_clock_ns(delay: Duration) -> i64 {
    let now = jiff::Timestamp::now().as_nanosecond() + delay.as_nanos().cast_signed();
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// Tells the guest the time, each time ahead by half of the last way there and
/// back, until that guess was a good one. No service of the sandbox has started
/// yet, so none sees the clock go backward.
async fn correct_clock(agent: &Asker, deadline: Duration) -> Result<(), AgentError> {
    let mut one_way = Duration::ZERO;
    for _ in 0..CLOCK_ROUNDS {
        let sent = Instant::now();
        let request = || Request::SetClock(wall_clock_ns(one_way));
        agent.ask_with(request, deadline).await?;
        let guess = one_way;
        one_way = sent.elapsed() / 2;
        if one_way.abs_diff(guess) < CLOCK_ERROR {
            break;
        }
    }
    Ok(())
}
