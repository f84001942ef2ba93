//! Text of counts, sizes and garbage.

use sandbox::GarbageKind;

/// Returns a count with its noun.
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Returns a size in megabytes, rounded down.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

/// Returns the part of a machine's description that tells of KVM in the guest.
pub(super) const fn nested_virtualization(nested: bool) -> &'static str {
    match nested {
        true => ", nested virtualization",
        false => "",
    }
}

/// Returns the description of a piece of garbage.
pub(super) fn garbage(what: &GarbageKind) -> String {
    match what {
        GarbageKind::Template { key, reason } => format!("template {key}: {reason}"),
        GarbageKind::UnfinishedTemplates(count) => {
            counted(*count, "unfinished template", "unfinished templates")
        }
        GarbageKind::TemplateGuests(count) => counted(
            *count,
            "orphaned guest of a template build",
            "orphaned guests of template builds",
        ),
        GarbageKind::ReplacedImageFiles(count) => counted(
            *count,
            "file of replaced images",
            "files of replaced images",
        ),
        GarbageKind::UnfinishedImages(count) => {
            counted(*count, "unfinished image", "unfinished images")
        }
        GarbageKind::DeadSandboxes(count) => counted(*count, "dead sandbox", "dead sandboxes"),
        GarbageKind::OldTemplateLogs(count) => counted(
            *count,
            "old log of a failed template build",
            "old logs of failed template builds",
        ),
        other => format!("{other:?}"),
    }
}
