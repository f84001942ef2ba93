//! Commands in a running sandbox.
//!
//! Uses the client in `agent` and no shell. Arguments arrive unchanged, input and output are bytes,
//! and an exit status other than 0 is a result, not an error.

mod child;
mod conversation;
mod credit;
mod status;
mod terminal;
mod variable;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use sandbox_protocol::agent::message::{Execute, Program};
use tokio::io::AsyncReadExt;

use crate::error::Error;

pub use child::{Child, ChildControl, ChildStderr, ChildStdin, ChildStdout};
pub use status::{ExitStatus, Output};
pub use terminal::{Terminal, TerminalSize};
pub use variable::{CommandError, EnvironmentVariable};

pub use conversation::Connection;

/// The default user of a command.
const DEFAULT_USER: &str = "dev";

/// A command to run in a sandbox. [`Sandbox::exec`](crate::Sandbox::exec) creates it.
///
/// The defaults are the user `dev`, the environment of a login, no terminal and no deadline. The
/// current directory is the workspace, or the home directory in a sandbox without a workspace.
#[derive(Debug)]
#[must_use = "a command runs once it is spawned"]
pub struct Exec {
    socket: PathBuf,
    program: Option<OsString>,
    arguments: Vec<OsString>,
    user: String,
    directory: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    terminal: Option<Terminal>,
    timeout: Option<Duration>,
}

impl Exec {
    /// Creates a command for the agent behind `socket`; without `program`, a login shell.
    pub(crate) fn new(
        socket: PathBuf,
        program: Option<OsString>,
        directory: Option<PathBuf>,
    ) -> Self {
        Self {
            socket,
            program,
            arguments: Vec::new(),
            user: DEFAULT_USER.into(),
            directory,
            environment: Vec::new(),
            terminal: None,
            timeout: None,
        }
    }

    /// Appends an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().into());
        self
    }

    /// Appends arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let arguments = arguments.into_iter().map(|word| word.as_ref().into());
        self.arguments.extend(arguments);
        self
    }

    /// Sets a variable of the program's environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Sets variables of the program's environment.
    pub fn envs(
        self,
        variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Self {
        let set = |exec: Self, (name, value)| exec.env(name, value);
        variables.into_iter().fold(self, set)
    }

    /// Sets the program's current directory in the guest.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Sets the user in the guest, by name or number.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = user.into();
        self
    }

    /// Gives the program a terminal. Its error output then arrives as part of its output.
    pub fn terminal(mut self, terminal: Terminal) -> Self {
        self.terminal = Some(terminal);
        self
    }

    /// Sets how long the program may run, from its start. Afterwards, [`Child::wait`],
    /// [`status`](Self::status) and [`output`](Self::output) kill it and fail with
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Starts the program.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) and
    /// [`ErrorKind::NotExecutable`](crate::ErrorKind::NotExecutable) if the guest cannot run the
    /// program, [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if an argument or a
    /// variable is invalid, and [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected) if
    /// the guest agent cannot be reached.
    pub async fn spawn(self) -> Result<Child, Error> {
        let timeout = self.timeout;
        let (socket, execute) = self.into_request()?;
        let connection = Connection::open(&socket).await?;
        Ok(connection.start(execute, timeout).await?)
    }

    /// Runs the program without input and discards its output.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn) and [`Child::wait`].
    pub async fn status(self) -> Result<ExitStatus, Error> {
        let mut child = self.spawn().await?;
        child.stdin = None;
        child.stdout = None;
        child.stderr = None;
        child.wait().await
    }

    /// Runs the program without input and collects its whole output in memory.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn) and [`Child::wait`].
    pub async fn output(self) -> Result<Output, Error> {
        let mut child = self.spawn().await?;
        child.stdin = None;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let status = {
            let (mut from_stdout, mut from_stderr) = (child.stdout.take(), child.stderr.take());
            let read_stdout = async {
                match &mut from_stdout {
                    Some(stream) => stream.read_to_end(&mut stdout).await.map(drop),
                    None => Ok(()),
                }
            };
            let read_stderr = async {
                match &mut from_stderr {
                    Some(stream) => stream.read_to_end(&mut stderr).await.map(drop),
                    None => Ok(()),
                }
            };
            let wait = child.wait();
            let (status, read_stdout, read_stderr) = tokio::join!(wait, read_stdout, read_stderr);
            let status = status?;
            read_stdout.and(read_stderr).map_err(Error::disconnected)?;
            status
        };
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }

    /// Returns the agent's socket and the request.
    fn into_request(self) -> Result<(PathBuf, Execute), CommandError> {
        let bytes = |text: OsString| text.into_vec();
        let program = match self.program {
            Some(program) if program.is_empty() => return Err(CommandError::Empty),
            Some(program) => {
                let words = std::iter::once(program).chain(self.arguments);
                Program::Words(words.map(bytes).collect())
            }
            None => Program::LoginShell,
        };
        let has_null = |words: &[Vec<u8>]| words.iter().any(|word| word.contains(&0));
        let directory = self.directory.map(PathBuf::into_os_string).map(bytes);
        if matches!(&program, Program::Words(words) if has_null(words)) {
            return Err(CommandError::NullByte {
                what: "the command",
            });
        }
        if directory.as_ref().is_some_and(|path| path.contains(&0)) {
            return Err(CommandError::NullByte {
                what: "the directory",
            });
        }
        let environment = self
            .environment
            .into_iter()
            .map(|(name, value)| {
                let variable = EnvironmentVariable::new(name, value)?;
                let bytes = |text: &OsStr| text.as_bytes().to_vec();
                Ok((bytes(variable.name()), bytes(variable.value())))
            })
            .collect::<Result<_, CommandError>>()?;
        let execute = Execute {
            program,
            user: self.user,
            directory,
            environment,
            terminal: self.terminal.map(Terminal::into_message),
        };
        Ok((self.socket, execute))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_contains_arguments_unchanged() {
        let exec = Exec::new("socket".into(), Some("printf".into()), None)
            .args(["it's $HOME", ""])
            .current_dir("/no such")
            .env("A", "b=c")
            .user("1000");
        let (_, execute) = exec.into_request().unwrap();
        let expected = Execute {
            program: Program::Words(vec![b"printf".into(), b"it's $HOME".into(), b"".into()]),
            user: "1000".into(),
            directory: Some(b"/no such".into()),
            environment: vec![(b"A".into(), b"b=c".into())],
            terminal: None,
        };
        assert_eq!(execute, expected);
    }

    #[test]
    fn request_with_invalid_arguments_is_rejected() {
        let exec = |program: &str| Exec::new("socket".into(), Some(program.into()), None);
        for exec in [
            exec(""),
            exec("a\0b"),
            exec("a").arg("\0"),
            exec("a").env("A=B", "x"),
            exec("a").current_dir("\0"),
        ] {
            assert!(exec.into_request().is_err());
        }
    }
}
