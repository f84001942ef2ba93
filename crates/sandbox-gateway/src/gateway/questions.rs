//! The gateway's DNS server for UDP and TCP (RFC 1035, 7766). The policy engine answers the
//! questions.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::core::Core;
use super::packet;
use super::tcp::GuestStream;
use sandbox_spec::policy::Transport;

/// The time limit for each read and write of a TCP connection.
const IDLE: Duration = Duration::from_secs(30);

impl Core {
    /// Answers a question that came by UDP.
    pub(super) fn question(self: &Rc<Self>, guest: SocketAddr, server: SocketAddr, query: &[u8]) {
        let Ok(turn) = self.questions.clone().try_acquire_owned() else {
            return;
        };
        let (core, query) = (self.clone(), query.to_vec());
        tokio::task::spawn_local(async move {
            if let Some(answer) = core.policy_engine.answer_dns(&query, Transport::Udp).await {
                core.link
                    .write(|outgoing| packet::send_udp(outgoing, server, guest, &answer));
            }
            drop(turn);
        });
    }

    /// Answers the questions of one TCP connection, one at a time.
    pub(super) async fn questions(self: Rc<Self>, mut guest: GuestStream) {
        while let Ok(Ok(length)) = timeout(IDLE, guest.read_u16()).await {
            let mut query = vec![0; length.into()];
            if !matches!(timeout(IDLE, guest.read_exact(&mut query)).await, Ok(Ok(_))) {
                return;
            }
            let Ok(turn) = self.questions.acquire().await else {
                return;
            };
            let answer = self.policy_engine.answer_dns(&query, Transport::Tcp).await;
            drop(turn);
            let Some(answer) = answer else { return };
            let Ok(length) = u16::try_from(answer.len()) else {
                return;
            };
            let mut message = Vec::with_capacity(answer.len() + 2);
            message.extend_from_slice(&length.to_be_bytes());
            message.extend_from_slice(&answer);
            if !matches!(timeout(IDLE, guest.write_all(&message)).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}
