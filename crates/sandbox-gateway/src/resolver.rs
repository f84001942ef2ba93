//! Resolving names as the host does: `/etc/hosts`, then the resolvers of `resolv.conf`, or the
//! one that the user names.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{
    NameServerConfig, ResolverConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, Record, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use sandbox_host::file_stamp::FileStamp;
use sandbox_spec::domain::DomainName;

/// Questions under way at once; the next ones wait.
const MOST_AT_ONCE: usize = 64;
/// Questions that wait; more are refused.
const MOST_WAITING: usize = 512;
/// From the question to the answer, all attempts included.
const DEADLINE: Duration = Duration::from_secs(12);
/// How long a configuration is used before its files are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The most bytes of a configuration file that are read.
const LONGEST_FILE: u64 = 4 << 20;
/// Answers that are kept.
const CACHED_ANSWERS: u64 = 1024;
/// A name that appears on the internet is seen after at most so long.
const LONGEST_ABSENCE: Duration = Duration::from_secs(10);

/// Where the host's configuration lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// hosts(5).
    pub hosts: PathBuf,
    /// resolv.conf(5).
    pub resolv_conf: PathBuf,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

/// Why a name was not resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The name does not exist.
    #[error("no such name")]
    NoSuchName,
    /// It exists and has no such records.
    #[error("the name has no such records")]
    NoRecords,
    /// The resolvers gave this answer.
    #[error("the resolver answers `{0}`")]
    Refused(ResponseCode),
    /// Too many questions at once.
    #[error("too many questions at once")]
    Busy,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The resolvers could not be asked.
    #[error("the resolver could not be asked: {0}")]
    Failed(String),
}

/// The host's resolver. Questions are asked for full names only: the host's search list is not
/// applied.
pub struct Resolver {
    upstream: Option<SocketAddr>,
    sources: Sources,
    current: RefCell<Option<Current>>,
    permits: Semaphore,
    waiting: Cell<usize>,
}

struct Current {
    resolver: TokioResolver,
    stamps: [Option<FileStamp>; 2],
    /// Whether a file may have changed since without a change of its stamp.
    uncertain: bool,
    look_again_at: Instant,
}

impl Resolver {
    /// The host's, or `upstream` in place of the resolvers of `resolv.conf`.
    pub fn new(upstream: Option<SocketAddr>) -> Self {
        Self::with_sources(upstream, Sources::default())
    }

    /// The same with other files.
    pub fn with_sources(upstream: Option<SocketAddr>, sources: Sources) -> Self {
        Self {
            upstream,
            sources,
            current: RefCell::new(None),
            permits: Semaphore::new(MOST_AT_ONCE),
            waiting: Cell::new(0),
        }
    }

    /// The records of one type, aliases on the way included.
    ///
    /// # Errors
    /// [`LookupError`]; names without such records are an error too.
    pub async fn records(
        &self,
        name: &DomainName,
        record_type: RecordType,
    ) -> Result<Vec<Record>, LookupError> {
        if self.waiting.get() >= MOST_WAITING {
            return Err(LookupError::Busy);
        }
        let _waiting = Waiting::new(&self.waiting);
        let looked_up = async {
            let _permit = self
                .permits
                .acquire()
                .await
                .map_err(|_| LookupError::Busy)?;
            let resolver = self
                .current()
                .map_err(|error| LookupError::Failed(error.to_string()))?;
            let full = Name::from_ascii(format!("{name}."))
                .map_err(|error| LookupError::Failed(error.to_string()))?;
            resolver.lookup(full, record_type).await.map_err(translate)
        };
        let lookup = tokio::time::timeout(DEADLINE, looked_up)
            .await
            .map_err(|_| LookupError::Timeout)??;
        Ok(with_remaining_time(&lookup))
    }

    /// The resolver of the present configuration.
    fn current(&self) -> Result<TokioResolver, NetError> {
        let mut current = self.current.borrow_mut();
        let now = Instant::now();
        if let Some(known) = current.as_mut() {
            if now < known.look_again_at {
                return Ok(known.resolver.clone());
            }
            known.look_again_at = now + LOOK_AGAIN;
            if !known.uncertain && known.stamps == self.stamps() {
                return Ok(known.resolver.clone());
            }
        }
        let stamps = self.stamps();
        let uncertain = stamps.iter().flatten().any(FileStamp::is_fresh);
        let resolver = self.build()?;
        *current = Some(Current {
            resolver: resolver.clone(),
            stamps,
            uncertain,
            look_again_at: now + LOOK_AGAIN,
        });
        Ok(resolver)
    }

    fn stamps(&self) -> [Option<FileStamp>; 2] {
        [&self.sources.hosts, &self.sources.resolv_conf].map(|path| FileStamp::of(path))
    }

    fn build(&self) -> Result<TokioResolver, NetError> {
        let (config, mut options) = match self.upstream {
            Some(upstream) => (only(upstream), ResolverOpts::default()),
            None => parse_resolv_conf(read(&self.sources.resolv_conf)?)
                // As resolv.conf(5) says of a file without resolvers.
                .unwrap_or_else(|_| {
                    (
                        only((Ipv4Addr::LOCALHOST, 53).into()),
                        ResolverOpts::default(),
                    )
                }),
        };
        // One after the other and in their order, as the C library asks: behind a VPN, the first
        // resolver may know names that the second must not hear of.
        options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        options.num_concurrent_reqs = 1;
        options.try_tcp_on_error = true;
        options.cache_size = CACHED_ANSWERS;
        options.negative_max_ttl = Some(LONGEST_ABSENCE);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let mut resolver = builder.build()?;
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(read(&self.sources.hosts)?.as_slice())?;
        resolver.set_hosts(Arc::new(hosts));
        Ok(resolver)
    }
}

/// Counts one who waits, whatever becomes of the waiting.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

fn only(server: SocketAddr) -> ResolverConfig {
    let mut config = NameServerConfig::udp_and_tcp(server.ip());
    for connection in &mut config.connections {
        connection.port = server.port();
    }
    ResolverConfig::from_parts(None, Vec::new(), vec![config])
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let content =
        sandbox_host::files::read_if_present(path, LONGEST_FILE).map_err(|error| error.source)?;
    Ok(content.unwrap_or_default())
}

/// The answer's records; those from the cache with the rest of their time.
fn with_remaining_time(lookup: &Lookup) -> Vec<Record> {
    let remaining = lookup
        .valid_until()
        .saturating_duration_since(std::time::Instant::now());
    let most = u32::try_from(remaining.as_secs()).unwrap_or(u32::MAX);
    let mut records = lookup.answers().to_vec();
    for record in &mut records {
        record.ttl = record.ttl.min(most);
    }
    records
}

fn translate(error: NetError) -> LookupError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => LookupError::NoSuchName,
            ResponseCode::NoError => LookupError::NoRecords,
            other => LookupError::Refused(other),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => LookupError::Refused(code),
        NetError::Timeout => LookupError::Timeout,
        NetError::Busy => LookupError::Busy,
        other => LookupError::Failed(other.to_string()),
    }
}

/// The addresses among records, each with its time to live.
pub fn addresses(records: &[Record]) -> impl Iterator<Item = (IpAddr, Duration)> {
    records.iter().filter_map(|record| {
        let ttl = Duration::from_secs(record.ttl.into());
        record.data.ip_addr().map(|address| (address, ttl))
    })
}

#[cfg(test)]
mod tests;
