//! Connections: host keys, client keys, and servers that do not answer.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sandbox::inside::{KeyFiles, Keys};
use sandbox_session::ssh::{Connection, SshError, public_keys};

use crate::scripted::{self, Behaviour};
use crate::server::{Server, deadline};

#[tokio::test]
async fn connection_with_wrong_host_key_reports_both_fingerprints() {
    let server = Server::start();
    let mut endpoint = server.endpoint();
    endpoint.host_key = Keys::generate("other").unwrap().host_key;
    let error = Connection::open(&endpoint, deadline()).await.unwrap_err();
    let SshError::HostKeyMismatch {
        expected, offered, ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert!(expected.starts_with("SHA256:") && offered.starts_with("SHA256:"));
    assert_ne!(expected, offered);
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn connection_with_wrong_client_key_is_refused() {
    let server = Server::start();
    let other = tempfile::tempdir().unwrap();
    let keys = KeyFiles::in_directory(other.path());
    keys.write("other", &Keys::generate("other").unwrap())
        .unwrap();
    let mut endpoint = server.endpoint();
    endpoint.identity = keys.identity();
    let error = Connection::open(&endpoint, deadline()).await.unwrap_err();
    assert!(
        matches!(error, SshError::AuthenticationRefused { .. }),
        "{error:?}"
    );

    fs::write(keys.identity(), "not a key").unwrap();
    let error = Connection::open(&endpoint, deadline()).await.unwrap_err();
    assert!(matches!(error, SshError::ParseKey { .. }), "{error:?}");
}

#[tokio::test]
async fn connection_to_silent_or_closed_port_fails() {
    let directory = tempfile::tempdir().unwrap();
    let (mut endpoint, _asked) = scripted::serve(directory.path(), Behaviour::Silent).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    endpoint.address = listener.local_addr().unwrap();
    let soon = Instant::now() + Duration::from_millis(100);
    let error = Connection::open(&endpoint, soon).await.unwrap_err();
    assert!(
        matches!(error, SshError::ConnectDeadline { .. }),
        "{error:?}"
    );
    drop(listener);
    let error = Connection::open(&endpoint, deadline()).await.unwrap_err();
    assert!(matches!(error, SshError::Connect { .. }), "{error:?}");
}

#[tokio::test]
async fn openssh_with_printed_command_logs_in() {
    let server = Server::start();
    let argv = server.endpoint().openssh_command();
    let output = std::process::Command::new(&argv[0])
        .args(&argv[1..])
        .args(["echo", "in"])
        .stdin(File::open("/dev/null").unwrap())
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"in\n", "{output:?}");
}

#[tokio::test]
async fn ssh_agent_with_one_key_lists_it() {
    let directory = tempfile::tempdir().unwrap();
    let keys = KeyFiles::in_directory(directory.path());
    let generated = Keys::generate("agent").unwrap();
    keys.write("agent", &generated).unwrap();
    let key = generated.authorized_key;
    let socket = directory.path().join("agent.sock");
    let mut agent = Command::new("ssh-agent")
        .arg("-D")
        .arg("-a")
        .arg(&socket)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !socket.exists() && agent.try_wait().unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let added = Command::new("ssh-add")
        .arg(keys.identity())
        .env("SSH_AUTH_SOCK", &socket)
        .output()
        .unwrap();
    let found = public_keys(&socket).await;
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(added.status.success(), "{added:?}");
    assert_eq!(found, [key]);
}
