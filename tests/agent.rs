//! Sessions through the guest agent, against a scripted agent.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test fails")]

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;

use futures_util::{SinkExt, StreamExt};
use sandbox::inside::{AgentError, Connection, ask};
use sandbox_host::notices::{Notice, Notices, Termination};
use sandbox_protocol::agent::frame::{
    DATA_LIMIT, GUEST_FRAME_LIMIT, GuestFrame, HostFrame, INPUT_WINDOW, guest_codec, host_codec,
};
use sandbox_protocol::agent::message::{
    Ended, Execute, Program, Refusal, Request, Response, Size, Status, Terminal,
};
use sandbox_session::{Ending, PtyRequest, SessionFailure, execute_over};
use sandbox_test_support::{CapturedStreams, Pseudoterminal, null, only_output};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// The guest's end of a stream.
struct Agent {
    from_host: FramedRead<OwnedReadHalf, LengthDelimitedCodec>,
    to_host: FramedWrite<OwnedWriteHalf, LengthDelimitedCodec>,
}

impl Agent {
    fn connected() -> (Connection, Self) {
        let (near, agent) = Self::with_stream();
        (near.into(), agent)
    }

    fn with_stream() -> (UnixStream, Self) {
        let (near, far) = UnixStream::pair().unwrap();
        let (reader, writer) = far.into_split();
        let agent = Self {
            from_host: FramedRead::new(reader, host_codec()),
            to_host: FramedWrite::new(writer, guest_codec()),
        };
        (near, agent)
    }

    /// Receives the next frame of the host, or `None` at the end of the stream.
    async fn next(&mut self) -> Option<HostFrame> {
        let frame = self.from_host.next().await?.unwrap();
        Some(HostFrame::decode(&frame.freeze()).unwrap())
    }

    async fn send(&mut self, frame: GuestFrame) {
        self.to_host.send(frame.encode()).await.unwrap();
    }

    async fn respond(&mut self, response: Response) {
        self.send(GuestFrame::Response(response)).await;
    }

    async fn output(&mut self, bytes: &'static [u8]) {
        self.send(GuestFrame::Output(bytes.into())).await;
    }

    /// Receives the request and reports that the program has started.
    async fn start(&mut self) -> Execute {
        let Some(HostFrame::Request(Request::Execute(execute))) = self.next().await else {
            panic!("no request");
        };
        self.respond(Response::Started).await;
        execute
    }

    async fn end(&mut self, ended: Ended) {
        self.respond(Response::Ended(ended)).await;
    }
}

fn words(words: &[&str]) -> Execute {
    Execute {
        program: Program::Words(words.iter().map(|word| word.as_bytes().to_vec()).collect()),
        user: "dev".into(),
        directory: None,
        environment: Vec::new(),
        terminal: None,
    }
}

/// The result of a command.
struct Finished {
    ending: Result<Ending, sandbox::Error>,
    output: Vec<u8>,
    error: Vec<u8>,
}

/// Runs a program without a terminal and without notices.
async fn run(connection: Connection, execute: Execute, input: OwnedFd) -> Finished {
    let (_sender, mut notices) = Notices::channel();
    run_with(connection, execute, input, &mut notices).await
}

async fn run_with(
    connection: Connection,
    execute: Execute,
    input: OwnedFd,
    notices: &mut Notices,
) -> Finished {
    let captured = CapturedStreams::new();
    let streams = captured.streams(input);
    let ending = execute_over(connection, execute, streams, None, notices).await;
    Finished {
        ending: ending.map_err(of_the_sandbox),
        output: captured.output(),
        error: captured.error(),
    }
}

/// A failure that is none of this side's streams.
fn of_the_sandbox(failure: SessionFailure) -> sandbox::Error {
    match failure {
        SessionFailure::Sandbox(error) => error,
        SessionFailure::Local(error) => panic!("{error}"),
    }
}

fn inside(error: &sandbox::Error) -> &AgentError {
    error.inside().unwrap()
}

async fn interrupt(sender: &mpsc::Sender<Notice>) {
    let notice = Notice::Termination(Termination::Interrupt);
    sender.send(notice).await.unwrap();
}

#[tokio::test]
async fn program_on_exit_returns_status_and_separate_streams() {
    for (ended, status) in [
        (Ended::Exited(0), 0),
        (Ended::Exited(3), 3),
        (Ended::Exited(255), 255),
        (Ended::Killed(9), 137),
        (Ended::Killed(7), 135),
        (Ended::Killed(255), 255),
    ] {
        let (connection, mut agent) = Agent::connected();
        let guest = async {
            agent.start().await;
            agent.output(b"out").await;
            agent.send(GuestFrame::ErrorOutput("err".into())).await;
            agent.output(b"put").await;
            agent.end(ended).await;
        };
        let (finished, ()) = tokio::join!(run(connection, words(&["x"]), null()), guest);
        assert_eq!(finished.ending.unwrap().exit_code(), status);
        assert_eq!(finished.output, b"output");
        assert_eq!(finished.error, b"err");
    }
}

#[tokio::test]
async fn input_of_several_frames_arrives_with_its_end() {
    let (connection, mut agent) = Agent::connected();
    let mut input = tempfile::tempfile().unwrap();
    let sent: Vec<u8> = (0..300_000u32).map(|number| number as u8).collect();
    input.write_all(&sent).unwrap();
    input.rewind().unwrap();
    let guest = async {
        agent.start().await;
        let mut received = Vec::new();
        loop {
            match agent.next().await.unwrap() {
                HostFrame::Input(piece) => {
                    assert!(piece.len() <= DATA_LIMIT);
                    received.extend_from_slice(&piece);
                    let taken = u32::try_from(piece.len()).unwrap();
                    agent.send(GuestFrame::InputTaken(taken)).await;
                }
                HostFrame::InputEnd => break,
                other => panic!("{other:?}"),
            }
        }
        agent.end(Ended::Exited(0)).await;
        received
    };
    let (finished, received) = tokio::join!(run(connection, words(&["cat"]), input.into()), guest);
    finished.ending.unwrap();
    assert!(received == sent);
}

#[tokio::test]
async fn signal_with_full_input_window_overtakes_input() {
    let (connection, mut agent) = Agent::connected();
    let (sender, mut notices) = Notices::channel();
    let zeros = File::open("/dev/zero").unwrap().into();
    let guest = async {
        agent.start().await;
        let mut held = 0;
        while held < INPUT_WINDOW {
            let Some(HostFrame::Input(piece)) = agent.next().await else {
                panic!("no input");
            };
            held += piece.len();
        }
        assert_eq!(held, INPUT_WINDOW);
        interrupt(&sender).await;
        assert_eq!(agent.next().await, Some(HostFrame::Signal(2)));
        // The agent acknowledges more input than it received. The host counts at most the
        // bytes that it sent.
        for _ in 0..3 {
            agent.send(GuestFrame::InputTaken(u32::MAX)).await;
        }
        let mut more = 0;
        while more < INPUT_WINDOW {
            let Some(HostFrame::Input(piece)) = agent.next().await else {
                panic!("no input");
            };
            more += piece.len();
        }
        sender
            .send(Notice::Termination(Termination::Terminate))
            .await
            .unwrap();
        assert_eq!(agent.next().await, Some(HostFrame::Signal(15)));
        agent.end(Ended::Killed(15)).await;
    };
    let host = run_with(connection, words(&["sleep"]), zeros, &mut notices);
    let (finished, ()) = tokio::join!(host, guest);
    assert_eq!(finished.ending.unwrap().exit_code(), 143);
}

#[tokio::test]
async fn second_ctrl_c_abandons_program_and_closes_stream() {
    let (connection, mut agent) = Agent::connected();
    let (sender, mut notices) = Notices::channel();
    let guest = async {
        agent.start().await;
        assert_eq!(agent.next().await, Some(HostFrame::InputEnd));
        interrupt(&sender).await;
        assert_eq!(agent.next().await, Some(HostFrame::Signal(2)));
        interrupt(&sender).await;
        assert_eq!(agent.next().await, None);
    };
    let host = run_with(connection, words(&["sleep"]), null(), &mut notices);
    let (finished, ()) = tokio::join!(host, guest);
    let ending = finished.ending.unwrap();
    assert_eq!(ending, Ending::Abandoned(Termination::Interrupt));
}

#[tokio::test]
async fn ctrl_c_with_unresponsive_agent_abandons_program() {
    // Before the program has started, the first Ctrl-C abandons it.
    let (connection, _agent) = Agent::connected();
    let (sender, mut notices) = Notices::channel();
    interrupt(&sender).await;
    let finished = run_with(connection, words(&["x"]), null(), &mut notices).await;
    assert_eq!(finished.ending.unwrap().exit_code(), 130);

    let (connection, mut agent) = Agent::connected();
    let guest = async {
        agent.start().await;
        // The input fills the stream, and the agent does not read it.
        interrupt(&sender).await;
        interrupt(&sender).await;
    };
    let zeros = File::open("/dev/zero").unwrap().into();
    let host = run_with(connection, words(&["x"]), zeros, &mut notices);
    let (finished, ()) = tokio::join!(host, guest);
    assert_eq!(finished.ending.unwrap().exit_code(), 130);
}

#[tokio::test]
async fn session_after_program_exit_waits_for_its_children_until_ctrl_c() {
    for interrupted in [false, true] {
        let (connection, mut agent) = Agent::connected();
        let (sender, mut notices) = Notices::channel();
        let guest = async {
            agent.start().await;
            agent.respond(Response::Exited(Ended::Exited(4))).await;
            agent.output(b"from behind").await;
            if interrupted {
                assert_eq!(agent.next().await, Some(HostFrame::InputEnd));
                interrupt(&sender).await;
                assert_eq!(agent.next().await, None);
            } else {
                agent.end(Ended::Exited(4)).await;
            }
        };
        let host = run_with(connection, words(&["x"]), null(), &mut notices);
        let (finished, ()) = tokio::join!(host, guest);
        assert_eq!(finished.ending.unwrap(), Ending::Exited(4));
    }
}

#[tokio::test]
async fn program_with_closed_output_ends_by_sigpipe() {
    let (connection, mut agent) = Agent::connected();
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let (_sender, mut notices) = Notices::channel();
    let guest = async {
        agent.start().await;
        // The host closes the stream after some output.
        while agent
            .to_host
            .send(GuestFrame::Output("y\n".into()).encode())
            .await
            .is_ok()
        {}
    };
    let streams = only_output(writer);
    let host = execute_over(connection, words(&["yes"]), streams, None, &mut notices);
    let (ending, ()) = tokio::join!(host, guest);
    assert_eq!(ending.unwrap().exit_code(), 141);
}

#[tokio::test]
async fn terminal_during_session_is_copied_resized_and_restored() {
    let (connection, mut agent) = Agent::connected();
    let terminal = Pseudoterminal::open(30, 100);
    let before = terminal.modes();
    let (mut reader, writer) = io::pipe().unwrap();
    let streams = terminal.streams(writer);
    let pty = PtyRequest::for_streams(&streams, "xterm".into()).unwrap();
    let (sender, mut notices) = Notices::channel();
    let guest = async {
        let Some(Terminal { kind, size, modes }) = agent.start().await.terminal else {
            panic!("no terminal");
        };
        assert_eq!(kind, b"xterm");
        assert_eq!((size.rows, size.columns), (30, 100));
        // RFC 4254 section 8: ECHO (53) is on, and 0 ends the list.
        let mut entries = modes.chunks_exact(5);
        assert!(entries.any(|entry| entry == [53, 0, 0, 0, 1]));
        assert_eq!(modes.last(), Some(&0));
        agent.output(b"!").await;
        let shown = tokio::task::spawn_blocking(move || reader.read_exact(&mut [0]));
        shown.await.unwrap().unwrap();
        assert!(terminal.modes().is_raw());
        terminal.resize(40, 120);
        sender.send(Notice::Resized).await.unwrap();
        let size = Size {
            rows: 40,
            columns: 120,
            pixel_width: 0,
            pixel_height: 0,
        };
        assert_eq!(agent.next().await, Some(HostFrame::Resize(size)));
        // In raw mode, Ctrl-C is an ordinary byte.
        terminal.send(b"\x03");
        assert_eq!(agent.next().await, Some(HostFrame::Input("\x03".into())));
        let hangup = Notice::Termination(Termination::Hangup);
        sender.send(hangup).await.unwrap();
        assert_eq!(agent.next().await, None);
    };
    let host = execute_over(
        connection,
        words(&["sh"]),
        streams,
        Some(&pty),
        &mut notices,
    );
    let (ending, ()) = tokio::join!(host, guest);
    assert_eq!(ending.unwrap().exit_code(), 129);
    assert_eq!(terminal.modes(), before);
}

#[tokio::test]
async fn refusal_by_agent_names_program_user_or_directory() {
    let hostile = "no room\u{1b}]0;evil\u{7} left\n\u{1b}[2J";
    for (refusal, message, cause) in [
        (
            Refusal::NotFound,
            "program `frob` not found in the sandbox",
            "",
        ),
        (
            Refusal::NotExecutable(13),
            "could not execute the program `frob` in the sandbox",
            "Permission denied (os error 13)",
        ),
        (
            Refusal::NoUser,
            "user `nobody here` not found in the sandbox",
            "",
        ),
        (
            Refusal::Directory(2),
            "could not enter the directory `/no such` in the sandbox",
            "No such file or directory (os error 2)",
        ),
        (
            Refusal::Failed(hostile.into()),
            "the sandbox refused: no room left",
            "",
        ),
    ] {
        let (connection, mut agent) = Agent::connected();
        let guest = async {
            agent.next().await;
            agent.respond(Response::Refused(refusal)).await;
        };
        let mut execute = words(&["frob", "--all"]);
        execute.user = "nobody here".into();
        execute.directory = Some(b"/no such".into());
        let (finished, ()) = tokio::join!(run(connection, execute, null()), guest);
        let error = finished.ending.unwrap_err();
        assert_eq!(error.to_string(), message);
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(source.unwrap_or_default(), cause);
    }
}

#[tokio::test]
async fn refusal_before_request_is_read_is_reported() {
    let (connection, mut agent) = Agent::connected();
    agent
        .respond(Response::Refused(Refusal::Failed("full".into())))
        .await;
    drop(agent);
    let error = run(connection, words(&["x"]), null()).await.ending;
    assert_eq!(error.unwrap_err().to_string(), "the sandbox refused: full");
}

#[tokio::test]
async fn command_above_frame_limit_is_refused_on_host() {
    let (connection, _agent) = Agent::connected();
    let long = "x".repeat(5 << 20);
    let finished = run(connection, words(&["echo", &long]), null()).await;
    let error = finished.ending.unwrap_err();
    assert!(
        matches!(inside(&error), AgentError::CommandTooLong { .. }),
        "{error:?}"
    );
}

/// A violation of the protocol by the agent.
enum Violation {
    Frame(GuestFrame),
    Raw(Vec<u8>),
    Silence,
}

#[tokio::test]
async fn protocol_violation_by_agent_returns_error() {
    let status = Response::Status(Status {
        kernel: String::new(),
        uptime_s: 0,
        load_percent: [0; 3],
        memory_total: 0,
        memory_available: 0,
        disk_total: 0,
        disk_available: 0,
        addresses: Vec::new(),
    });
    let too_long = u32::try_from(GUEST_FRAME_LIMIT + 1).unwrap().to_be_bytes();
    type Expected = fn(&AgentError) -> bool;
    let cases: [(Violation, bool, Expected); 8] = [
        (Violation::Raw(too_long.into()), true, |error| {
            matches!(error, AgentError::TooLong(_))
        }),
        (Violation::Raw(vec![0, 0, 0, 1, 99]), true, |error| {
            matches!(error, AgentError::Frame(_))
        }),
        (Violation::Raw(vec![0, 0, 0, 0]), true, |error| {
            matches!(error, AgentError::Frame(_))
        }),
        // Half a frame, and then the end of the stream.
        (Violation::Raw(vec![0, 0, 1]), true, |error| {
            matches!(error, AgentError::Lost(Some(_)))
        }),
        (Violation::Silence, true, |error| {
            matches!(error, AgentError::Lost(None))
        }),
        (Violation::Silence, false, |error| {
            matches!(error, AgentError::Lost(None))
        }),
        (
            Violation::Frame(GuestFrame::Response(status)),
            true,
            |error| matches!(error, AgentError::Unexpected),
        ),
        (
            Violation::Frame(GuestFrame::Output("early".into())),
            false,
            |error| matches!(error, AgentError::Unexpected),
        ),
    ];
    for (violation, started, expected) in cases {
        let (connection, mut agent) = Agent::connected();
        let guest = async move {
            if started {
                agent.start().await;
                agent.output(b"before").await;
            } else {
                agent.next().await;
            }
            match violation {
                Violation::Frame(frame) => agent.send(frame).await,
                Violation::Raw(bytes) => agent.to_host.get_mut().write_all(&bytes).await.unwrap(),
                Violation::Silence => {}
            }
        };
        let (finished, ()) = tokio::join!(run(connection, words(&["x"]), null()), guest);
        let error = finished.ending.unwrap_err();
        assert!(expected(inside(&error)), "{error:?}");
        let shown: &[u8] = if started { b"before" } else { b"" };
        assert_eq!(finished.output, shown, "{error:?}");
    }
}

#[tokio::test]
async fn frames_after_end_are_ignored() {
    let (connection, mut agent) = Agent::connected();
    let guest = async {
        agent.start().await;
        agent.end(Ended::Exited(5)).await;
        // The host may already have closed the stream.
        for frame in [
            GuestFrame::Output("late".into()),
            GuestFrame::Response(Response::Ended(Ended::Exited(6))),
        ] {
            let _ = agent.to_host.send(frame.encode()).await;
        }
    };
    let (finished, ()) = tokio::join!(run(connection, words(&["x"]), null()), guest);
    assert_eq!(finished.ending.unwrap(), Ending::Exited(5));
    assert_eq!(finished.output, b"");
}

#[tokio::test]
async fn request_accepts_only_its_own_answer() {
    for (frame, expected) in [
        (GuestFrame::Response(Response::Done), Ok(Response::Done)),
        (
            GuestFrame::Response(Response::Refused(Refusal::Failed("busy".into()))),
            Err("the sandbox refused: busy"),
        ),
        (
            GuestFrame::Output("?".into()),
            Err("the sandbox's guest agent sent an unexpected answer"),
        ),
    ] {
        let (stream, mut agent) = Agent::with_stream();
        let guest = async {
            assert_eq!(agent.next().await, Some(HostFrame::Request(Request::Flush)));
            agent.send(frame).await;
        };
        let (answer, ()) = tokio::join!(ask(stream, Request::Flush), guest);
        let answer = answer.map_err(|error| error.to_string());
        assert_eq!(answer, expected.map_err(ToOwned::to_owned));
    }
}
