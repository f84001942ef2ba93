//! systemd credentials, and their two transports in QEMU: SMBIOS type 11 strings, and firmware
//! configuration items for large values (systemd.exec(5), "Credentials";
//! systemd.system-credentials(7)).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// A named value for the guest.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The name. It is a file name in the guest, so it has no `/` and no control characters.
    pub name: String,
    /// The value, any bytes.
    pub value: Vec<u8>,
}

impl std::fmt::Debug for Credential {
    /// Omits the value, which may be a private key.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Credential({}, {} bytes)",
            self.name,
            self.value.len()
        )
    }
}

/// A file that QEMU reads at its start.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialFile {
    /// The credential's name, which is also the file's.
    pub name: String,
    /// The file's content.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for CredentialFile {
    /// Omits the content, which may be a private key.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "CredentialFile({}, {} bytes)",
            self.name,
            self.content.len()
        )
    }
}

/// The seed as files for QEMU.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Transport {
    /// The files of SMBIOS type 11 strings, one string each.
    pub smbios: Vec<CredentialFile>,
    /// The files of firmware configuration items `opt/io.systemd.credentials/NAME`, one item each.
    pub firmware: Vec<CredentialFile>,
}

/// A seed that is too large for QEMU to hand over.
#[derive(Debug, thiserror::Error)]
#[error("the seed has {bytes} bytes, more than {}", Transport::TOTAL_LIMIT)]
pub struct TooLarge {
    /// The seed's size, in bytes.
    pub bytes: usize,
}

impl Credential {
    /// Creates a credential.
    pub fn new(name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }

    /// Returns the string that systemd reads.
    ///
    /// Encodes everything but one line of printable ASCII as base64: SMBIOS strings end at a NUL,
    /// and tools show them by lines.
    fn smbios_string(&self) -> Vec<u8> {
        let plain =
            !self.value.is_empty() && self.value.iter().all(|byte| (0x20..0x7f).contains(byte));
        let mut string = if plain {
            format!("io.systemd.credential:{}=", self.name).into_bytes()
        } else {
            format!("io.systemd.credential.binary:{}=", self.name).into_bytes()
        };
        if plain {
            string.extend_from_slice(&self.value);
        } else {
            string.extend_from_slice(STANDARD.encode(&self.value).as_bytes());
        }
        string
    }
}

impl Transport {
    /// The maximum size of all SMBIOS strings, in bytes. Measured: 20 KB work, at 40 KB the tables
    /// overlap the initrd, and at 100 KB the guest silently gets none.
    const SMBIOS_LIMIT: usize = 16 << 10;
    /// The maximum size of all values, in bytes. Measured: 300 KB arrive intact.
    const TOTAL_LIMIT: usize = 256 << 10;

    /// Distributes credentials: to SMBIOS strings while there is room, and the largest ones to
    /// firmware configuration items.
    ///
    /// # Errors
    /// Returns [`TooLarge`] beyond 256 KiB.
    pub fn of(credentials: &[Credential]) -> Result<Self, TooLarge> {
        let bytes = credentials
            .iter()
            .map(|credential| credential.value.len())
            .sum();
        if bytes > Self::TOTAL_LIMIT {
            return Err(TooLarge { bytes });
        }
        let mut transport = Self {
            smbios: credentials
                .iter()
                .map(|credential| CredentialFile {
                    name: credential.name.clone(),
                    content: credential.smbios_string(),
                })
                .collect(),
            firmware: Vec::new(),
        };
        while transport.smbios_bytes() > Self::SMBIOS_LIMIT {
            let Some((index, _)) = transport
                .smbios
                .iter()
                .enumerate()
                .max_by_key(|(_, file)| file.content.len())
            else {
                break;
            };
            let moved = transport.smbios.remove(index);
            let value = credentials
                .iter()
                .find(|credential| credential.name == moved.name)
                .map(|credential| credential.value.clone())
                .unwrap_or_default();
            transport.firmware.push(CredentialFile {
                name: moved.name,
                content: value,
            });
        }
        Ok(transport)
    }

    fn smbios_bytes(&self) -> usize {
        self.smbios.iter().map(|file| file.content.len() + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smbios_string_encodes_all_but_printable_lines() {
        for (value, expected) in [
            (&b"box"[..], "io.systemd.credential:a.b=box"),
            (b"one,two = 3", "io.systemd.credential:a.b=one,two = 3"),
            (b"", "io.systemd.credential.binary:a.b="),
            (b"a\nb", "io.systemd.credential.binary:a.b=YQpi"),
            (b"\xff", "io.systemd.credential.binary:a.b=/w=="),
        ] {
            let string = Credential::new("a.b", value).smbios_string();
            assert_eq!(String::from_utf8(string).unwrap(), expected);
        }
    }

    #[test]
    fn transport_moves_largest_credentials_to_firmware() {
        let credentials = [
            Credential::new("small", "x"),
            Credential::new("large", vec![b'y'; 20 << 10]),
            Credential::new("middle", vec![b'z'; 10 << 10]),
        ];
        let transport = Transport::of(&credentials).unwrap();
        let names = |files: &[CredentialFile]| {
            files
                .iter()
                .map(|file| file.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&transport.smbios), ["small", "middle"]);
        assert_eq!(names(&transport.firmware), ["large"]);
        assert_eq!(transport.firmware[0].content, credentials[1].value);
    }

    #[test]
    fn transport_rejects_a_seed_beyond_the_limit() {
        let credentials = [Credential::new("huge", vec![0; 300 << 10])];
        assert_eq!(
            Transport::of(&credentials).err().map(|error| error.bytes),
            Some(300 << 10)
        );
    }

    #[test]
    fn credential_debug_omits_value() {
        let shown = format!("{:?}", Credential::new("key", "hunter2"));
        assert_eq!(shown, "Credential(key, 7 bytes)");
    }
}
