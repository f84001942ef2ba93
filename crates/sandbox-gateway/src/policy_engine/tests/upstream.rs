//! A DNS server on the loopback that records its queries.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, Metadata, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

type Zone = Arc<Mutex<HashMap<String, Vec<(u32, RData)>>>>;

pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    zone: Zone,
    asked: Arc<Mutex<Vec<String>>>,
    server: RefCell<tokio::task::JoinHandle<()>>,
}

impl Upstream {
    pub(super) async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Zone::default();
        let asked = Arc::default();
        let server = tokio::spawn(serve(socket, Arc::clone(&zone), Arc::clone(&asked)));
        Self {
            address,
            zone,
            asked,
            server: RefCell::new(server),
        }
    }

    /// Replaces the records of `name`.
    pub(super) fn set(&self, name: &str, ttl: u32, addresses: &[&str]) {
        let data = addresses
            .iter()
            .map(|text| (ttl, address_data(text.parse().unwrap())))
            .collect();
        self.zone.lock().unwrap().insert(name.into(), data);
    }

    pub(super) fn set_alias(&self, name: &str, target: &str) {
        let target = Name::from_ascii(format!("{target}.")).unwrap();
        let data = RData::CNAME(hickory_proto::rr::rdata::CNAME(target));
        self.zone
            .lock()
            .unwrap()
            .insert(name.into(), vec![(300, data)]);
    }

    pub(super) fn set_text(&self, name: &str, text: &str) {
        let data = RData::TXT(TXT::new(vec![text.into()]));
        let mut zone = self.zone.lock().unwrap();
        zone.entry(name.into()).or_default().push((300, data));
    }

    /// Returns the queries as `name type`, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.borrow().abort();
    }
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(v4.into()),
        IpAddr::V6(v6) => RData::AAAA(v6.into()),
    }
}

async fn serve(socket: UdpSocket, zone: Zone, asked: Arc<Mutex<Vec<String>>>) {
    let mut buffer = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let request = Message::from_vec(&buffer[..length]).unwrap();
        let query = request.queries[0].clone();
        let mut name = query.name().to_string().to_lowercase();
        name.pop();
        asked
            .lock()
            .unwrap()
            .push(format!("{name} {}", query.query_type()));
        let mut answer = Message::response(request.metadata.id, request.metadata.op_code);
        answer.metadata = Metadata::response_from_request(&request.metadata);
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        if !lookup(
            &zone.lock().unwrap(),
            &name,
            query.query_type(),
            &mut answer,
        ) {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        socket
            .send_to(&answer.to_vec().unwrap(), from)
            .await
            .unwrap();
    }
}

fn lookup(
    zone: &HashMap<String, Vec<(u32, RData)>>,
    name: &str,
    record_type: RecordType,
    answer: &mut Message,
) -> bool {
    let Some(records) = zone.get(name) else {
        return false;
    };
    let owner = Name::from_ascii(format!("{name}.")).unwrap();
    for (ttl, data) in records {
        if let RData::CNAME(target) = data {
            answer.add_answer(Record::from_rdata(owner.clone(), *ttl, data.clone()));
            let mut target = target.0.to_string();
            target.pop();
            return lookup(zone, &target, record_type, answer);
        }
        if data.record_type() == record_type {
            answer.add_answer(Record::from_rdata(owner.clone(), *ttl, data.clone()));
        }
    }
    true
}
