//! Numbers and garbage in words.

use sandbox::GarbageKind;

/// A number with its noun.
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A size for people.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

/// What something that nothing uses is.
pub(super) fn garbage(what: &GarbageKind) -> String {
    match what {
        GarbageKind::Template { key, reason } => format!("template {key}: {reason}"),
        GarbageKind::UnfinishedTemplates(count) => counted(
            *count,
            "template that was not finished",
            "templates that were not finished",
        ),
        GarbageKind::TemplateGuests(count) => counted(
            *count,
            "guest that did not become a template",
            "guests that did not become templates",
        ),
        GarbageKind::ReplacedImageFiles(count) => counted(
            *count,
            "file of images that were replaced",
            "files of images that were replaced",
        ),
        GarbageKind::UnfinishedImages(count) => counted(
            *count,
            "image that was not finished",
            "images that were not finished",
        ),
        GarbageKind::DeadSandboxes(count) => {
            counted(*count, "sandbox that has died", "sandboxes that have died")
        }
        GarbageKind::OldTemplateLogs(count) => counted(
            *count,
            "old log of a template that failed",
            "old logs of templates that failed",
        ),
        other => format!("{other:?}"),
    }
}
