//! A scripted SSH server, for behaviour that OpenSSH never shows or does not report.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use russh::keys::PrivateKey;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, Disconnect, Pty, Sig};
use sandbox::Endpoint;
use sandbox::inside::{KeyFiles, Keys};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// A request of the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Terminal {
        term: String,
        columns: u32,
        rows: u32,
        echo: Option<u32>,
    },
    Command(Vec<u8>),
    Signal(String),
    Size {
        columns: u32,
        rows: u32,
    },
}

/// The reaction of the server to a command.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behaviour {
    /// A signal kills the command.
    DiesOfSignals,
    /// Signals are ignored.
    IgnoresSignals,
    /// The server disconnects with a message that has terminal control sequences.
    Disconnects,
    /// The server reports an impossible status, and a signal with control sequences as its
    /// name.
    Nonsense,
    /// The server closes the session without a status.
    Silent,
}

struct Scripted {
    behaviour: Behaviour,
    asked: mpsc::UnboundedSender<Asked>,
}

/// Serves connections until the test ends. Returns the endpoint and the clients' requests.
pub(crate) async fn serve(
    directory: &Path,
    behaviour: Behaviour,
) -> (Endpoint, mpsc::UnboundedReceiver<Asked>) {
    let keys = KeyFiles::in_directory(directory);
    let host_key = Keys::generate("test").unwrap();
    keys.write("test", &host_key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let config = Arc::new(russh::server::Config {
        keys: vec![PrivateKey::from_openssh(&host_key.host_key_private).unwrap()],
        ..Default::default()
    });
    let (asked, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let asked = asked.clone();
            let handler = Scripted { behaviour, asked };
            let session = russh::server::run_stream(Arc::clone(&config), socket, handler);
            tokio::spawn(async move {
                if let Ok(running) = session.await {
                    // The client may disconnect at any time.
                    let _ = running.await;
                }
            });
        }
    });
    let endpoint = Endpoint {
        address,
        user: "dev".into(),
        identity: keys.identity(),
        host_key: host_key.host_key.parse().unwrap(),
        host_key_alias: "test".into(),
        known_hosts: keys.known_hosts(),
    };
    (endpoint, receiver)
}

impl Handler for Scripted {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        _pixel_width: u32,
        _pixel_height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let echo = modes.iter().find(|(mode, _)| *mode == Pty::ECHO);
        let asked = Asked::Terminal {
            term: term.into(),
            columns,
            rows,
            echo: echo.map(|(_, value)| *value),
        };
        self.asked.send(asked).unwrap();
        session.channel_success(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.asked.send(Asked::Command(command.to_vec())).unwrap();
        session.channel_success(channel)?;
        match self.behaviour {
            Behaviour::DiesOfSignals | Behaviour::IgnoresSignals => {
                session.data(channel, b"!".to_vec())?;
            }
            Behaviour::Disconnects => {
                session.disconnect(Disconnect::ByApplication, "\x1b]0;evil\x07bye\n\x1b[2J", "")?;
            }
            Behaviour::Nonsense => {
                session.exit_status_request(channel, 1 << 20)?;
                let name = Sig::Custom("\x1b[2J".into());
                session.exit_signal_request(channel, name, false, "\x1b[2J", "")?;
                session.close(channel)?;
            }
            Behaviour::Silent => session.close(channel)?,
        }
        Ok(())
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.asked
            .send(Asked::Signal(format!("{signal:?}")))
            .unwrap();
        if let Behaviour::DiesOfSignals = self.behaviour {
            session.exit_signal_request(channel, signal, false, "", "")?;
            session.close(channel)?;
        }
        Ok(())
    }

    async fn window_change_request(
        &mut self,
        _channel: ChannelId,
        columns: u32,
        rows: u32,
        _pixel_width: u32,
        _pixel_height: u32,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.asked.send(Asked::Size { columns, rows }).unwrap();
        Ok(())
    }
}
