//! Texts of the stages of a start.

use sandbox::{Stage, TemplateStage};
use sandbox_spec::Accelerator;
use sandbox_store::image::build::BuildProgress;

/// Returns the text of a stage, and its progress if that is known.
pub(crate) fn stage_words(stage: &Stage) -> (String, Option<String>) {
    let words = match stage {
        Stage::Image(step) => return image(*step),
        Stage::Template(TemplateStage::Crashed) => "QEMU crashed: trying again",
        Stage::Template(TemplateStage::Booting) => "booting the guest to save",
        Stage::Template(TemplateStage::Quiescing) => "resetting the guest's identity",
        Stage::Template(TemplateStage::Saving) => "saving the guest",
        Stage::Template(TemplateStage::Recording) => "recording the pages that a start touches",
        Stage::PreparingDisk => "preparing the disk",
        Stage::Booting {
            accelerator: Accelerator::Kvm,
        } => "booting: waiting for the kernel",
        Stage::Booting {
            accelerator: Accelerator::Tcg,
        } => "booting in emulation: waiting for the kernel",
        Stage::Restoring => "restoring the guest",
        Stage::KernelUp => "booting: waiting for the root file system",
        Stage::SystemdStarting => "booting: waiting for systemd",
        Stage::Waiting { reason } => return (format!("waiting for {reason}"), None),
        Stage::Stopping => "stopping",
        other => return (other.to_string(), None),
    };
    (words.into(), None)
}

fn image(step: BuildProgress) -> (String, Option<String>) {
    let words = match step {
        BuildProgress::WaitingForOtherBuild => "waiting for another build of this image",
        BuildProgress::Resolving => "reading package lists",
        BuildProgress::Downloading {
            done_bytes,
            total_bytes,
        } => {
            let detail = format!(
                "{} of {} MB",
                done_bytes / 1_000_000,
                total_bytes / 1_000_000
            );
            return ("downloading packages".into(), Some(detail));
        }
        BuildProgress::Installing { done, total } => {
            return (
                "installing packages".into(),
                Some(format!("{done} of {total}")),
            );
        }
        BuildProgress::Customizing => "customizing the system",
        BuildProgress::WritingDisk => "writing the file system",
        BuildProgress::ReadingKernel => "reading the kernel",
        BuildProgress::ConvertingDisk => "converting the disk",
        BuildProgress::Storing => "storing the image",
    };
    (words.into(), None)
}
