//! Resolves names as the host does: with `/etc/hosts`, then with the resolvers of `resolv.conf` or
//! the one that the user named.

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

/// The most concurrent queries. Further queries wait.
const MOST_AT_ONCE: usize = 64;
/// The most open queries, including waiting ones. Further queries fail.
const MOST_OPEN: usize = 512;
/// The time from a query to its answer, including all attempts.
const DEADLINE: Duration = Duration::from_secs(12);
/// The time between two checks of the configuration files.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The most bytes of a configuration file that are read.
const LONGEST_FILE: u64 = 4 << 20;
/// The most cached answers.
const CACHED_ANSWERS: u64 = 1024;
/// The longest time for which a missing name is cached.
const LONGEST_ABSENCE: Duration = Duration::from_secs(10);

/// The paths of the host's configuration files.
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
    #[error("the name does not exist")]
    NoSuchName,
    /// The name exists and has no records of this type.
    #[error("the name has no records of this type")]
    NoRecords,
    /// The resolver answered with this error code.
    #[error("the resolver answered `{0}`")]
    Refused(ResponseCode),
    /// Too many queries are concurrent.
    #[error("too many concurrent queries")]
    Busy,
    /// No answer came in time.
    #[error("the resolver did not answer in time")]
    Timeout,
    /// The query could not be sent.
    #[error("could not query the resolver: {0}")]
    Failed(String),
}

/// The host's resolver. It resolves full names only and ignores the host's search list.
pub struct Resolver {
    upstream: Option<SocketAddr>,
    sources: Sources,
    current: RefCell<Option<Current>>,
    permits: Semaphore,
    open_queries: Cell<usize>,
}

struct Current {
    resolver: TokioResolver,
    stamps: [Option<FileStamp>; 2],
    /// Whether a file can have changed since without a change of its stamp.
    may_be_stale: bool,
    next_check: Instant,
}

impl Resolver {
    /// Returns the host's resolver. `upstream` replaces the resolvers of `resolv.conf`.
    pub fn new(upstream: Option<SocketAddr>) -> Self {
        Self::with_sources(upstream, Sources::default())
    }

    /// Returns a resolver with other configuration files.
    pub fn with_sources(upstream: Option<SocketAddr>, sources: Sources) -> Self {
        Self {
            upstream,
            sources,
            current: RefCell::new(None),
            permits: Semaphore::new(MOST_AT_ONCE),
            open_queries: Cell::new(0),
        }
    }

    /// Returns the records of one type, including the aliases that lead to them.
    ///
    /// # Errors
    /// [`LookupError`], also if the name has no such records.
    pub async fn records(
        &self,
        name: &DomainName,
        record_type: RecordType,
    ) -> Result<Vec<Record>, LookupError> {
        if self.open_queries.get() >= MOST_OPEN {
            return Err(LookupError::Busy);
        }
        let _open = OpenQuery::new(&self.open_queries);
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

    /// Returns the resolver of the current configuration.
    fn current(&self) -> Result<TokioResolver, NetError> {
        let mut current = self.current.borrow_mut();
        let now = Instant::now();
        if let Some(known) = current.as_mut() {
            if now < known.next_check {
                return Ok(known.resolver.clone());
            }
            known.next_check = now + CHECK_INTERVAL;
            if !known.may_be_stale && known.stamps == self.stamps() {
                return Ok(known.resolver.clone());
            }
        }
        let stamps = self.stamps();
        let may_be_stale = stamps.iter().flatten().any(FileStamp::is_fresh);
        let resolver = self.build()?;
        *current = Some(Current {
            resolver: resolver.clone(),
            stamps,
            may_be_stale,
            next_check: now + CHECK_INTERVAL,
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
                // The default of resolv.conf(5) for a file without resolvers.
                .unwrap_or_else(|_| {
                    (
                        only((Ipv4Addr::LOCALHOST, 53).into()),
                        ResolverOpts::default(),
                    )
                }),
        };
        // One resolver at a time, in the order of the file, like the C library. Behind a VPN, the
        // second resolver must not see the names that only the first one knows.
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

/// Counts an open query until it is dropped.
struct OpenQuery<'a>(&'a Cell<usize>);

impl<'a> OpenQuery<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for OpenQuery<'_> {
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

/// Returns the records of an answer. Those from the cache have their remaining TTL.
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

/// Returns the addresses among the records, each with its TTL.
pub fn addresses(records: &[Record]) -> impl Iterator<Item = (IpAddr, Duration)> {
    records.iter().filter_map(|record| {
        let ttl = Duration::from_secs(record.ttl.into());
        record.data.ip_addr().map(|address| (address, ttl))
    })
}

#[cfg(test)]
mod tests;
