//! The public keys that the user's `ssh-agent` offers, so that they open the sandbox too.

use std::path::Path;
use std::time::Duration;

use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;

use super::error::Cause;
use sandbox_host::printable::sanitize_line;

/// An agent answers in milliseconds; one that waits for the user must not hold up a start.
const DEADLINE: Duration = Duration::from_millis(500);

/// Characters of a key's comment that are kept.
const LONGEST_COMMENT: usize = 100;

/// Lines of `authorized_keys` for every plain public key of the agent that listens at `socket` (the
/// value of `SSH_AUTH_SOCK`). Certificates are left out: sshd accepts those by their authority.
///
/// An agent that does not answer within half a second, or not sensibly, has no keys: a start does
/// not fail for it, the reason goes to the log.
pub async fn public_keys(socket: &Path) -> Vec<String> {
    let asked = async {
        let mut agent = AgentClient::connect_uds(socket).await?;
        agent.request_identities().await
    };
    match tokio::time::timeout(DEADLINE, asked).await {
        Ok(Ok(identities)) => identities.iter().filter_map(line).collect(),
        Ok(Err(error)) => {
            tracing::warn!(socket = %socket.display(), error = %Cause::of(&error), "ssh-agent gave no keys");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!(socket = %socket.display(), "ssh-agent did not answer in time");
            Vec::new()
        }
    }
}

/// The comment comes from the agent, perhaps a forwarded one: it must not begin another line.
fn line(identity: &AgentIdentity) -> Option<String> {
    let AgentIdentity::PublicKey { key, comment } = identity else {
        return None;
    };
    let mut key = key.clone();
    key.set_comment(sanitize_line(comment.as_bytes(), LONGEST_COMMENT));
    match key.to_openssh() {
        Ok(line) => Some(line),
        Err(error) => {
            tracing::warn!(error = %Cause::of(&error), "a key of ssh-agent was left out");
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
    fn a_comment_cannot_smuggle_in_another_key() {
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
    async fn an_agent_that_is_silent_or_absent_has_no_keys() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent");
        assert!(public_keys(&socket).await.is_empty());
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(public_keys(&socket).await.is_empty());
    }
}
