//! systemd credentials and the two ways in which QEMU hands them over:
//! SMBIOS type 11 strings, and firmware configuration items for what is too
//! large (systemd.exec(5), "Credentials"; systemd.system-credentials(7)).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// One named value for the guest.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The name; a file name in the guest, so no `/` and no control characters.
    pub name: String,
    /// The value, any bytes.
    pub value: Vec<u8>,
}

impl std::fmt::Debug for Credential {
    /// Never shows the value: it may be a private key.
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
    /// What the file holds.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for CredentialFile {
    /// Never shows the content: it may be a private key.
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
    /// One SMBIOS type 11 string each.
    pub smbios: Vec<CredentialFile>,
    /// One firmware configuration item each, `opt/io.systemd.credentials/NAME`.
    pub firmware: Vec<CredentialFile>,
}

/// The seed is larger than what QEMU hands over.
#[derive(Debug, thiserror::Error)]
#[error(
    "the configuration for the guest has {bytes} bytes, more than {}",
    Transport::TOTAL_LIMIT
)]
pub struct TooLarge {
    /// Its size.
    pub bytes: usize,
}

impl Credential {
    /// A credential with a text value.
    pub fn new(name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }

    /// The string that systemd reads. Anything but one line of printable ASCII
    /// travels as base64, since SMBIOS strings end at a NUL and tools that
    /// show them do so by lines.
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
    /// What may travel in SMBIOS strings together. Measured: at 20 KB all is
    /// well, at 40 KB the tables overlap the initrd, at 100 KB the guest
    /// silently gets none.
    const SMBIOS_LIMIT: usize = 16 << 10;
    /// What may travel at all; 300 KB were measured to arrive intact.
    const TOTAL_LIMIT: usize = 256 << 10;

    /// Distributes credentials: SMBIOS while there is room, the largest ones
    /// by firmware configuration.
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
    fn text_travels_plain_and_anything_else_as_base64() {
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
    fn what_does_not_fit_goes_by_firmware_configuration() {
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
    fn a_seed_that_no_way_can_carry_is_refused() {
        let credentials = [Credential::new("huge", vec![0; 300 << 10])];
        assert_eq!(
            Transport::of(&credentials).err().map(|error| error.bytes),
            Some(300 << 10)
        );
    }

    #[test]
    fn values_never_show_in_debug_output() {
        let shown = format!("{:?}", Credential::new("key", "hunter2"));
        assert_eq!(shown, "Credential(key, 7 bytes)");
    }
}
