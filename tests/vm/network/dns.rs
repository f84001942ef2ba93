//! The DNS server of a test's world.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, Metadata, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::servers::State;

/// The names of the world, and the questions so far.
#[derive(Default)]
pub(super) struct Zone {
    /// The records of each name.
    names: Mutex<HashMap<String, Records>>,
    asked: Mutex<Vec<String>>,
}

/// The records of one name.
struct Records {
    ttl: u32,
    /// The addresses for each question in turn. The last entry stays.
    answers: Vec<Vec<IpAddr>>,
}

impl Zone {
    /// Gives a name these addresses.
    pub(super) fn set(&self, name: &str, addresses: &[&str]) {
        self.insert(name, 300, &[addresses]);
    }

    /// Gives a name different addresses for each IPv4 question in turn. Their TTL is 0,
    /// so no resolver may cache them.
    pub(super) fn set_changing(&self, name: &str, answers: &[&[&str]]) {
        self.insert(name, 0, answers);
    }

    fn insert(&self, name: &str, ttl: u32, answers: &[&[&str]]) {
        let parse = |address: &&str| address.parse().unwrap();
        let answers = answers
            .iter()
            .map(|addresses| addresses.iter().map(parse).collect())
            .collect();
        let records = Records { ttl, answers };
        self.names.lock().unwrap().insert(name.into(), records);
    }

    /// Returns the questions so far, as `name TYPE`.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let request = Message::from_vec(query).unwrap();
        let query = request.queries[0].clone();
        let name = query.name().to_string().to_lowercase();
        let name = name.trim_end_matches('.');
        let question = format!("{name} {}", query.query_type());
        self.asked.lock().unwrap().push(question);
        let mut answer = Message::response(request.metadata.id, request.metadata.op_code);
        answer.metadata = Metadata::response_from_request(&request.metadata);
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        let mut names = self.names.lock().unwrap();
        let Some(records) = names.get_mut(name) else {
            answer.metadata.response_code = ResponseCode::NXDomain;
            return answer.to_vec().unwrap();
        };
        let data: Vec<RData> = match query.query_type() {
            RecordType::TXT => vec![RData::TXT(TXT::new(vec!["a text".into()]))],
            wanted => records.answers[0]
                .iter()
                .map(|address| match address {
                    IpAddr::V4(v4) => RData::A((*v4).into()),
                    IpAddr::V6(v6) => RData::AAAA((*v6).into()),
                })
                .filter(|data| data.record_type() == wanted)
                .collect(),
        };
        for data in data {
            answer.add_answer(Record::from_rdata(query.name().clone(), records.ttl, data));
        }
        if query.query_type() == RecordType::A && records.answers.len() > 1 {
            records.answers.remove(0);
        }
        answer.to_vec().unwrap()
    }
}

pub(super) async fn serve(socket: UdpSocket, state: Arc<State>) {
    let mut buffer = vec![0; 65536];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        state.reached(socket.local_addr().unwrap());
        let answer = state.zone.answer(&buffer[..length]);
        socket.send_to(&answer, from).await.unwrap();
    }
}

pub(super) async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        state.reached(stream.local_addr().unwrap());
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            // The client may close the connection.
            let _ = questions(stream, &state).await;
        });
    }
}

async fn questions(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut query = vec![0; length.into()];
        stream.read_exact(&mut query).await?;
        let answer = state.zone.answer(&query);
        stream
            .write_u16(u16::try_from(answer.len()).unwrap())
            .await?;
        stream.write_all(&answer).await?;
    }
}
