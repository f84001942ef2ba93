//! Running one command over a connection.

use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Pty};

use super::client::Connection;
use super::error::SshError;
use super::signals::{killed_by, request_of};
use crate::{Arrival, Ending, FromGuest, PtyRequest, SessionFuture, ToGuest};
use sandbox_host::notices::{Notices, Termination};
use sandbox_host::streams::Streams;
use sandbox_host::terminal::WindowSize;

/// `SSH_EXTENDED_DATA_STDERR` (RFC 4254 section 5.2).
const EXTENDED_DATA_STDERR: u32 = 1;

impl Connection {
    /// Runs `command` (a line for the user's login shell) with `streams`, and with a
    /// pseudo-terminal if `pty` is given. Forwards terminations in `notices` as signals to the
    /// command, and resizes to its terminal. A second Ctrl-C within two seconds abandons the
    /// command.
    ///
    /// Several commands can share a connection, but one with unread output blocks the others.
    ///
    /// # Errors
    /// Fails if the connection or a local stream fails. A failure of the command is an [`Ending`].
    pub fn execute<'a>(
        &'a self,
        command: Vec<u8>,
        streams: Streams,
        pty: Option<&'a PtyRequest>,
        notices: &'a mut Notices,
    ) -> SessionFuture<'a, Result<Ending, SshError>> {
        Box::pin(crate::run(self.start(command, pty), streams, pty, notices))
    }

    /// Opens a session, with a terminal if `pty` is given, and starts the command.
    async fn start(
        &self,
        command: Vec<u8>,
        pty: Option<&PtyRequest>,
    ) -> Result<(ChannelWriteHalf<Msg>, Receiving<'_>), SshError> {
        let (mut from_guest, to_guest) = self.session().await?.split();
        if let Some(pty) = pty {
            let size = pty.size();
            let modes: Vec<(Pty, u32)> = pty
                .modes()
                .into_iter()
                .filter_map(|(opcode, value)| Some((Pty::from_u8(opcode)?, value)))
                .collect();
            let asked = to_guest.request_pty(
                true,
                &pty.term,
                size.columns.into(),
                size.rows.into(),
                size.pixel_width.into(),
                size.pixel_height.into(),
                &modes,
            );
            asked.await.map_err(|_| self.lost())?;
            self.confirmed("open a terminal", &mut from_guest).await?;
        }
        let asked = to_guest.exec(true, command);
        asked.await.map_err(|_| self.lost())?;
        self.confirmed("run a command", &mut from_guest).await?;
        let receiving = Receiving {
            connection: self,
            from_guest,
            status: None,
        };
        Ok((to_guest, receiving))
    }

    /// Waits for the answer to the last request.
    async fn confirmed(
        &self,
        action: &'static str,
        from_guest: &mut ChannelReadHalf,
    ) -> Result<(), SshError> {
        loop {
            match from_guest.wait().await {
                Some(ChannelMsg::Success) => return Ok(()),
                Some(ChannelMsg::Failure | ChannelMsg::Close) => {
                    return Err(SshError::RequestRefused { action });
                }
                Some(_) => {}
                None => return Err(self.lost()),
            }
        }
    }
}

// `Receiving` reports a lost connection.
impl ToGuest for ChannelWriteHalf<Msg> {
    async fn input(&self, piece: Vec<u8>) -> bool {
        self.data_bytes(piece).await.is_ok()
    }

    async fn end_input(&self) {
        let _ = self.eof().await;
    }

    async fn signal(&self, termination: Termination) {
        let _ = self.signal(request_of(termination)).await;
    }

    async fn resize(&self, size: WindowSize) {
        let _ = self
            .window_change(
                size.columns.into(),
                size.rows.into(),
                size.pixel_width.into(),
                size.pixel_height.into(),
            )
            .await;
    }
}

/// The receiving half of a command, with its ending once the server has reported it.
struct Receiving<'a> {
    connection: &'a Connection,
    from_guest: ChannelReadHalf,
    status: Option<Ending>,
}

impl FromGuest for Receiving<'_> {
    type Error = SshError;

    async fn next(&mut self) -> Result<Arrival, SshError> {
        loop {
            let ending = match self.from_guest.wait().await {
                Some(ChannelMsg::Data { data }) => return Ok(Arrival::Output(Box::new(data))),
                Some(ChannelMsg::ExtendedData {
                    data,
                    ext: EXTENDED_DATA_STDERR,
                }) => return Ok(Arrival::Error(Box::new(data))),
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    Ending::Exited(u8::try_from(exit_status).unwrap_or(u8::MAX))
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    Ending::Killed(killed_by(&signal_name))
                }
                Some(ChannelMsg::Close) => {
                    return self
                        .status
                        .map(Arrival::Complete)
                        .ok_or(SshError::NoExitStatus);
                }
                Some(_) => continue,
                None => return Err(self.connection.lost()),
            };
            self.status = Some(ending);
            return Ok(Arrival::Exited(ending));
        }
    }
}
