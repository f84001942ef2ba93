//! SSH against a real OpenSSH server of this machine (`/usr/sbin/sshd`, package `openssh-server`).

#[path = "ssh/server.rs"]
mod server;

use std::fs::File;
use std::io::Read;

use sandbox::host::notices::Notices;
use sandbox::host::streams::Streams;
use sandbox::ssh::{Connection, Ending, GuestCommand, SshError};

use server::{Server, deadline};

/// What a command did.
struct Finished {
    ending: Ending,
    output: Vec<u8>,
    error: Vec<u8>,
}

/// Runs `line` with an empty input and everything collected.
async fn run_line(server: &Server, line: Vec<u8>) -> Result<Finished, SshError> {
    let connection = Connection::open(&server.endpoint(), deadline()).await?;
    let mut output = tempfile::tempfile().unwrap();
    let mut error = tempfile::tempfile().unwrap();
    let streams = Streams {
        input: File::open("/dev/null").unwrap().into(),
        output: output.try_clone().unwrap().into(),
        error: error.try_clone().unwrap().into(),
    };
    let (_sender, mut notices) = Notices::channel();
    let ending = connection
        .execute(line, streams, None, &mut notices)
        .await?;
    connection.close().await;
    Ok(Finished {
        ending,
        output: contents(&mut output),
        error: contents(&mut error),
    })
}

fn contents(file: &mut File) -> Vec<u8> {
    use std::io::Seek;
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn command(words: &[&str]) -> GuestCommand {
    GuestCommand {
        argv: words.iter().map(Into::into).collect(),
        workdir: None,
        environment: Vec::new(),
        user: "root".into(),
    }
}

#[tokio::test]
async fn streams_are_separate_and_the_status_is_the_commands() {
    let server = Server::start();
    let cases: &[(&[&str], u8)] = &[
        (&["true"], 0),
        (&["sh", "-c", "exit 3"], 3),
        (&["/nonexistent/program"], 127),
        (&["/etc/passwd"], 126),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
    ];
    for (words, code) in cases {
        let line = command(words).line().unwrap();
        let finished = run_line(&server, line).await.unwrap();
        assert_eq!(finished.ending.exit_code(), *code, "{words:?}");
    }
    let line = command(&["sh", "-c", "echo out; echo err >&2"])
        .line()
        .unwrap();
    let finished = run_line(&server, line).await.unwrap();
    assert_eq!(finished.output, b"out\n");
    assert_eq!(finished.error, b"err\n");
}
