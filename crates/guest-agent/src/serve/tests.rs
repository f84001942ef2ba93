//! Tests of the real serve loop. Its programs run on this machine, as the user
//! who runs the tests.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use sandbox_protocol::agent::frame::{self, DATA_LIMIT, GuestFrame, HostFrame, INPUT_WINDOW};
use sandbox_protocol::agent::message::{
    Ended, Execute, Program, Refusal, Request, Response, Size, Terminal,
};
use sandbox_protocol::agent::mux::{self, Opener, Stream};
use tokio::io::{ReadHalf, WriteHalf};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use super::conversation;
use crate::execute::Places;

/// Starts a conversation with an agent. Its programs end with the test's
/// runtime.
fn agent() -> Opener {
    let (near, far) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move { conversation::serve(far, &Places::default()).await });
    let (opener, drive) = mux::host(near);
    tokio::spawn(drive);
    opener
}

fn request(words: &[&str]) -> Execute {
    Execute {
        program: Program::Words(words.iter().map(|word| word.as_bytes().to_vec()).collect()),
        user: rustix::process::getuid().as_raw().to_string(),
        directory: Some(b"/".to_vec()),
        environment: Vec::new(),
        terminal: None,
    }
}

fn shell(script: &str) -> Execute {
    request(&["sh", "-c", script])
}

fn terminal(rows: u16, columns: u16) -> Terminal {
    Terminal {
        kind: b"vt100".to_vec(),
        size: Size {
            rows,
            columns,
            pixel_width: 0,
            pixel_height: 0,
        },
        modes: Vec::new(),
    }
}

struct Session {
    from_guest: FramedRead<ReadHalf<Stream>, LengthDelimitedCodec>,
    to_guest: FramedWrite<WriteHalf<Stream>, LengthDelimitedCodec>,
    output: Vec<u8>,
    error: Vec<u8>,
    taken: usize,
}

impl Session {
    async fn open(agent: &Opener, request: Request) -> Self {
        let (reader, writer) = tokio::io::split(agent.open().await.unwrap());
        let mut session = Self {
            from_guest: FramedRead::new(reader, frame::guest_codec()),
            to_guest: FramedWrite::new(writer, frame::host_codec()),
            output: Vec::new(),
            error: Vec::new(),
            taken: 0,
        };
        session.send(HostFrame::Request(request)).await;
        session
    }

    async fn execute(agent: &Opener, request: Execute) -> Self {
        let mut session = Self::open(agent, Request::Execute(request)).await;
        assert_eq!(session.response().await, Response::Started);
        session
    }

    async fn send(&mut self, frame: HostFrame) {
        self.to_guest.send(frame.encode()).await.unwrap();
    }

    async fn input(&mut self, bytes: &[u8]) {
        self.send(HostFrame::Input(Bytes::copy_from_slice(bytes)))
            .await;
    }

    async fn response(&mut self) -> Response {
        self.next_response().await.expect("the stream ended")
    }

    /// Collects output until the next response or the end of the stream.
    async fn next_response(&mut self) -> Option<Response> {
        while let Some(bytes) = self.from_guest.next().await {
            if let Some(response) = self.take(&bytes.unwrap().freeze()) {
                return Some(response);
            }
        }
        None
    }

    fn take(&mut self, bytes: &Bytes) -> Option<Response> {
        match GuestFrame::decode(bytes).unwrap() {
            GuestFrame::Response(response) => return Some(response),
            GuestFrame::Output(data) => self.output.extend(data),
            GuestFrame::ErrorOutput(data) => self.error.extend(data),
            GuestFrame::InputTaken(length) => self.taken += length as usize,
        }
        None
    }

    /// Collects output until it contains `text`.
    async fn expect(&mut self, text: &str) {
        while !self.text().contains(text) {
            let bytes = self.from_guest.next().await.expect(text).unwrap();
            assert_eq!(self.take(&bytes.freeze()), None, "{}", self.text());
        }
        self.output.clear();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

async fn ended(agent: &Opener, execute: Execute) -> Response {
    let mut session = Session::open(agent, Request::Execute(execute)).await;
    match session.response().await {
        Response::Started => session.response().await,
        refused => refused,
    }
}

#[tokio::test]
async fn execute_reports_exit_statuses_and_signals() {
    let agent = agent();
    for (execute, expected) in [
        (request(&["true"]), Ended::Exited(0)),
        (shell("exit 3"), Ended::Exited(3)),
        (shell("exit 255"), Ended::Exited(255)),
        (shell("kill -9 $$"), Ended::Killed(9)),
        (shell("kill -TERM $$"), Ended::Killed(15)),
    ] {
        let shown = format!("{execute:?}");
        assert_eq!(
            ended(&agent, execute).await,
            Response::Ended(expected),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn execute_refuses_invalid_requests() {
    let agent = agent();
    let with = |change: fn(&mut Execute)| {
        let mut execute = request(&["true"]);
        change(&mut execute);
        execute
    };
    for (execute, refusal) in [
        (request(&["no-such-command"]), Refusal::NotFound),
        (request(&["/no/such/command"]), Refusal::NotFound),
        (request(&[""]), Refusal::NotFound),
        (request(&[]), Refusal::NotFound),
        (request(&["/etc/passwd"]), Refusal::NotExecutable(13)),
        (request(&["/etc"]), Refusal::NotExecutable(13)),
        (
            with(|execute| execute.user = "nobody-here".into()),
            Refusal::NoUser,
        ),
        (
            with(|execute| execute.directory = Some(b"/no such place".to_vec())),
            Refusal::Directory(2),
        ),
        (
            with(|execute| execute.directory = Some(b"/etc/passwd".to_vec())),
            Refusal::Directory(20),
        ),
        (
            with(|execute| execute.environment = vec![(b"A=".to_vec(), Vec::new())]),
            Refusal::Failed("invalid environment variable `A=`".into()),
        ),
    ] {
        let shown = format!("{execute:?}");
        assert_eq!(
            ended(&agent, execute).await,
            Response::Refused(refusal),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn execute_passes_words_unchanged() {
    let agent = agent();
    let words = [
        "", " ", "a  b", "'", "\"", "$HOME", "`id`", "*", "a\nb", "\\", "--", "größe", "",
    ];
    let mut execute = request(&["printf", "<%s>\\0"]);
    let Program::Words(program) = &mut execute.program else {
        unreachable!()
    };
    program.extend(words.map(|word| word.as_bytes().to_vec()));
    program.push(vec![0xff, 0x80]);
    let mut session = Session::execute(&agent, execute).await;
    assert_eq!(session.response().await, Response::Ended(Ended::Exited(0)));
    let mut expected: Vec<u8> = words
        .iter()
        .flat_map(|word| format!("<{word}>\0").into_bytes())
        .collect();
    expected.extend(b"<\xff\x80>\0");
    assert_eq!(session.output, expected);
}

#[tokio::test]
async fn program_gets_environment_directory_limits_and_session() {
    let agent = agent();
    let mut execute = shell(
        "echo \"$A|$HOME|$PWD|$(umask)|$(ulimit -n)|$(ps -o sid= -p $$ | tr -d ' ')\"; \
         ls -l /proc/$$/fd | grep -cE 'anon_inode|ptmx'; \
         grep -E 'SigBlk' /proc/self/status; echo $$ >&2",
    );
    execute.directory = Some(b"/usr/lib".to_vec());
    execute.environment = vec![(b"A".to_vec(), b"one two".to_vec())];
    let mut session = Session::execute(&agent, execute).await;
    assert_eq!(session.response().await, Response::Ended(Ended::Exited(0)));
    let pid = String::from_utf8(session.error.clone()).unwrap();
    let home = home_by_accounts();
    let text = session.text();
    let mut lines = text.lines();
    let first = lines.next().unwrap();
    let expected = format!("one two|{}|/usr/lib|0022|1024|{}", home, pid.trim());
    assert_eq!(first, expected);
    // No descriptor of the agent, and no blocked signal.
    assert_eq!(lines.next(), Some("0"));
    assert_eq!(lines.next(), Some("SigBlk:\t0000000000000000"));
}

/// Returns the user's home directory in `/etc/passwd`. `HOME` of the tests may
/// differ.
fn home_by_accounts() -> String {
    let user = rustix::process::getuid().as_raw();
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap();
    let mut rows = accounts
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let row = rows.find(|row| row.get(2) == Some(&&*user.to_string()));
    row.unwrap()[5].to_owned()
}

#[tokio::test]
async fn megabytes_in_both_directions_arrive_unchanged() {
    let agent = agent();
    let sent: Vec<u8> = (0..5_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let mut session = Session::execute(&agent, request(&["cat"])).await;
    let mut offset = 0;
    while session.output.len() < sent.len() {
        let room = INPUT_WINDOW - (offset - session.taken);
        let rest = &sent[offset..];
        let piece = &rest[..rest.len().min(room).min(DATA_LIMIT)];
        if piece.is_empty() {
            let bytes = session.from_guest.next().await.unwrap().unwrap();
            assert_eq!(session.take(&bytes.freeze()), None);
        } else {
            session.input(piece).await;
            offset += piece.len();
        }
    }
    session.send(HostFrame::InputEnd).await;
    assert_eq!(session.response().await, Response::Ended(Ended::Exited(0)));
    assert!(session.output == sent);
}

#[tokio::test]
async fn signal_behind_unread_input_is_delivered() {
    let agent = agent();
    let script = "trap 'exit 7' INT; echo started; while :; do sleep 0.05; done";
    let mut session = Session::execute(&agent, shell(script)).await;
    session.expect("started").await;
    for _ in 0..INPUT_WINDOW / DATA_LIMIT {
        session.input(&[0; DATA_LIMIT]).await;
    }
    session.send(HostFrame::Signal(2)).await;
    assert_eq!(session.response().await, Response::Ended(Ended::Exited(7)));
}

#[tokio::test]
async fn input_for_a_closed_descriptor_is_acknowledged() {
    let agent = agent();
    let mut session = Session::execute(&agent, shell("exec <&-; echo closed; sleep 1000")).await;
    session.expect("closed").await;
    while session.taken < INPUT_WINDOW {
        session.input(&[0; DATA_LIMIT]).await;
        let bytes = session.from_guest.next().await.unwrap().unwrap();
        assert_eq!(session.take(&bytes.freeze()), None);
    }
    session.send(HostFrame::Signal(15)).await;
    assert_eq!(session.response().await, Response::Ended(Ended::Killed(15)));
}

#[tokio::test]
async fn background_process_keeps_the_stream_open() {
    let agent = agent();
    let mut session =
        Session::execute(&agent, shell("exec 3<&0; (read x <&3; echo late) & exit 4")).await;
    let exited = Response::Exited(Ended::Exited(4));
    assert_eq!(session.response().await, exited);
    session.input(b"\n").await;
    assert_eq!(session.response().await, Response::Ended(Ended::Exited(4)));
    assert_eq!(session.text(), "late\n");

    // A signal also reaches it.
    let mut session = Session::execute(&agent, shell("sleep 1000 & exit 5")).await;
    assert!(matches!(session.response().await, Response::Exited(_)));
    session.send(HostFrame::Signal(15)).await;
    assert_eq!(session.response().await, Response::Ended(Ended::Exited(5)));
}

#[tokio::test]
async fn closed_stream_hangs_up_the_program() {
    let agent = agent();
    let file = std::env::temp_dir().join(format!("guest-hangup-{}", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let script = format!(
        "trap 'echo bye; echo bye >&2; echo hung up > {0}; exit' HUP; \
         echo started; while :; do sleep 0.05; done",
        file.display()
    );
    let mut session = Session::execute(&agent, shell(&script)).await;
    session.expect("started").await;
    drop(session);
    assert_eq!(content_of(&file).await, "hung up\n");

    // The end of the whole conversation, with a stopped program.
    std::fs::remove_file(&file).unwrap();
    let (near, far) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move { conversation::serve(far, &Places::default()).await });
    let (opener, drive) = mux::host(near);
    let drive = tokio::spawn(drive);
    let mut session = Session::execute(&opener, shell(&script)).await;
    session.expect("started").await;
    session.send(HostFrame::Signal(19)).await;
    drive.abort();
    assert_eq!(content_of(&file).await, "hung up\n");
    std::fs::remove_file(&file).unwrap();
}

async fn content_of(file: &PathBuf) -> String {
    loop {
        match std::fs::read_to_string(file) {
            Ok(content) if !content.is_empty() => return content,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

#[tokio::test]
async fn terminal_follows_size_changes() {
    let agent = agent();
    let mut execute = shell(
        "trap 'stty size' WINCH; tty; stty size; echo $TERM; \
         while ! read line; do :; done; echo got $line; exit 5",
    );
    execute.terminal = Some(terminal(24, 80));
    let mut session = Session::execute(&agent, execute).await;
    session.expect("/dev/pts/").await;
    session.expect("24 80\r\nvt100\r\n").await;
    let size = terminal(31, 97).size;
    session.send(HostFrame::Resize(size)).await;
    session.input(b"a line\r").await;
    let response = session.response().await;
    let text = session.text();
    assert!(text.contains("31 97\r\n"), "{text}");
    assert!(text.ends_with("got a line\r\n"), "{text}");
    assert_eq!(response, Response::Ended(Ended::Exited(5)));
}

#[tokio::test]
async fn terminal_turns_ctrl_c_into_a_signal() {
    let agent = agent();
    let mut execute = shell("echo started; exec sleep 1000");
    execute.terminal = Some(terminal(24, 80));
    let mut session = Session::execute(&agent, execute).await;
    session.expect("started").await;
    session.input(b"\x03").await;
    assert_eq!(session.response().await, Response::Ended(Ended::Killed(2)));
}

#[tokio::test]
async fn sixty_programs_run_at_once() {
    let agent = agent();
    let sessions = (0..60).map(|number| {
        let agent = agent.clone();
        tokio::spawn(async move {
            let script = format!("cat; echo {number}; exit {number}");
            let mut session = Session::execute(&agent, shell(&script)).await;
            session.input(&vec![b'x'; number * 1000]).await;
            session.send(HostFrame::InputEnd).await;
            let ended = Ended::Exited(u8::try_from(number).unwrap());
            assert_eq!(session.response().await, Response::Ended(ended));
            let expected = "x".repeat(number * 1000) + &format!("{number}\n");
            assert!(session.text() == expected, "{number}");
        })
    });
    for session in sessions.collect::<Vec<_>>() {
        session.await.unwrap();
    }
}

#[tokio::test]
async fn unread_output_blocks_no_other_program() {
    let agent = agent();
    let unread = Session::execute(&agent, request(&["yes"])).await;
    assert_eq!(
        ended(&agent, request(&["true"])).await,
        Response::Ended(Ended::Exited(0))
    );
    drop(unread);
}

#[tokio::test]
async fn status_is_the_only_response_of_its_stream() {
    let agent = agent();
    let mut session = Session::open(&agent, Request::Status).await;
    let Response::Status(status) = session.response().await else {
        panic!("no status");
    };
    assert!(status.memory_total > 0);
    assert_eq!(session.next_response().await, None);
}
