//! ClientHellos of a real client, ambiguous ones and damaged ones.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::AsyncWriteExt;

use super::*;

/// Returns the first bytes of a real client.
fn real(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn length(width: usize, bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().to_be_bytes();
    [&length[length.len() - width..], bytes].concat()
}

fn extension(kind: u16, contents: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes(), length(2, contents).as_slice()].concat()
}

fn sni(names: &[(u8, &str)]) -> Vec<u8> {
    let list: Vec<u8> = names
        .iter()
        .flat_map(|(kind, name)| [vec![*kind], length(2, name.as_bytes())].concat())
        .collect();
    extension(SERVER_NAME, &length(2, &list))
}

fn record(payload: &[u8]) -> Vec<u8> {
    [&[HANDSHAKE, 3, 1], length(2, payload).as_slice()].concat()
}

fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let fixed = [&[3, 3], [7; 32].as_slice(), &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
    let extensions = length(2, &extensions.concat());
    [
        &[CLIENT_HELLO],
        length(3, &[fixed, extensions].concat()).as_slice(),
    ]
    .concat()
}

fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    record(&message(extensions))
}

#[test]
fn real_client_hello_gives_name_once_complete() {
    let bytes = real("www.example.com");
    for cut in 0..bytes.len() {
        assert_eq!(server_name(&bytes[..cut]), Ok(None), "{cut}");
    }
    let expected: DomainName = "www.example.com".parse().unwrap();
    assert_eq!(server_name(&bytes), Ok(Some(expected.clone())));
    let more = [&bytes, b"early data".as_slice()].concat();
    assert_eq!(server_name(&more), Ok(Some(expected)));
}

#[test]
fn client_hello_without_name_is_rejected() {
    assert_eq!(
        server_name(&real("192.0.2.1")),
        Err(ClientHelloError::NoName)
    );
    assert_eq!(server_name(&hello(&[])), Err(ClientHelloError::NoName));
    for name in [
        "192.0.2.1",
        "2130706433",
        "[::1]",
        "exa mple.com",
        "",
        "bücher.example",
    ] {
        let bytes = hello(&[sni(&[(0, name)])]);
        assert_eq!(
            server_name(&bytes),
            Err(ClientHelloError::BadName),
            "{name}"
        );
    }
}

#[test]
fn hidden_names_are_rejected() {
    let outer = sni(&[(0, "public.example")]);
    let encrypted = extension(ENCRYPTED_CLIENT_HELLO, &[0; 40]);
    for extensions in [
        [outer.clone(), encrypted.clone()],
        [encrypted, outer.clone()],
    ] {
        assert_eq!(
            server_name(&hello(&extensions)),
            Err(ClientHelloError::Encrypted)
        );
    }
    let whole = message(&[outer]);
    for cut in [1, 3, 4, 20, whole.len() - 1] {
        let pieces = [record(&whole[..cut]), record(&whole[cut..])].concat();
        assert_eq!(
            server_name(&pieces),
            Err(ClientHelloError::Fragmented),
            "{cut}"
        );
        // The first record is enough.
        let first = record(&whole[..cut]);
        assert_eq!(
            server_name(&first),
            Err(ClientHelloError::Fragmented),
            "{cut}"
        );
    }
}

#[test]
fn ambiguous_client_hello_is_rejected() {
    let one = sni(&[(0, "a.example")]);
    let other = sni(&[(0, "b.example")]);
    let trailing = [message(std::slice::from_ref(&one)), vec![0]].concat();
    for bytes in [
        hello(&[one.clone(), other]),
        hello(&[sni(&[(0, "a.example"), (0, "b.example")])]),
        hello(&[sni(&[(1, "a.example")])]),
        hello(&[extension(SERVER_NAME, &[])]),
        record(&trailing),
        record(&[]),
    ] {
        assert_eq!(
            server_name(&bytes),
            Err(ClientHelloError::Malformed),
            "{}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn other_protocols_are_rejected_early() {
    for bytes in [
        &b"G"[..],
        b"GET / HTTP/1.1\r\n",
        b"SSH-2.0-x\r\n",
        b"\x80\x2e\x01\x03\x01",
        b"\x16\x02\x00\x00\x05",
        b"\x17\x03\x03\x00\x05hello",
        b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
    ] {
        assert_eq!(server_name(bytes), Err(ClientHelloError::NotTls));
    }
    let oversized = b"\x16\x03\x01\x40\x01\x01";
    assert_eq!(server_name(oversized), Err(ClientHelloError::Malformed));
}

#[test]
fn damaged_client_hello_never_panics() {
    let bytes = real("www.example.com");
    for index in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[index] ^= flip;
            // It only must return.
            let _ = server_name(&damaged);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn silent_client_times_out() {
    let (mut guest, mut stream) = tokio::io::duplex(1024);
    guest
        .write_all(&real("www.example.com")[..40])
        .await
        .unwrap();
    let mut read = Vec::new();
    let result = read_server_name(&mut stream, &mut read).await;
    assert_eq!(result, Err(ClientHelloError::Incomplete));
    assert_eq!(read.len(), 40);
}

#[tokio::test]
async fn read_bytes_stay_for_server() {
    let bytes = [real("www.example.com"), b"more".to_vec()].concat();
    let (mut guest, mut stream) = tokio::io::duplex(100);
    let mut read = Vec::new();
    let writing = guest.write_all(&bytes);
    let (written, name) = tokio::join!(writing, async {
        let name = read_server_name(&mut stream, &mut read).await;
        let mut rest =
            tokio::io::AsyncReadExt::take(&mut stream, (bytes.len() - read.len()) as u64);
        rest.read_to_end(&mut read).await.unwrap();
        name
    });
    written.unwrap();
    assert_eq!(name.unwrap().as_str(), "www.example.com");
    assert_eq!(read, bytes);
}
