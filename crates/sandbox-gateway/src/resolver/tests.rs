//! Changes of the configuration files.

use std::fs;

use super::*;

#[tokio::test(start_paused = true)]
async fn resolver_reads_changed_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let sources = Sources {
        hosts: directory.path().join("hosts"),
        resolv_conf: directory.path().join("resolv.conf"),
    };
    fs::write(&sources.hosts, "192.0.2.1 a.example\n").unwrap();
    let resolver = Resolver::with_sources(None, sources.clone());
    let name: DomainName = "a.example".parse().unwrap();
    let ask = async || {
        let records = resolver.records(&name, RecordType::A).await.unwrap();
        addresses(&records)
            .map(|(address, _)| address.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(ask().await, ["192.0.2.1"]);
    fs::write(&sources.hosts, "192.0.2.2 a.example\n").unwrap();
    assert_eq!(ask().await, ["192.0.2.1"], "the files are not checked yet");
    tokio::time::advance(CHECK_INTERVAL).await;
    assert_eq!(ask().await, ["192.0.2.2"]);
}
