//! Reads the host's credentials from the firmware, like systemd's PID 1
//! (systemd.system-credentials(7)).

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use crate::{base64, smbios};

/// The SMBIOS structures, in directories named `TYPE-INSTANCE` (kernel
/// documentation, `ABI/testing/sysfs-firmware-dmi-entries`).
const SMBIOS_ENTRIES: &str = "/sys/firmware/dmi/entries";

/// The prefix of type 11: OEM strings.
const OEM_STRINGS: &str = "11-";

/// The entries of QEMU's `-fw_cfg name=opt/io.systemd.credentials/NAME` (kernel
/// documentation, `ABI/testing/sysfs-firmware-qemu_fw_cfg`).
const FW_CFG_ENTRIES: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials";

const TEXT_PREFIX: &[u8] = b"io.systemd.credential:";
const BINARY_PREFIX: &[u8] = b"io.systemd.credential.binary:";

/// The directory in which systemd keeps the credentials of this boot.
const SYSTEM_CREDENTIALS: &str = "/run/credentials/@system";

/// Returns a credential of this boot as text. In a restored guest, this is the
/// boot of the template.
pub(crate) fn boot_credential(name: &str) -> Option<String> {
    fs::read_to_string(Path::new(SYSTEM_CREDENTIALS).join(name)).ok()
}

/// Named values from the host: the seed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Credentials(BTreeMap<String, Vec<u8>>);

impl Credentials {
    /// Reads the credentials from SMBIOS and fw_cfg. Both may be absent: a
    /// machine that was started by hand has no seed.
    pub(crate) fn from_firmware() -> io::Result<Self> {
        let mut credentials = Self::default();
        for (name, path) in entries(SMBIOS_ENTRIES)? {
            if name.starts_with(OEM_STRINGS) {
                let structure = fs::read(path.join("raw"))?;
                for string in smbios::strings(&structure) {
                    credentials.add_string(string);
                }
            }
        }
        for (name, path) in entries(FW_CFG_ENTRIES)? {
            credentials.0.insert(name, fs::read(path.join("raw"))?);
        }
        Ok(credentials)
    }

    /// Adds the credential of one OEM string. Ignores other strings and invalid
    /// base64.
    fn add_string(&mut self, string: &[u8]) {
        let split = |text: &[u8]| {
            let equals = text.iter().position(|&byte| byte == b'=')?;
            let name = std::str::from_utf8(&text[..equals]).ok()?.to_owned();
            Some((name, text[equals + 1..].to_vec()))
        };
        let credential = if let Some(text) = string.strip_prefix(TEXT_PREFIX) {
            split(text)
        } else if let Some(text) = string.strip_prefix(BINARY_PREFIX) {
            split(text).and_then(|(name, value)| Some((name, base64::decode(&value)?)))
        } else {
            None
        };
        self.0.extend(credential);
    }

    /// Returns names and values, sorted by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// Returns the value of a credential.
    pub(crate) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// Returns the value of a credential as text. Replaces invalid UTF-8.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.bytes(name)
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }
}

impl From<Vec<(String, Vec<u8>)>> for Credentials {
    fn from(values: Vec<(String, Vec<u8>)>) -> Self {
        Self(values.into_iter().collect())
    }
}

/// Returns names and paths in a directory; none if it does not exist.
fn entries(directory: &str) -> io::Result<Vec<(String, std::path::PathBuf)>> {
    let entries = match fs::read_dir(Path::new(directory)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries
        .map(|entry| {
            let entry = entry?;
            Ok((
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            ))
        })
        .collect()
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Credentials {
    fn from(values: [(&str, &str); N]) -> Self {
        Self(
            values
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn add_string_decodes_credentials_and_ignores_other_strings() {
        let mut credentials = Credentials::default();
        for string in [
            "io.systemd.credential:system.hostname=box",
            "io.systemd.credential:sandbox.environment=A=1\nB=2",
            "io.systemd.credential.binary:sandbox.ssh-host-key=LS0tCg==",
            "io.systemd.credential.binary:broken=!",
            "io.systemd.credential:no-value",
            "io.systemd.stub.kernel-cmdline-extra=x=y",
            "unrelated",
        ] {
            credentials.add_string(string.as_bytes());
        }
        assert_eq!(
            credentials,
            Credentials::from([
                ("system.hostname", "box"),
                ("sandbox.environment", "A=1\nB=2"),
                ("sandbox.ssh-host-key", "---\n"),
            ])
        );
        assert_eq!(credentials.text("system.hostname").as_deref(), Some("box"));
        assert_eq!(credentials.bytes("absent"), None);
    }
}
