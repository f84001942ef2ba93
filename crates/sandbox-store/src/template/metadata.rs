//! What the store records about a template: `<key>/template.json`.

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
    /// What it is for.
    pub shape: Shape,
    /// Size of the disk as the guest sees it, in bytes.
    pub disk_bytes: u64,
    /// The files beside this one.
    pub files: TemplateFiles,
    /// When it was finished.
    pub created: jiff::Timestamp,
    /// How long making it took, in seconds.
    pub build_seconds: f64,
}

/// What the files of a template were when it was finished.
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

/// The device state, the only file that is small enough to be hashed at each start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateFile {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// Reads the record of the template `key`, looking at the version before anything else.
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
    fn metadata_is_read_back_as_written() {
        let metadata = sample();
        let bytes = serde_json::to_vec_pretty(&metadata).unwrap();
        assert_eq!(parse(&bytes, &metadata.shape.key()).unwrap(), metadata);
    }

    #[test]
    fn other_version_is_told_before_the_rest_is_read() {
        let fault = parse(br#"{"version":2,"surprise":1}"#, &sample().shape.key()).unwrap_err();
        assert!(matches!(fault, TemplateFault::OtherVersion(2)));
    }

    #[test]
    fn unknown_field_damage_and_another_shape_are_refused() {
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
