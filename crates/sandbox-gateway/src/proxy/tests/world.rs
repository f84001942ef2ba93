//! A proxy with a policy engine and a resolver, and connections of a guest to it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::access_log::{Entry, FILE, Outcome};
use crate::interception::Interceptor;
use crate::policy_engine::{Mode, PolicyEngine, PolicyEngineConfig};
use crate::proxy::{Proxy, transparent};
use sandbox_spec::policy::{Policy, Preset};

/// The names and addresses of the test's resolver.
pub(super) type Zone = Rc<RefCell<HashMap<String, Vec<IpAddr>>>>;

/// Names that a rule allows at all ports. They resolve to the loopback.
const ALLOWED: [&str; 3] = ["good.test", "second.test", "api.test"];

pub(super) struct World {
    pub(super) policy_engine: Rc<PolicyEngine>,
    pub(super) proxy: Proxy,
    pub(super) zone: Zone,
    directory: tempfile::TempDir,
}

/// Runs a test in the runtime of the gateway's thread.
pub(super) fn on_gateway<F: Future>(test: impl FnOnce() -> F) {
    let runtime = crate::gateway::runtime().unwrap();
    runtime.block_on(async { test().await });
}

impl World {
    /// Returns a proxy in proxy mode. The allowlist has `listed.test`; [`ALLOWED`] have rules.
    pub(super) async fn new() -> Self {
        Self::with(None).await
    }

    pub(super) async fn with(interceptor: Option<Interceptor>) -> Self {
        Self::build(interceptor, true).await
    }

    /// Returns a proxy in open mode.
    pub(super) async fn open_mode(interceptor: Interceptor) -> Self {
        Self::build(Some(interceptor), false).await
    }

    async fn build(interceptor: Option<Interceptor>, proxy: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let allowlist = directory.path().join("allowlist.txt");
        std::fs::write(&allowlist, "listed.test\n").unwrap();
        let localhost = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let names = ALLOWED.iter().chain(&["listed.test", "other.test"]);
        let zone = names
            .map(|name| ((*name).to_owned(), localhost.clone()))
            .collect();
        let zone = Rc::new(RefCell::new(zone));
        // The rules for names come first. A name without a rule stays denied.
        let mut rules: Vec<String> = ALLOWED
            .iter()
            .map(|name| format!("allow@{name}:tcp"))
            .collect();
        rules.push("allow@127.0.0.1:tcp".into());
        let config = PolicyEngineConfig {
            policy: Policy {
                preset: Preset::Public,
                rules: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
            },
            mode: if proxy {
                Mode::Proxy { allowlist }
            } else {
                Mode::Open
            },
            dns: Some(resolver(Rc::clone(&zone)).await),
            ipv6: true,
            log_directory: directory.path().into(),
        };
        let policy_engine = PolicyEngine::new(config).unwrap();
        Self {
            proxy: Proxy::new(Rc::clone(&policy_engine), interceptor),
            policy_engine,
            zone,
            directory,
        }
    }

    /// Connects to the explicit proxy.
    pub(super) async fn explicit(&self) -> TcpStream {
        let proxy = self.proxy.clone();
        self.connection(move |stream| async move { proxy.explicit(stream).await })
            .await
    }

    /// Connects to a TLS server at `destination` through the transparent proxy.
    pub(super) async fn tls(&self, destination: SocketAddr) -> TcpStream {
        let proxy = self.proxy.clone();
        self.connection(move |stream| async move {
            transparent::tls(&proxy.0, stream, destination).await;
        })
        .await
    }

    /// Connects to a web server at `destination` through the transparent proxy.
    pub(super) async fn http(&self, destination: SocketAddr) -> TcpStream {
        let proxy = self.proxy.clone();
        self.connection(move |stream| async move {
            transparent::http(&proxy.0, stream, destination).await;
        })
        .await
    }

    /// Opens a connection that open mode allows by its address.
    pub(super) async fn by_address(&self, destination: SocketAddr) -> TcpStream {
        let proxy = self.proxy.clone();
        self.connection(move |stream| async move {
            let rule = sandbox_spec::policy::RuleName::Preset(Preset::Public);
            transparent::allowed_tls(&proxy.0, stream, destination, destination, &rule).await;
        })
        .await
    }

    async fn connection<F>(&self, serve: impl FnOnce(TcpStream) -> F) -> TcpStream
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _) = accepted.unwrap();
        tokio::task::spawn_local(serve(stream));
        client.unwrap()
    }

    /// Resolves a name with the gateway's DNS.
    pub(super) async fn resolve(&self, name: &str) {
        self.policy_engine
            .resolve(&name.parse().unwrap())
            .await
            .unwrap();
    }

    /// Returns the entries of the access log.
    pub(super) fn log(&self) -> Vec<Entry> {
        let text = self.log_text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Returns the entries of denied flows.
    pub(super) fn denied(&self) -> Vec<Entry> {
        let mut entries = self.log();
        entries.retain(|entry| entry.verdict == Outcome::Denied);
        entries
    }

    pub(super) fn log_text(&self) -> String {
        std::fs::read_to_string(self.directory.path().join(FILE)).unwrap()
    }
}

/// Sends `request` and reads until the other side closes.
pub(super) async fn exchange(mut stream: TcpStream, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads a head up to its empty line.
pub(super) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.unwrap();
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

/// Asserts that the other side of a tunnel echoes these bytes.
pub(super) async fn assert_echoes(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    bytes: &[u8],
) {
    stream.write_all(bytes).await.unwrap();
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, bytes);
}

/// Starts a resolver for a zone. Its answers have TTL 0.
async fn resolver(zone: Zone) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let answer = answer(&query, &zone.borrow());
            socket
                .send_to(&answer.to_vec().unwrap(), client)
                .await
                .unwrap();
        }
    });
    address
}

fn answer(query: &Message, zone: &HashMap<String, Vec<IpAddr>>) -> Message {
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata.recursion_available = true;
    let question = &query.queries[0];
    answer.add_query(question.clone());
    let name = question
        .name()
        .to_string()
        .trim_end_matches('.')
        .to_lowercase();
    let Some(addresses) = zone.get(&name) else {
        answer.metadata.response_code = ResponseCode::NXDomain;
        return answer;
    };
    for address in addresses {
        let data = match (address, question.query_type()) {
            (IpAddr::V4(address), RecordType::A) => RData::A(A(*address)),
            (IpAddr::V6(address), RecordType::AAAA) => RData::AAAA(AAAA(*address)),
            _ => continue,
        };
        answer.add_answer(Record::from_rdata(question.name().clone(), 0, data));
    }
    answer
}
