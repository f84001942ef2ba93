//! The shape of a template: everything that a restored guest can no longer change.

use std::collections::BTreeSet;
use std::fmt;

use sandbox_spec::{Accelerator, Digest, ImageReference, TemplateKey};
use serde::{Deserialize, Serialize};

/// The version of the store's format that this program reads and writes. It is part of every key,
/// so a program of another version looks for other templates.
pub const METADATA_VERSION: u32 = 1;

/// The machine that a template was saved from. A start uses a template only if its own shape is
/// equal, field by field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Digest of the base image of the disk layer.
    pub image_digest: Digest,
    /// The name under which the image was stored.
    pub image_name: ImageReference,
    /// Command line of the guest's kernel.
    pub kernel_command_line: String,
    /// Version of QEMU: another version may not read the saved devices.
    pub qemu_version: String,
    /// The part of QEMU's command line that defines the machine: type, processors, and devices in
    /// their order.
    pub hardware: String,
    /// Number of processors.
    pub cpus: u32,
    /// Size of the guest's memory in bytes.
    pub memory_bytes: u64,
    /// Size of the root disk in bytes. The disk of a restored guest can grow, but not shrink.
    pub disk_bytes: u64,
    /// Number of share devices, used and unused.
    pub share_devices: u32,
    /// The accelerator of the guest's processors.
    pub accelerator: Accelerator,
    /// Model and flags of the host's processor with KVM, where the guest sees them; empty with
    /// TCG.
    pub host_processor: String,
    /// Version of this program, and digest of the guest agent that runs in the template.
    pub program: String,
}

impl Shape {
    /// Returns the name of the template for this shape. It is the SHA-256 digest of the store's
    /// format version and the compact JSON form, with fields in the order of declaration.
    pub fn key(&self) -> TemplateKey {
        let mut canonical = format!("sandbox template {METADATA_VERSION}\n").into_bytes();
        serde_json::to_writer(&mut canonical, self)
            .expect("a row of strings and numbers serializes to JSON");
        TemplateKey::new(Digest::of(&canonical).bytes())
    }
}

/// The properties that every start of this program asks for, independent of the user's choices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expectations {
    /// Digests of the stored images; `None` if an image cannot be read, so that they are unknown.
    pub image_digests: Option<BTreeSet<Digest>>,
    /// [`Shape::program`] of this program.
    pub program: String,
    /// Version of QEMU, if it is known.
    pub qemu_version: Option<String>,
}

/// The reason why no start will ask for a template again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obsolescence {
    /// Its image is no longer stored.
    Image,
    /// Another version of this program built it.
    Program,
    /// Another version of QEMU saved it.
    Qemu,
}

impl fmt::Display for Obsolescence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Image => "its image is no longer stored",
            Self::Program => "built by another version of `sandbox`",
            Self::Qemu => "saved by another version of QEMU",
        })
    }
}

impl Expectations {
    /// Returns why no start will ask for `shape`, and `None` if a start may.
    pub fn obsolescence(&self, shape: &Shape) -> Option<Obsolescence> {
        let has_no_image = self
            .image_digests
            .as_ref()
            .is_some_and(|digests| !digests.contains(&shape.image_digest));
        let has_other_qemu = self
            .qemu_version
            .as_ref()
            .is_some_and(|version| *version != shape.qemu_version);
        if has_no_image {
            Some(Obsolescence::Image)
        } else if shape.program != self.program {
            Some(Obsolescence::Program)
        } else if has_other_qemu {
            Some(Obsolescence::Qemu)
        } else {
            None
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a shape with this much memory.
    pub(crate) fn sample(memory_bytes: u64) -> Shape {
        Shape {
            image_digest: Digest::of(b"image"),
            image_name: "debian-13".parse().unwrap(),
            kernel_command_line: "root=/dev/vda".into(),
            qemu_version: "10.0.2".into(),
            hardware: "-machine q35 -cpu max".into(),
            cpus: 2,
            memory_bytes,
            disk_bytes: 20 << 30,
            share_devices: 4,
            accelerator: Accelerator::Tcg,
            host_processor: String::new(),
            program: "0.1.0 agent".into(),
        }
    }

    #[test]
    fn key_depends_on_every_field() {
        let shape = sample(1 << 31);
        let marker = String::from("another");
        let others = [
            Shape {
                image_digest: Digest::of(b"another"),
                ..shape.clone()
            },
            Shape {
                image_name: "another".parse().unwrap(),
                ..shape.clone()
            },
            Shape {
                kernel_command_line: marker.clone(),
                ..shape.clone()
            },
            Shape {
                qemu_version: marker.clone(),
                ..shape.clone()
            },
            Shape {
                hardware: marker.clone(),
                ..shape.clone()
            },
            Shape {
                cpus: 3,
                ..shape.clone()
            },
            Shape {
                memory_bytes: 1,
                ..shape.clone()
            },
            Shape {
                disk_bytes: 1,
                ..shape.clone()
            },
            Shape {
                share_devices: 5,
                ..shape.clone()
            },
            Shape {
                accelerator: Accelerator::Kvm,
                ..shape.clone()
            },
            Shape {
                host_processor: marker.clone(),
                ..shape.clone()
            },
            Shape {
                program: marker,
                ..shape.clone()
            },
        ];
        let mut keys: BTreeSet<_> = others.iter().map(Shape::key).collect();
        keys.insert(shape.key());
        assert_eq!(keys.len(), 13);
        assert_eq!(shape.clone().key(), shape.key());
    }

    #[test]
    fn key_of_text_moved_between_fields_differs() {
        let one = Shape {
            kernel_command_line: "a\",\"b".into(),
            qemu_version: "c".into(),
            ..sample(1)
        };
        let other = Shape {
            kernel_command_line: "a".into(),
            qemu_version: "b\",\"c".into(),
            ..sample(1)
        };
        assert_ne!(one.key(), other.key());
    }

    #[test]
    fn obsolescence_reports_first_unmet_expectation() {
        let shape = sample(1);
        let now = Expectations {
            image_digests: Some([Digest::of(b"image")].into()),
            program: shape.program.clone(),
            qemu_version: Some(shape.qemu_version.clone()),
        };
        assert_eq!(now.obsolescence(&shape), None);
        let cases = [
            (
                Expectations {
                    image_digests: Some(BTreeSet::new()),
                    ..now.clone()
                },
                Some(Obsolescence::Image),
            ),
            (
                Expectations {
                    image_digests: None,
                    ..now.clone()
                },
                None,
            ),
            (
                Expectations {
                    program: "0.2.0 agent".into(),
                    ..now.clone()
                },
                Some(Obsolescence::Program),
            ),
            (
                Expectations {
                    qemu_version: Some("11.0".into()),
                    ..now.clone()
                },
                Some(Obsolescence::Qemu),
            ),
            (
                Expectations {
                    qemu_version: None,
                    ..now.clone()
                },
                None,
            ),
        ];
        for (expectations, expected) in cases {
            assert_eq!(
                expectations.obsolescence(&shape),
                expected,
                "{expectations:?}"
            );
        }
    }
}
