//! The record of a template, `<key>/template.json`.

use sandbox_spec::TemplateKey;
use serde::{Deserialize, Serialize};

use super::error::TemplateFault;
use super::shape::{METADATA_VERSION, Shape};

/// The record of one template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// [`METADATA_VERSION`] when it was written.
    pub version: u32,
    /// The machine that it restores.
    pub shape: Shape,
    /// Size of the guest's disk as the guest sees it, in bytes.
    pub disk_bytes: u64,
    /// The other files of the template.
    pub files: TemplateFiles,
    /// The end of the build.
    pub created: jiff::Timestamp,
    /// Duration of the build, in seconds.
    pub build_seconds: f64,
}

/// The files of a template at the end of its build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateFiles {
    /// Length in bytes of `ram`, holes included.
    pub ram_bytes: u64,
    /// The file `state`.
    pub state: StateFile,
    /// Length in bytes of `disk.qcow2`.
    pub disk_bytes: u64,
}

/// The device state. It is the only file that is small enough for a start to hash it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateFile {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// Reads the record of the template `key`. Checks the version before the other fields.
pub(super) fn parse(bytes: &[u8], key: &TemplateKey) -> Result<Metadata, TemplateFault> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(bytes).map_err(TemplateFault::Unreadable)?;
    if version != METADATA_VERSION {
        return Err(TemplateFault::OtherVersion(version));
    }
    let metadata: Metadata = serde_json::from_slice(bytes).map_err(TemplateFault::Unreadable)?;
    if metadata.shape.key() != *key {
        return Err(TemplateFault::OtherShape);
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use sandbox_spec::Digest;

    use super::*;
    use crate::template::shape;

    fn sample() -> Metadata {
        Metadata {
            version: METADATA_VERSION,
            shape: shape::tests::sample(1 << 31),
            disk_bytes: 20 << 30,
            files: TemplateFiles {
                ram_bytes: 1 << 31,
                state: StateFile {
                    bytes: 5,
                    sha256: Digest::of(b"state").hex(),
                },
                disk_bytes: 196_608,
            },
            created: "2026-01-02T03:04:05Z".parse().unwrap(),
            build_seconds: 12.5,
        }
    }

    #[test]
    fn parse_reads_written_metadata() {
        let metadata = sample();
        let bytes = serde_json::to_vec_pretty(&metadata).unwrap();
        assert_eq!(parse(&bytes, &metadata.shape.key()).unwrap(), metadata);
    }

    #[test]
    fn parse_other_version_ignores_unknown_fields() {
        let fault = parse(br#"{"version":2,"surprise":1}"#, &sample().shape.key()).unwrap_err();
        assert!(matches!(fault, TemplateFault::OtherVersion(2)));
    }

    #[test]
    fn parse_unknown_field_damage_or_other_shape_fails() {
        let metadata = sample();
        let key = metadata.shape.key();
        let text = serde_json::to_string(&metadata).unwrap();
        for damaged in [
            text.replacen('{', r#"{"extra":1,"#, 1),
            text.replacen(r#""shape":{"#, r#""shape":{"extra":1,"#, 1),
            text[..text.len() / 2].to_owned(),
            String::new(),
        ] {
            let fault = parse(damaged.as_bytes(), &key).unwrap_err();
            assert!(matches!(fault, TemplateFault::Unreadable(_)), "{damaged}");
        }
        let other = text.replacen("q35", "pc", 1);
        let fault = parse(other.as_bytes(), &key).unwrap_err();
        assert!(matches!(fault, TemplateFault::OtherShape));
    }
}
