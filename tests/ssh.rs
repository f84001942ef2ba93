//! SSH sessions against the OpenSSH server of this host (`/usr/sbin/sshd`, package
//! `openssh-server`), and against a scripted server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test fails")]

#[path = "ssh/connecting.rs"]
mod connecting;
#[path = "ssh/scripted.rs"]
mod scripted;
#[path = "ssh/server.rs"]
mod server;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use sandbox_host::notices::{Notice, Notices, Termination};
use sandbox_host::streams::Streams;
use sandbox_session::ssh::{Connection, SshError};
use sandbox_session::{Ending, GuestCommand, PtyRequest, SessionError};
use sandbox_test_support::{CapturedStreams, Pseudoterminal, null, only_output};
use tokio::sync::mpsc;

use scripted::{Asked, Behaviour};
use server::{Server, deadline};

/// The result of a command.
struct Finished {
    ending: Ending,
    output: Vec<u8>,
    error: Vec<u8>,
}

fn line(words: &[&str]) -> Vec<u8> {
    let command = GuestCommand {
        argv: words.iter().map(Into::into).collect(),
        workdir: None,
        environment: Vec::new(),
        user: "dev".into(),
    };
    command.line().unwrap()
}

async fn connect(server: &Server) -> Connection {
    Connection::open(&server.endpoint(), deadline())
        .await
        .unwrap()
}

/// Runs `line` with `input` and collects its output.
async fn run(connection: &Connection, line: Vec<u8>, input: OwnedFd) -> Result<Finished, SshError> {
    let captured = CapturedStreams::new();
    let streams = captured.streams(input);
    let (_sender, mut notices) = Notices::channel();
    let ending = connection
        .execute(line, streams, None, &mut notices)
        .await?;
    Ok(Finished {
        ending,
        output: captured.output(),
        error: captured.error(),
    })
}

#[tokio::test]
async fn command_on_exit_returns_status_and_separate_streams() {
    let server = Server::start();
    let connection = connect(&server).await;
    let cases: &[(&[&str], u8)] = &[
        (&["true"], 0),
        (&["sh", "-c", "exit 3"], 3),
        (&["/nonexistent/program"], 127),
        (&["/etc/passwd"], 126),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
    ];
    for (words, code) in cases {
        let finished = run(&connection, line(words), null()).await.unwrap();
        assert_eq!(finished.ending.exit_code(), *code, "{words:?}");
    }
    let words = ["sh", "-c", "echo out; echo err >&2"];
    let finished = run(&connection, line(&words), null()).await.unwrap();
    assert_eq!(finished.output, b"out\n");
    assert_eq!(finished.error, b"err\n");
    connection.close().await;
}

#[tokio::test]
async fn arguments_with_special_characters_arrive_unchanged() {
    let server = Server::start();
    let connection = connect(&server).await;
    let words = [
        "",
        "'",
        "\"$HOME\" `id` $(id)",
        "*",
        "a\nb\n",
        "\\",
        "-n",
        "ü",
        "~",
        "",
    ];
    let argv = [&["printf", "%s\\0"], &words[..]].concat();
    let finished = run(&connection, line(&argv), null()).await.unwrap();
    let expected: Vec<u8> = words
        .iter()
        .flat_map(|word| [word.as_bytes(), b"\0"].concat())
        .collect();
    assert_eq!(finished.output, expected);
}

/// Returns bytes without a period, so that a lost or repeated block changes them.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[tokio::test]
async fn fifty_mebibytes_through_cat_return_unchanged() {
    let server = Server::start();
    let connection = connect(&server).await;
    let bytes = noise(50 << 20);
    let path = server.directory.path().join("input");
    fs::write(&path, &bytes).unwrap();
    let input = File::open(&path).unwrap().into();
    let finished = run(&connection, line(&["cat"]), input).await.unwrap();
    assert_eq!(finished.ending, Ending::Exited(0));
    assert!(finished.output == bytes);
}

#[tokio::test]
async fn command_with_open_unread_input_ends() {
    let server = Server::start();
    let connection = connect(&server).await;
    let (reader, mut writer) = io::pipe().unwrap();
    let finished = run(
        &connection,
        line(&["true"]),
        reader.try_clone().unwrap().into(),
    )
    .await;
    assert_eq!(finished.unwrap().ending, Ending::Exited(0));
    // Bytes written afterwards stay in the pipe for the next reader.
    writer.write_all(b"later").unwrap();
    drop(writer);
    let mut rest = String::new();
    let mut reader = reader;
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "later");
}

#[tokio::test]
async fn connection_with_eight_commands_runs_them_at_once() {
    let server = Server::start();
    let connection = connect(&server).await;
    let numbers = ["0", "1", "2", "3", "4", "5", "6", "7"];
    let commands = numbers.map(|number| {
        let script = format!("head -c 1000000 /dev/zero | wc -c; exit {number}");
        run(&connection, line(&["sh", "-c", &script]), null())
    });
    let [a, b, c, d, e, f, g, h] = commands;
    let (a, b, c, d, e, f, g, h) = tokio::join!(a, b, c, d, e, f, g, h);
    for (number, finished) in [a, b, c, d, e, f, g, h].into_iter().enumerate() {
        let finished = finished.unwrap();
        assert_eq!(usize::from(finished.ending.exit_code()), number);
        assert_eq!(finished.output, b"1000000\n");
    }
}

#[tokio::test]
async fn command_with_closed_output_ends_by_sigpipe() {
    let server = Server::start();
    let connection = connect(&server).await;
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let streams = only_output(writer);
    let (_sender, mut notices) = Notices::channel();
    let ending = connection
        .execute(line(&["yes"]), streams, None, &mut notices)
        .await;
    assert_eq!(ending.unwrap().exit_code(), 141);
}

#[tokio::test]
async fn command_with_full_output_returns_stream_error() {
    let server = Server::start();
    let connection = connect(&server).await;
    let full = File::options().write(true).open("/dev/full").unwrap();
    let streams = only_output(full);
    let (_sender, mut notices) = Notices::channel();
    let ending = connection
        .execute(line(&["yes"]), streams, None, &mut notices)
        .await;
    assert!(
        matches!(
            ending,
            Err(SshError::Session(SessionError::LocalStream { .. }))
        ),
        "{ending:?}"
    );
}

#[tokio::test]
async fn second_ctrl_c_with_unread_output_abandons_command() {
    let server = Server::start();
    let connection = connect(&server).await;
    let (mut reader, writer) = io::pipe().unwrap();
    let streams = Streams {
        input: File::open("/dev/zero").unwrap().into(),
        ..only_output(writer)
    };
    let (sender, mut notices) = Notices::channel();
    let user = tokio::task::spawn_blocking(move || {
        // Two bytes show that the command runs. The rest stays in the pipe.
        reader.read_exact(&mut [0; 2]).unwrap();
        let interrupt = Notice::Termination(Termination::Interrupt);
        sender.blocking_send(interrupt).unwrap();
        sender.blocking_send(interrupt).unwrap();
        reader
    });
    let script = line(&["sh", "-c", "trap '' INT; exec yes"]);
    let command = connection.execute(script, streams, None, &mut notices);
    let (ending, _reader) = tokio::join!(command, user);
    assert_eq!(ending.unwrap(), Ending::Abandoned(Termination::Interrupt));
}

#[tokio::test]
async fn command_on_server_death_returns_connection_lost() {
    let server = Server::start();
    let connection = connect(&server).await;
    let (mut reader, writer) = io::pipe().unwrap();
    let streams = only_output(writer);
    let (_sender, mut notices) = Notices::channel();
    let command = connection.execute(
        line(&["sh", "-c", "echo started; exec sleep 1000"]),
        streams,
        None,
        &mut notices,
    );
    let kill = tokio::task::spawn_blocking(move || {
        let mut started = [0; 8];
        reader.read_exact(&mut started).unwrap();
        server.kill();
        server
    });
    let (ending, _server) = tokio::join!(command, kill);
    let error = ending.unwrap_err();
    assert!(matches!(error, SshError::ConnectionLost(_)), "{error:?}");
    assert!(error.hint().is_some());
}

/// Waits until the command has written a byte, and skips its own request.
async fn command_runs(mut output: io::PipeReader, asked: &mut mpsc::UnboundedReceiver<Asked>) {
    let read = tokio::task::spawn_blocking(move || output.read_exact(&mut [0]));
    read.await.unwrap().unwrap();
    assert!(matches!(asked.recv().await, Some(Asked::Command(_))));
}

#[tokio::test]
async fn terminations_reach_command_and_second_ctrl_c_abandons_it() {
    for (behaviour, expected) in [
        (Behaviour::DiesOfSignals, 143),
        (Behaviour::IgnoresSignals, 130),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (endpoint, mut asked) = scripted::serve(directory.path(), behaviour).await;
        let connection = Connection::open(&endpoint, deadline()).await.unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let streams = only_output(writer);
        let (sender, mut notices) = Notices::channel();
        let user = async {
            command_runs(reader, &mut asked).await;
            let send = |termination| sender.send(Notice::Termination(termination));
            send(Termination::Terminate).await.unwrap();
            assert_eq!(asked.recv().await, Some(Asked::Signal("TERM".into())));
            if let Behaviour::IgnoresSignals = behaviour {
                send(Termination::Interrupt).await.unwrap();
                assert_eq!(asked.recv().await, Some(Asked::Signal("INT".into())));
                send(Termination::Interrupt).await.unwrap();
            }
        };
        let command = connection.execute(line(&["sleep"]), streams, None, &mut notices);
        let (ending, ()) = tokio::join!(command, user);
        assert_eq!(ending.unwrap().exit_code(), expected, "{behaviour:?}");
    }
}

#[tokio::test]
async fn terminal_during_session_is_copied_resized_and_restored() {
    let directory = tempfile::tempdir().unwrap();
    let (endpoint, mut asked) = scripted::serve(directory.path(), Behaviour::DiesOfSignals).await;
    let connection = Connection::open(&endpoint, deadline()).await.unwrap();
    let terminal = Pseudoterminal::open(30, 100);
    let before = terminal.modes();
    let (reader, writer) = io::pipe().unwrap();
    let streams = terminal.streams(writer);
    let pty = PtyRequest::for_streams(&streams, "xterm".into()).unwrap();
    let (sender, mut notices) = Notices::channel();
    let user = async {
        let request = Asked::Terminal {
            term: "xterm".into(),
            columns: 100,
            rows: 30,
            echo: Some(1),
        };
        assert_eq!(asked.recv().await, Some(request));
        command_runs(reader, &mut asked).await;
        assert!(terminal.modes().is_raw());
        terminal.resize(40, 120);
        sender.send(Notice::Resized).await.unwrap();
        let size = Asked::Size {
            columns: 120,
            rows: 40,
        };
        assert_eq!(asked.recv().await, Some(size));
        assert!(terminal.modes().is_raw());
        let hangup = Notice::Termination(Termination::Hangup);
        sender.send(hangup).await.unwrap();
    };
    let command = connection.execute(line(&["sh"]), streams, Some(&pty), &mut notices);
    let (ending, ()) = tokio::join!(command, user);
    assert_eq!(ending.unwrap().exit_code(), 129);
    assert_eq!(terminal.modes(), before);
}

#[tokio::test]
async fn hostile_server_reply_returns_error_or_status_255() {
    for behaviour in [
        Behaviour::Disconnects,
        Behaviour::Nonsense,
        Behaviour::Silent,
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (endpoint, _asked) = scripted::serve(directory.path(), behaviour).await;
        let connection = Connection::open(&endpoint, deadline()).await.unwrap();
        match (behaviour, run(&connection, line(&["true"]), null()).await) {
            (Behaviour::Disconnects, Err(error)) => {
                assert!(matches!(error, SshError::ConnectionLost(_)), "{error:?}");
                let cause = std::error::Error::source(&error).unwrap().to_string();
                assert_eq!(cause, "the server disconnected: bye");
            }
            (Behaviour::Nonsense, Ok(finished)) => {
                assert_eq!(finished.ending.exit_code(), 255);
            }
            (Behaviour::Silent, Err(error)) => {
                assert!(matches!(error, SshError::NoExitStatus), "{error:?}");
            }
            (_, Ok(finished)) => panic!("{behaviour:?}: {:?}", finished.ending),
            (_, Err(error)) => panic!("{behaviour:?}: {error:?}"),
        }
    }
}
