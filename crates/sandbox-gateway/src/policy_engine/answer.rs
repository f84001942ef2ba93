//! Answers the guest's DNS queries.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::engine::PolicyEngine;
use crate::access_log::{AskedBy, FlowStart};
use crate::dns::{Question, Received, read};
use crate::names::TTL_CEILING;
use crate::resolver::LookupError;
use sandbox_spec::address::AddressKind;
use sandbox_spec::guest_network::{GATEWAY, GATEWAY6};
use sandbox_spec::policy::{NamedVerdict, Preset, Reason, RuleName, Transport};

/// The TTL of the host's name, in seconds.
const HOST_NAME_TTL: u32 = 60;
/// The most records in an answer.
const MOST_RECORDS: usize = 256;

/// The treatment of a record type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    /// Forward the query. Filter the addresses and record them for the name.
    Addresses,
    /// Forward the query and its answer.
    Forward,
    /// Answer without records.
    Empty,
    /// Answer without records and log a denial, since the query can be a tunnel.
    Withhold,
    /// Answer with REFUSED: the type is not for resolvers.
    Refuse,
}

impl PolicyEngine {
    /// Answers a DNS message of the guest: the payload of a datagram, or a message of a TCP stream
    /// without its length. Returns `None` if the message gets no answer.
    pub async fn answer_dns(&self, query: &[u8], over: Transport) -> Option<Vec<u8>> {
        match read(query) {
            Received::Noise => None,
            Received::Refused(bytes) => Some(bytes),
            Received::NoName(bytes) => {
                self.deny_question(None, &self.default_rule(), Reason::InvalidName);
                Some(bytes)
            }
            Received::Question(question) => {
                let (code, records) = self.answer_question(&question).await;
                Some(question.answer(code, records, over))
            }
        }
    }

    async fn answer_question(&self, question: &Question) -> (ResponseCode, Vec<Record>) {
        let empty = |code| (code, Vec::new());
        if question.name == self.host_name {
            return (ResponseCode::NoError, self.host_addresses(question));
        }
        if question.name.is_below(&self.own_domain) || question.name == self.own_domain {
            return empty(ResponseCode::NXDomain);
        }
        if let NamedVerdict::Deny { rule, reason } = self.may_resolve(&question.name) {
            if !self.is_service_of_allowed_host(question) {
                self.deny_question(Some(question), &rule, reason);
            }
            return empty(ResponseCode::NXDomain);
        }
        if !self.may_resolve_reverse(question.spelled_name()) {
            let rule = RuleName::Preset(self.policy.preset);
            self.deny_question(Some(question), &rule, Reason::AddressBehindName);
            return empty(ResponseCode::NXDomain);
        }
        match self.treatment(question.record_type) {
            Treatment::Refuse => empty(ResponseCode::Refused),
            Treatment::Empty => empty(ResponseCode::NoError),
            Treatment::Withhold => {
                self.deny_question(Some(question), &self.default_rule(), Reason::RecordType);
                empty(ResponseCode::NoError)
            }
            Treatment::Forward => self.forward(question, |_| true).await,
            Treatment::Addresses => {
                let learned = |record: &Record| self.learn(question, record);
                self.forward(question, learned).await
            }
        }
    }

    /// Returns whether the question is about a service of an allowed host (RFC 2782).
    ///
    /// apt asks it before it asks for the host itself. The user does not need to decide about it.
    fn is_service_of_allowed_host(&self, question: &Question) -> bool {
        let mut labels = question.name.labels();
        let is_service = question.record_type == RecordType::SRV
            && labels.by_ref().take(2).all(|label| label.starts_with('_'));
        let host = labels.collect::<Vec<_>>().join(".");
        let is_allowed = |host| matches!(self.may_resolve(&host), NamedVerdict::Allow { .. });
        is_service && host.parse().is_ok_and(is_allowed)
    }

    async fn forward(
        &self,
        question: &Question,
        keep: impl Fn(&Record) -> bool,
    ) -> (ResponseCode, Vec<Record>) {
        let answer = self
            .resolver
            .records(&question.name, question.record_type)
            .await;
        match answer {
            Ok(mut records) => {
                records.truncate(MOST_RECORDS);
                records.retain(keep);
                let ceiling = u32::try_from(TTL_CEILING.as_secs()).unwrap_or(u32::MAX);
                for record in &mut records {
                    record.ttl = record.ttl.min(ceiling);
                }
                (ResponseCode::NoError, records)
            }
            Err(LookupError::NoSuchName) => (ResponseCode::NXDomain, Vec::new()),
            Err(LookupError::NoRecords) => (ResponseCode::NoError, Vec::new()),
            Err(_) => (ResponseCode::ServFail, Vec::new()),
        }
    }

    /// Records an address for the name. Returns false if the policy forbids the address for names.
    fn learn(&self, question: &Question, record: &Record) -> bool {
        let Some(address) = record.data.ip_addr() else {
            return true;
        };
        if !self.may_resolve_to(address) {
            let flow = Self::flow(Some(question)).at(address);
            let rule = RuleName::Preset(self.policy.preset);
            self.log_denied(flow, &rule, Reason::AddressBehindName);
            return false;
        }
        let ttl = std::time::Duration::from_secs(record.ttl.into());
        self.names.borrow_mut().learn(&question.name, address, ttl);
        true
    }

    fn treatment(&self, record_type: RecordType) -> Treatment {
        let by_name_only = self.is_proxy_mode() || self.policy.preset == Preset::None;
        match record_type {
            RecordType::A => Treatment::Addresses,
            RecordType::AAAA if self.ipv6 => Treatment::Addresses,
            // Their hints are further addresses, and their keys encrypt the name in a ClientHello.
            // Without these records, clients ask for A and AAAA.
            RecordType::AAAA | RecordType::HTTPS | RecordType::SVCB => Treatment::Empty,
            // RFC 8482 allows a minimal answer.
            RecordType::ANY => Treatment::Empty,
            RecordType::AXFR | RecordType::IXFR | RecordType::OPT | RecordType::TSIG => {
                Treatment::Refuse
            }
            RecordType::CNAME
            | RecordType::MX
            | RecordType::NS
            | RecordType::PTR
            | RecordType::SOA
            | RecordType::SRV => Treatment::Forward,
            _ if by_name_only => Treatment::Withhold,
            _ => Treatment::Forward,
        }
    }

    fn host_addresses(&self, question: &Question) -> Vec<Record> {
        let data = match question.record_type {
            RecordType::A => RData::A(GATEWAY.into()),
            RecordType::AAAA if self.ipv6 => RData::AAAA(GATEWAY6.into()),
            _ => return Vec::new(),
        };
        let name = question.spelled_name().clone();
        vec![Record::from_rdata(name, HOST_NAME_TTL, data)]
    }

    /// Returns whether a reverse lookup is allowed. The host's resolver knows names in networks
    /// that the policy denies.
    fn may_resolve_reverse(&self, name: &Name) -> bool {
        let labels: Vec<_> = name.iter().rev().take(2).collect();
        let is_reverse = match labels.as_slice() {
            [top, zone] => {
                top.eq_ignore_ascii_case(b"arpa")
                    && (zone.eq_ignore_ascii_case(b"in-addr") || zone.eq_ignore_ascii_case(b"ip6"))
            }
            _ => false,
        };
        let is_allowed = |address: IpAddr| {
            let peer = self.peer(address);
            peer.kind != AddressKind::Gateway && self.policy.behind_a_name(peer)
        };
        !is_reverse
            || name
                .parse_arpa_name()
                .is_ok_and(|network| is_allowed(network.addr()) && is_allowed(network.broadcast()))
    }

    fn default_rule(&self) -> RuleName {
        if self.is_proxy_mode() {
            RuleName::Proxy
        } else {
            RuleName::Preset(self.policy.preset)
        }
    }

    fn flow(question: Option<&Question>) -> FlowStart {
        FlowStart {
            asked_by: AskedBy::Dns,
            name: question.map(|question| question.name.clone()),
            address: None,
            port: 53,
            transport: Transport::Udp,
        }
    }

    fn deny_question(&self, question: Option<&Question>, rule: &RuleName, reason: Reason) {
        self.log_denied(Self::flow(question), rule, reason);
    }
}
