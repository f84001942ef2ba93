//! Programs of two versions at one boundary, as docs/compatibility.md lists them. The files in
//! `tests/fixtures/first-formats` come from the first program.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::{self, JoinHandle};

use sandbox_protocol::Record;
use sandbox_protocol::event::{Event, TimedEvent};
use serde_json::{Value, json};

use crate::transcript::{Session, with_qemu};
use crate::{PROGRAM, images, stale};
use sandbox_test_support::TestEnvironment;

const RECORD: &str = include_str!("../fixtures/first-formats/sandbox.json");
const EVENTS: &str = include_str!("../fixtures/first-formats/events.jsonl");
const IMAGE: &str = include_str!("../fixtures/first-formats/image.json");
const TEMPLATE: &str = include_str!("../fixtures/first-formats/template.json");
/// The directory in which the first program stored the template.
const TEMPLATE_KEY: &str = "e0dc3d05ff744a3158aa6c01b8d712845797c2804345885659ff8bbeac1797f2";

/// Returns the first program's record after `change`.
fn changed_record(change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Vec<u8> {
    let mut record: Value = serde_json::from_str(RECORD).unwrap();
    change(record.as_object_mut().unwrap());
    serde_json::to_vec(&record).unwrap()
}

fn read_record(content: &[u8]) -> Result<Record, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    match Record::read(file.path()) {
        Ok(record) => Ok(record.unwrap()),
        Err(error) => Err(std::error::Error::source(&error).unwrap().to_string()),
    }
}

#[test]
fn record_of_first_program_is_read() {
    let record = read_record(RECORD.as_bytes()).unwrap();
    assert_eq!(record.name.as_str(), "sandbox-box");
    assert_eq!(record.image.as_str(), "debian-13-minimal");
    assert!(record.ready && record.network.proxy && !record.embedded);
    assert_eq!(record.shares.len(), 1);
    assert_eq!((record.ssh_port, record.agent), (Some(44765), Some(1)));
}

#[test]
fn record_without_optional_fields_is_read() {
    let optional = [
        "template",
        "network_directory",
        "network",
        "qemu",
        "ssh_port",
        "agent",
        "alias_file",
    ];
    let record = changed_record(|record| record.retain(|name, _| !optional.contains(&&**name)));
    assert_eq!(read_record(&record).unwrap().agent, None);
    let required: Value = serde_json::from_slice(&record).unwrap();
    for name in required.as_object().unwrap().keys() {
        let error = read_record(&changed_record(|record| drop(record.remove(name)))).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn record_of_newer_program_is_read_if_the_version_is_the_same() {
    let newer = changed_record(|record| {
        record.insert("snapshots".into(), json!([{"name": "before"}]));
    });
    assert_eq!(read_record(&newer), read_record(RECORD.as_bytes()));
    let newer = changed_record(|record| {
        record.insert("version".into(), json!(2));
    });
    let error = read_record(&newer).unwrap_err();
    assert!(error.contains("version 2 instead of 1"), "{error}");
}

#[test]
fn events_of_first_program_are_known() {
    let events = EVENTS.lines().map(|line| {
        let event: TimedEvent = serde_json::from_str(line).unwrap();
        event.event
    });
    let events: Vec<Event> = events.collect();
    assert!(!events.contains(&Event::Unknown), "{events:?}");
    let ready = Event::Ready {
        ssh_port: 44765,
        agent: Some(1),
    };
    assert!(events.contains(&ready), "{events:?}");
}

/// A supervisor of another version: answers each request with these lines. Returns the requests.
fn other_supervisor(socket: &Path, connections: usize, answer: &str) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(socket).unwrap();
    let answer = answer.to_owned();
    thread::spawn(move || {
        let answer_one = |_| {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = String::new();
            let mut reader = BufReader::new(connection.try_clone().unwrap());
            reader.read_line(&mut request).unwrap();
            connection.write_all(answer.as_bytes()).unwrap();
            request
        };
        (0..connections).map(answer_one).collect()
    })
}

#[test]
fn command_reports_the_refusal_of_another_supervisor() {
    let environment = TestEnvironment::new(PROGRAM);
    stale::leave_state(
        &environment,
        "box",
        &stale::record(&environment, "box", None),
    );
    let lock = File::open(environment.sandbox("box").join("lock")).unwrap();
    lock.lock().unwrap();
    let socket = environment.sandbox("box").join("control.sock");
    let supervisor = other_supervisor(
        &socket,
        1,
        "{\"elapsed_us\":1,\"event\":\"refused\",\"message\":\"the request has version 1, and this supervisor knows version 2\"}\n",
    );
    let mut session = Session::new();
    session.run(&environment, "exec --name box -- true");
    assert!(supervisor.join().unwrap()[0].contains("\"version\":1"));
    fs::remove_file(&socket).unwrap();
    // A supervisor from before the version closes the connection at an unknown request.
    let supervisor = other_supervisor(&socket, 1, "");
    session.run(&environment, "exec --name box -- true");
    supervisor.join().unwrap();
    session.assert_snapshot("command_reports_the_refusal_of_another_supervisor");
    drop(lock);
    environment.run(["stop", "--all"]).success();
}

#[test]
fn stores_of_first_program_are_listed() {
    let environment = with_qemu("10.0.2").variable("SANDBOX_NAME", "box");
    let image = environment.images().join("images/debian-13-minimal");
    fs::create_dir_all(&image).unwrap();
    fs::write(image.join("metadata.json"), IMAGE).unwrap();
    let template = environment.images().join("templates").join(TEMPLATE_KEY);
    fs::create_dir_all(&template).unwrap();
    fs::write(template.join("template.json"), TEMPLATE).unwrap();
    let metadata: sandbox_store::template::Metadata = serde_json::from_str(TEMPLATE).unwrap();
    assert_eq!(metadata.shape.key().hex(), TEMPLATE_KEY);
    let mut session = Session::new();
    // The memory of the template is not among the fixtures.
    for line in ["image ls", "template ls"] {
        session.run(&environment, line);
    }
    session.assert_snapshot("stores_of_first_program_are_listed");
}

#[test]
fn image_of_another_contract_is_refused() {
    let environment = with_qemu("10.0.2");
    images::store(&environment, "debian-13", b"disk");
    let path = environment.images().join("images/debian-13/metadata.json");
    let metadata: sandbox_store::image::Metadata =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut session = Session::new();
    for difference in [-1, 1] {
        let mut content = metadata.content.clone();
        content.contract_version = content.contract_version.strict_add_signed(difference);
        let other = sandbox_store::image::Metadata::new(metadata.name.clone(), content);
        fs::write(&path, serde_json::to_vec(&other).unwrap()).unwrap();
        for line in ["--dry-run", "image ls"] {
            session.run(&environment, line);
        }
    }
    session.assert_snapshot("image_of_another_contract_is_refused");
}

#[test]
fn image_of_another_format_is_refused() {
    let environment = with_qemu("10.0.2");
    images::store(&environment, "debian-13", b"disk");
    let path = environment.images().join("images/debian-13/metadata.json");
    let mut session = Session::new();
    for version in [0, 2] {
        fs::write(&path, format!(r#"{{"version":{version},"new":true}}"#)).unwrap();
        for line in ["--dry-run", "image ls"] {
            session.run(&environment, line);
        }
    }
    session.assert_snapshot("image_of_another_format_is_refused");
}

#[test]
fn settings_of_newer_program_block_starts_only() {
    let environment = with_qemu("10.0.2");
    images::store(&environment, "debian-13", b"disk");
    let settings = environment.home().join(".config/sandbox/config.toml");
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    fs::write(&settings, "memory = \"1G\"\nsnapshots = true\n").unwrap();
    let mut session = Session::new();
    for line in ["--dry-run", "list", "stop --all", "df"] {
        session.run(&environment, line);
    }
    session.assert_snapshot("settings_of_newer_program_block_starts_only");
}
