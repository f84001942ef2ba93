//! The public keys of the user's `ssh-agent`, which sandboxes also accept.

use std::path::Path;
use std::time::Duration;

use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;

use super::error::Cause;
use crate::SessionFuture;
use sandbox_host::printable::sanitize_line;

/// The time limit of the agent. It usually answers in milliseconds. An agent that waits for the
/// user must not delay a start.
const DEADLINE: Duration = Duration::from_millis(500);

/// The maximum length of a key's comment, in characters.
const COMMENT_LIMIT: usize = 100;

/// Returns a line of `authorized_keys` for each plain public key of the agent at `socket` (the
/// value of `SSH_AUTH_SOCK`). Omits certificates, since sshd accepts those by their authority.
///
/// An agent that fails, or does not answer within half a second, has no keys. The reason is logged,
/// and the start continues.
pub fn public_keys(socket: &Path) -> SessionFuture<'_, Vec<String>> {
    Box::pin(ask(socket))
}

async fn ask(socket: &Path) -> Vec<String> {
    let asked = async {
        let mut agent = AgentClient::connect_uds(socket).await?;
        agent.request_identities().await
    };
    match tokio::time::timeout(DEADLINE, asked).await {
        Ok(Ok(identities)) => identities.iter().filter_map(line).collect(),
        Ok(Err(error)) => {
            tracing::warn!(socket = %socket.display(), error = %Cause::of(&error), "could not read the keys of ssh-agent");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!(socket = %socket.display(), "ssh-agent did not answer in time");
            Vec::new()
        }
    }
}

/// Returns the line of a key. The comment comes from an agent, perhaps a forwarded one, so it must
/// not start a new line.
fn line(identity: &AgentIdentity) -> Option<String> {
    let AgentIdentity::PublicKey { key, comment } = identity else {
        return None;
    };
    let mut key = key.clone();
    key.set_comment(sanitize_line(comment.as_bytes(), COMMENT_LIMIT));
    match key.to_openssh() {
        Ok(line) => Some(line),
        Err(error) => {
            tracing::warn!(error = %Cause::of(&error), "a key of ssh-agent was ignored");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::key::safe_rng;
    use russh::keys::{Algorithm, PrivateKey};

    #[test]
    fn line_with_newline_in_comment_stays_one_line() {
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let identity = AgentIdentity::PublicKey {
            key: key.public_key().clone(),
            comment: "me\nssh-ed25519 AAAA evil".into(),
        };
        let line = line(&identity).unwrap();
        assert_eq!(line.lines().count(), 1);
        assert!(line.ends_with("me ssh-ed25519 AAAA evil"), "{line}");
    }

    #[tokio::test]
    async fn public_keys_without_answer_are_empty() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent");
        assert!(public_keys(&socket).await.is_empty());
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(public_keys(&socket).await.is_empty());
    }
}
