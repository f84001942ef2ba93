//! Tests with a simulated agent and a simulated QEMU.

use std::os::unix::fs::PermissionsExt;

use futures_util::StreamExt;
use sandbox_protocol::agent::frame::{GuestFrame, guest_codec};
use sandbox_protocol::agent::message::Refusal;
use sandbox_protocol::agent::mux::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio_util::codec::FramedRead;

use super::agent_socket::SESSION_LIMIT;
use super::*;
use sandbox_host::directories::Directories;

const PATIENCE: Duration = Duration::from_secs(60);

/// A link, and a listener in place of QEMU's port.
struct Bench {
    link: AgentLink,
    port: UnixListener,
    layout: StateLayout,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let directories = Directories {
            state: path.clone(),
            data: path.clone(),
            config: path.clone(),
            home: path.clone(),
            runtime: path,
        };
        let layout = StateLayout::new(&directories, &"sandbox-box".parse().unwrap());
        std::fs::create_dir_all(layout.directory()).unwrap();
        let port = UnixListener::bind(layout.agent_port_socket()).unwrap();
        Self {
            link: AgentLink::start(&layout).unwrap(),
            port,
            layout,
            _directory: directory,
        }
    }

    /// Accepts and answers the next call.
    async fn answer(&self) -> Incoming<UnixStream> {
        let (mut port, _) = self.port.accept().await.unwrap();
        preamble::answer(&mut port).await.unwrap();
        Incoming::new(port)
    }

    async fn enter(&self) -> UnixStream {
        UnixStream::connect(self.layout.agent_socket())
            .await
            .unwrap()
    }
}

/// Echoes the bytes of every stream.
async fn echo(mut incoming: Incoming<UnixStream>) {
    while let Ok(Some(stream)) = incoming.next().await {
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
            let _ = writer.shutdown().await;
        });
    }
}

/// Answers every request with `response`.
async fn respond(mut incoming: Incoming<UnixStream>, response: Response) {
    use futures_util::SinkExt;
    while let Ok(Some(stream)) = incoming.next().await {
        let frame = GuestFrame::Response(response.clone()).encode();
        tokio::spawn(async move {
            let (reader, writer) = tokio::io::split(stream);
            let mut requests =
                FramedRead::new(reader, sandbox_protocol::agent::frame::host_codec());
            requests.next().await.unwrap().unwrap();
            tokio_util::codec::FramedWrite::new(writer, guest_codec())
                .send(frame)
                .await
                .unwrap();
        });
    }
}

/// Returns the reason of a refusal at the agent socket.
async fn refusal(connection: UnixStream) -> String {
    let frame = FramedRead::new(connection, guest_codec()).next().await;
    let frame = frame.unwrap().unwrap().freeze();
    match GuestFrame::decode(&frame).unwrap() {
        GuestFrame::Response(Response::Refused(Refusal::Failed(reason))) => reason,
        other => panic!("{other:?}"),
    }
}

async fn round_trip(connection: &mut UnixStream) {
    connection.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"ping");
}

#[tokio::test]
async fn link_finds_answer_behind_noise() {
    let mut bench = Bench::new();
    let (mut port, _) = bench.port.accept().await.unwrap();
    port.write_all(&[0x55; 100_000]).await.unwrap();
    port.write_all(&preamble::encode(b"an older callers"))
        .await
        .unwrap();
    preamble::answer(&mut port).await.unwrap();
    bench.link.answered().await;
    tokio::spawn(respond(Incoming::new(port), Response::Done));
    let answer = bench.link.ask(Request::Flush, PATIENCE).await;
    assert_eq!(answer.unwrap(), Response::Done);
}

#[tokio::test]
async fn link_starts_another_conversation_after_a_broken_one() {
    let bench = Bench::new();
    let mut first = bench.answer().await;
    let mut inside = bench.enter().await;
    inside.write_all(b"x").await.unwrap();
    assert!(first.next().await.unwrap().is_some());
    drop(first);
    // The open session ended.
    assert_eq!(inside.read(&mut [0]).await.unwrap(), 0);
    let (mut port, _) = bench.port.accept().await.unwrap();
    preamble::answer(&mut port).await.unwrap();
    // An agent that restarts on the same port.
    preamble::answer(&mut port).await.unwrap_err();
    drop(port);
    tokio::spawn(echo(bench.answer().await));
    round_trip(&mut bench.enter().await).await;
}

#[tokio::test]
async fn link_repeats_a_lost_call() {
    let bench = Bench::new();
    let (mut port, _) = bench.port.accept().await.unwrap();
    // An earlier agent has read it.
    port.read_exact(&mut [0; preamble::LENGTH]).await.unwrap();
    port.write_all(&preamble::encode(&preamble::WAITING))
        .await
        .unwrap();
    tokio::spawn(echo(bench.answer().await));
    round_trip(&mut bench.enter().await).await;
}

#[tokio::test]
async fn ask_reports_refusals_and_missed_deadlines() {
    let bench = Bench::new();
    let refusal = Response::Refused(Refusal::Failed("no".into()));
    let agent = tokio::spawn(respond(bench.answer().await, refusal));
    let error = bench.link.ask(Request::Flush, PATIENCE).await.unwrap_err();
    assert_eq!(error.to_string(), "the sandbox refused: no");
    agent.abort();
    let mut mute = bench.answer().await;
    let mute = tokio::spawn(async move {
        let mut streams = Vec::new();
        while let Ok(Some(stream)) = mute.next().await {
            streams.push(stream);
        }
    });
    let soon = Duration::from_millis(50);
    let error = bench.link.ask(Request::Flush, soon).await.unwrap_err();
    assert!(matches!(error, AgentError::Deadline { .. }), "{error:?}");
    mute.abort();
}

#[tokio::test]
async fn link_stops_calling_an_agent_of_another_version() {
    let bench = Bench::new();
    let (mut port, _) = bench.port.accept().await.unwrap();
    let mut call = [0; preamble::LENGTH];
    port.read_exact(&mut call).await.unwrap();
    // The version, behind twelve bytes of magic.
    call[15] = 99;
    port.write_all(&call).await.unwrap();
    assert_eq!(
        refusal(bench.enter().await).await,
        "the sandbox's guest agent is not running"
    );
    let error = bench.link.ask(Request::Flush, PATIENCE).await.unwrap_err();
    assert!(matches!(error, AgentError::Absent), "{error:?}");
}

#[tokio::test]
async fn agent_socket_passes_bytes_unchanged_in_both_directions() {
    let bench = Bench::new();
    tokio::spawn(echo(bench.answer().await));
    let socket = bench.layout.agent_socket();
    let mode = std::fs::metadata(socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let sent: Vec<u8> = (0..3_000_000u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let (mut reader, mut writer) = bench.enter().await.into_split();
    let write = async {
        writer.write_all(&sent).await.unwrap();
        // The end of one direction leaves the other open.
        writer.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (_, read) = tokio::join!(write, reader.read_to_end(&mut received));
    read.unwrap();
    assert!(received == sent);
}

#[tokio::test]
async fn session_ends_when_either_side_closes() {
    let bench = Bench::new();
    let mut incoming = bench.answer().await;
    let (streams, mut opened) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok(Some(stream)) = incoming.next().await {
            let _ = streams.send(stream);
        }
    });
    let mut command = bench.enter().await;
    command.write_all(b"x").await.unwrap();
    let mut stream = opened.recv().await.unwrap();
    drop(command);
    assert_eq!(stream.read(&mut [0; 2]).await.unwrap(), 1);
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);

    let mut command = bench.enter().await;
    command.write_all(b"x").await.unwrap();
    let stream = opened.recv().await.unwrap();
    drop(stream);
    assert_eq!(command.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn agent_socket_refuses_sessions_beyond_the_limit() {
    let bench = Bench::new();
    tokio::spawn(echo(bench.answer().await));
    let mut inside = Vec::new();
    for _ in 0..SESSION_LIMIT {
        let mut connection = bench.enter().await;
        round_trip(&mut connection).await;
        inside.push(connection);
    }
    assert_eq!(
        refusal(bench.enter().await).await,
        format!("{SESSION_LIMIT} commands are already running in it")
    );
    let mut leaving = inside.pop().unwrap();
    leaving.shutdown().await.unwrap();
    assert_eq!(leaving.read(&mut [0]).await.unwrap(), 0);
    drop(leaving);
    round_trip(&mut bench.enter().await).await;
    for connection in &mut inside {
        round_trip(connection).await;
    }
}

#[tokio::test]
async fn link_survives_streams_that_the_guest_opens() {
    let bench = Bench::new();
    let (mut port, _) = bench.port.accept().await.unwrap();
    preamble::answer(&mut port).await.unwrap();
    // An agent that plays the host's part of yamux and breaks its rules.
    let (opener, drive) = mux::host(port);
    let drive = tokio::spawn(drive);
    while opener.open().await.is_ok_and(|mut stream| {
        // Unread bytes of one stream must not stop the next.
        tokio::spawn(async move { stream.write_all(&[0; 4096]).await });
        true
    }) {}
    drive.await.unwrap();
    tokio::spawn(echo(bench.answer().await));
    round_trip(&mut bench.enter().await).await;
}
