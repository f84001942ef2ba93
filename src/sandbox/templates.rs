//! What of the template store is of use to starts of this program.

use crate::image::{GUEST_AGENT_SHA256, ImageError, ImageStore};
use crate::template::Expectations;

/// [`Shape::program`](crate::template::Shape::program) of this program: its version and the
/// guest agent in it, so that host and guest of a template are always of one build.
pub fn program() -> String {
    format!("{} {GUEST_AGENT_SHA256}", env!("CARGO_PKG_VERSION"))
}

/// What starts of this program ask for, with the QEMU of this version.
///
/// # Errors
///
/// The image store cannot be listed.
pub fn expectations(
    images: &ImageStore,
    qemu_version: Option<String>,
) -> Result<Expectations, ImageError> {
    let mut image_digests = Some(std::collections::BTreeSet::new());
    for entry in images.list()? {
        // What an unreadable image is, nobody knows: templates on it may be of use.
        match (entry.image, &mut image_digests) {
            (Ok(image), Some(digests)) => {
                digests.insert(image.metadata.digest.to_string());
            }
            _ => image_digests = None,
        }
    }
    Ok(Expectations {
        image_digests,
        program: program(),
        qemu_version,
    })
}
