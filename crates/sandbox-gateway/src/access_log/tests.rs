//! Lines, rotation, following and limits.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;

use super::*;
use sandbox_spec::policy::{Preset, Reason, RuleName, Transport};

fn flow(name: &str) -> FlowStart {
    FlowStart::to_name(AskedBy::Sni, name.parse().unwrap(), 443, Transport::Tcp)
        .at(Ipv4Addr::new(192, 0, 2, 1).into())
}

const RULE: RuleName = RuleName::Preset(Preset::Public);

#[test]
fn flow_end_writes_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let log = AccessLog::open(directory.path()).unwrap();
    let mut reader = LogReader::new(directory.path());
    let one = FlowEntry::begin(&log, flow("a.example"), &RULE);
    one.add_up(10);
    one.add_up(5);
    one.add_down(u64::MAX);
    one.add_down(1);
    assert!(
        reader.read_new().unwrap().is_empty(),
        "the flow is still open"
    );
    one.finish();
    drop(FlowEntry::begin(&log, flow("b.example"), &RULE));
    let entries = reader.read_new().unwrap();
    let names: Vec<_> = entries
        .iter()
        .map(|entry| entry.name.as_ref().unwrap().as_str())
        .collect();
    assert_eq!(names, ["a.example", "b.example"]);
    assert_eq!((entries[0].up, entries[0].down), (15, u64::MAX));
    assert_eq!(entries[0].verdict, Outcome::Allowed);
    assert_eq!(entries[0].rule, "network public");
    let mode = std::fs::metadata(directory.path().join(FILE)).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
}

#[test]
fn denial_line_has_rule_and_reason() {
    let directory = tempfile::tempdir().unwrap();
    let log = AccessLog::open(directory.path()).unwrap();
    log.denied(flow("a.example"), &RuleName::Proxy, Reason::NotListed);
    let text = std::fs::read_to_string(directory.path().join(FILE)).unwrap();
    let (_, rest) = text.split_once(r#"Z","#).unwrap();
    assert_eq!(
        rest,
        concat!(
            r#""verdict":"denied","rule":"proxy","reason":"not-listed","asked":"sni","#,
            r#""name":"a.example","address":"192.0.2.1","port":443,"transport":"tcp","#,
            r#""up":0,"down":0,"seconds":0.0}"#,
            "\n"
        )
    );
}

#[test]
fn rotation_bounds_log_and_loses_no_entry() {
    let directory = tempfile::tempdir().unwrap();
    let log = AccessLog::open(directory.path()).unwrap();
    let mut reader = LogReader::new(directory.path());
    let long = format!("{}.example", ["a".repeat(60).as_str(); 4].join("."));
    let size = |name: &str| std::fs::metadata(directory.path().join(name)).map_or(0, |it| it.len());
    let mut written = 0;
    let mut read = 0;
    while size(EARLIER_FILE) == 0 || size(FILE) < LARGEST / 2 {
        for _ in 0..1000 {
            drop(FlowEntry::begin(&log, flow(&long), &RULE));
        }
        written += 1000;
        if written % 3000 == 0 {
            read += reader.read_new().unwrap().len();
        }
    }
    read += reader.read_new().unwrap().len();
    assert_eq!(read, written);
    let mut late = LogReader::new(directory.path());
    assert_eq!(
        late.read_new().unwrap().len(),
        written,
        "both files together have all entries"
    );
    while size(FILE) + 1_000_000 < LARGEST {
        drop(FlowEntry::begin(&log, flow(&long), &RULE));
    }
    for _ in 0..10_000 {
        drop(FlowEntry::begin(&log, flow(&long), &RULE));
    }
    assert!(size(FILE) <= LARGEST && size(EARLIER_FILE) <= LARGEST);
    let files = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(files, 2);
}

#[test]
fn reader_waits_for_partial_line_and_ignores_invalid_lines() {
    use std::io::Write;
    let directory = tempfile::tempdir().unwrap();
    let mut reader = LogReader::new(directory.path());
    assert!(
        reader.read_new().unwrap().is_empty(),
        "the log does not exist yet"
    );
    let log = AccessLog::open(directory.path()).unwrap();
    drop(FlowEntry::begin(&log, flow("a.example"), &RULE));
    let path = directory.path().join(FILE);
    let line = std::fs::read(&path).unwrap();
    let (begin, end) = line.split_at(20);
    let mut file = std::fs::File::options().append(true).open(&path).unwrap();
    file.write_all(b"not an entry\n{}\n").unwrap();
    file.write_all(begin).unwrap();
    assert_eq!(reader.read_new().unwrap().len(), 1);
    file.write_all(end).unwrap();
    assert_eq!(reader.read_new().unwrap().len(), 1);
}

#[test]
fn denials_in_loop_are_suppressed() {
    let directory = tempfile::tempdir().unwrap();
    let log = AccessLog::open(directory.path()).unwrap();
    for _ in 0..100_000 {
        log.denied(flow("a.example"), &RuleName::Proxy, Reason::NotListed);
    }
    let entries = LogReader::new(directory.path()).read_new().unwrap();
    // At least the burst, and far fewer than all, even on a slow machine.
    assert!(
        entries.len() >= 200 && entries.len() < 50_000,
        "{}",
        entries.len()
    );
    let suppressed: u64 = entries.iter().map(|entry| entry.suppressed).sum();
    assert!(suppressed + entries.len() as u64 <= 100_000);
}

#[test]
fn denials_are_counted_by_target() {
    let directory = tempfile::tempdir().unwrap();
    let log = AccessLog::open(directory.path()).unwrap();
    let deny = |start| log.denied(start, &RuleName::Proxy, Reason::NotListed);
    deny(flow("a.example"));
    deny(flow("b.example"));
    deny(FlowStart {
        asked_by: AskedBy::Dns,
        ..flow("a.example")
    });
    deny(FlowStart::to_address(
        "192.0.2.7:22".parse().unwrap(),
        Transport::Tcp,
    ));
    drop(FlowEntry::begin(&log, flow("c.example"), &RULE));
    let mut blocked = BlockedAttempts::default();
    for entry in LogReader::new(directory.path()).read_new().unwrap() {
        blocked.add(&entry);
    }
    let lines: Vec<_> = blocked
        .newest_first()
        .iter()
        .map(|blocked| {
            let asked: Vec<_> = blocked.asked.iter().map(ToString::to_string).collect();
            format!(
                "{} {} {}",
                blocked.target,
                blocked.attempts,
                asked.join("+")
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            "192.0.2.7:22/tcp 1 address",
            "a.example 2 DNS+SNI",
            "b.example 1 SNI"
        ]
    );
}

#[test]
fn oldest_targets_are_discarded_beyond_limit() {
    let mut blocked = BlockedAttempts::default();
    let directory = tempfile::tempdir().unwrap();
    let log = AccessLog::open(directory.path()).unwrap();
    log.denied(flow("a.example"), &RuleName::Proxy, Reason::NotListed);
    let template = LogReader::new(directory.path())
        .read_new()
        .unwrap()
        .remove(0);
    for number in 0..25_000_i64 {
        blocked.add(&Entry {
            name: Some(format!("h{number}.example").parse().unwrap()),
            time: jiff::Timestamp::from_second(number).unwrap(),
            ..template.clone()
        });
    }
    let kept = blocked.newest_first();
    assert!(kept.len() <= 10_000);
    assert_eq!(kept[0].target.to_string(), "h24999.example");
}
