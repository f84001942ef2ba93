//! Frames of the guest, into a whole gateway whose policy allows nothing.

#![no_main]

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sandbox_gateway::gateway::{Gateway, GatewayConfig, HostPorts};
use sandbox_gateway::policy_engine::{Mode, PolicyEngineConfig};
use sandbox_spec::guest_network::{GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC};
use sandbox_spec::policy::{Policy, Preset};
use tempfile::TempDir;

static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fuzz_target!(|input: &[u8]| {
    let (wire, mut guest) = UnixStream::pair().unwrap();
    let ports = HostPorts::bind(&[]).unwrap();
    let gateway = Gateway::start(wire, config(DIRECTORY.path()), ports).unwrap();
    guest.set_nonblocking(true).unwrap();
    let mut answers = Vec::new();
    for frame in frames(input) {
        write(&mut guest, &frame, &mut answers);
    }
    write(&mut guest, &ping(), &mut answers);
    while !answers.windows(4).any(|bytes| bytes == IDENTIFIER) {
        read(&mut guest, &mut answers);
    }
    drop(guest);
    gateway.finish();
});

/// Splits the input into frames: a length of one byte, then the frame. The first byte of a frame
/// chooses its prepared headers.
fn frames(mut input: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = input.split_first() {
        let (content, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        input = rest;
        let Some((kind, content)) = content.split_first() else {
            continue;
        };
        let mut frame = [GATEWAY_MAC, GUEST_MAC].concat();
        match kind % 4 {
            0 => frame.clear(),
            1 => frame.extend([0x08, 0x06]),
            2 => frame.extend([0x86, 0xdd]),
            _ => {
                let total = u16::try_from(20 + content.len()).unwrap().to_be_bytes();
                frame.extend([0x08, 0x00, 0x45, 0, total[0], total[1], 0, 0, 0, 0, 64]);
                frame.extend([[1, 6, 17, 58][usize::from(kind >> 2) % 4], 0, 0]);
                frame.extend(GUEST.octets());
                frame.extend(GATEWAY.octets());
            }
        }
        frame.extend(content);
        frames.push(frame);
    }
    frames
}

/// The data of [`ping`], which its answer contains.
const IDENTIFIER: [u8; 4] = [0xba, 0xd0, 0xf0, 0x0d];

fn ping() -> Vec<u8> {
    let mut frame = [GATEWAY_MAC, GUEST_MAC].concat();
    frame.extend([0x08, 0x00, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 1, 0, 0]);
    frame.extend(GUEST.octets());
    frame.extend(GATEWAY.octets());
    frame.extend([8, 0, 0, 0]);
    frame.extend(IDENTIFIER);
    frame.extend([0; 4]);
    frame
}

fn write(guest: &mut UnixStream, frame: &[u8], answers: &mut Vec<u8>) {
    let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
    let bytes = [&length[..], frame].concat();
    let mut unsent = &bytes[..];
    while !unsent.is_empty() {
        match guest.write(unsent) {
            Ok(count) => unsent = &unsent[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => read(guest, answers),
            Err(error) => panic!("{error}"),
        }
    }
}

fn read(guest: &mut UnixStream, answers: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    match guest.read(&mut buffer) {
        Ok(0) => panic!("the gateway has ended"),
        Ok(count) => answers.extend(&buffer[..count]),
        Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
        Err(error) => panic!("{error}"),
    }
}

fn config(directory: &Path) -> GatewayConfig {
    GatewayConfig {
        policy_engine: PolicyEngineConfig {
            policy: Policy {
                preset: Preset::None,
                rules: Vec::new(),
            },
            mode: Mode::Open,
            dns: None,
            ipv6: true,
            log_directory: directory.into(),
        },
        connections: 16,
        bytes_per_second: None,
        secrets: Vec::new(),
        authority: None,
    }
}
