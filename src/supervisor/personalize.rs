//! The personalization of a restored guest: its credentials, its clock, and fresh entropy.

use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use sandbox_protocol::agent::message::{Request, Response, Start};
use tokio::time::Instant;

use super::SupervisorError;
use super::agent_link::Asker;
use crate::agent::AgentError;
use crate::{StartPlan, WarmStart};

/// At most this many corrections of the clock. The first takes long in an emulated guest, which
/// translates its code on the way.
const CLOCK_ROUNDS: usize = 6;

/// The largest accepted error of the guest's clock.
const CLOCK_ERROR: Duration = Duration::from_millis(10);

/// Turns the restored guest into this sandbox. The returned future resolves to the guest's answer.
pub(super) fn personalize(
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

/// Returns the wall clock after `delay`, in nanoseconds since the Unix epoch.
fn wall_clock_ns(delay: Duration) -> i64 {
    let now = jiff::Timestamp::now().as_nanosecond() + delay.as_nanos().cast_signed();
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// Sets the guest's clock until the error is small.
///
/// Each round adds half of the last round trip to the time. The sandbox's services have not
/// started yet, so none of them sees the clock go backward.
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
