//! `sandbox template build`, and the same in the background after a start that
//! found no template.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use super::context::Context;
use super::{ExitStatus, Outcome, image, prepare};
use crate::cli::TemplateBuildArguments;
use crate::output::Report;
use sandbox::supervisor::TemplateStage;
use sandbox::templates::{self, BuildRequest};
use sandbox::{MachineShape, StartPlan};
use sandbox_host::files;
use sandbox_host::notices::{Notice, Notices};
use sandbox_host::process::step_back;
use sandbox_spec::TemplatePolicy;
use sandbox_store::template::{Begin, Shape};

/// After a build in the background failed, so long none is begun for the same
/// shape.
const RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// `template build`.
pub(super) async fn run(context: &Context, arguments: TemplateBuildArguments) -> Outcome {
    if arguments.background {
        step_back();
    }
    let mut notices = Notices::of_process()?;
    let hypervisor = prepare::hypervisor(context, &context.directories.state)?;
    let version = hypervisor.program.version;
    if version < templates::LEAST_QEMU {
        return Err(Report::new(
            format!("QEMU {version} cannot save guests as templates"),
            Some(format!("install QEMU {} or later", templates::LEAST_QEMU).into()),
        ));
    }
    let Some(stored) = image::obtain(context, &context.settings.image, &mut notices).await? else {
        return Ok(ExitStatus::INTERRUPTED);
    };
    let settings = &context.settings;
    let machine = MachineShape::fitting(
        settings.cpus,
        settings.memory,
        settings.disk,
        arguments.share_count.unwrap_or(settings.shares.len()),
    );
    let image = prepare::boot_image(&stored);
    let host = prepare::host_setup(context, &hypervisor).await?;
    let shape = templates::shape(machine, &image, version, host.accelerator);
    let store = context.templates();
    store.check_space(shape.memory_bytes)?;
    let build = match store.begin(shape)? {
        Begin::Building(build) => build,
        Begin::Busy => {
            return Err(Report::new(
                "this template is being built already",
                Some("`sandbox template ls` shows it".into()),
            ));
        }
        Begin::Exists(template) => {
            context.printer.notice(format_args!(
                "the template `{}` is there already",
                template.key
            ));
            return Ok(ExitStatus::SUCCESS);
        }
    };
    if let Some(warning) = &hypervisor.decision.warning {
        context.printer.warning(warning);
    }
    let log = build.log();
    let request = BuildRequest {
        build,
        machine,
        image,
        host: &host,
        directories: &context.directories,
        ready_timeout: settings
            .ready_timeout
            .unwrap_or(prepare::ready_timeout(host.accelerator)),
    };
    let mut progress = context.printer.progress();
    let building = templates::build(request, |stage| {
        progress.step(match stage {
            TemplateStage::Crashed => "QEMU crashed; once more",
            TemplateStage::Booting => "booting the guest to be saved",
            TemplateStage::Quiescing => "the guest forgets who it is",
            TemplateStage::Saving => "saving",
        });
    });
    let built = tokio::select! {
        built = building => built,
        () = terminated(&mut notices) => return Ok(ExitStatus::INTERRUPTED),
    };
    let (template, times) = match built {
        Ok(built) => built,
        Err(error) => {
            let report = Report::from(error);
            if arguments.background {
                // Nobody reads what is printed.
                files::write_private_volatile(&log, report.render().as_bytes())?;
            }
            return Err(report);
        }
    };
    progress.finish();
    let expectations = templates::expectations(&context.images(), Some(version.to_string()))?;
    store.evict(&settings.template_limits, &template.key, &expectations)?;
    context.printer.notice(format_args!(
        "built the template `{}`: booted in {:.1} s, saved in {:.2} s",
        template.key,
        times.boot.as_secs_f64(),
        times.save.as_secs_f64()
    ));
    Ok(ExitStatus::SUCCESS)
}

async fn terminated(notices: &mut Notices) {
    while !matches!(notices.next().await, Notice::Termination(_)) {}
}

/// Whether a build in the background has written down why it failed, and that
/// is not long ago.
fn failed_lately(log: &Path) -> bool {
    let Ok(metadata) = std::fs::metadata(log) else {
        return false;
    };
    let age = metadata
        .modified()
        .map(|failed| SystemTime::now().duration_since(failed));
    metadata.len() > 0 && age.is_ok_and(|age| age.is_ok_and(|age| age < RETRY_AFTER))
}

/// Builds the template that the start of `plan` would have liked to have, in a
/// process of its own that outlives this one. Whether it can be started or
/// not, the sandbox runs.
pub(super) fn in_background(context: &Context, plan: &StartPlan, shape: &Shape) {
    if context.settings.templates != TemplatePolicy::Auto
        || failed_lately(&context.templates().log(&shape.key()))
    {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let spec = &plan.spec;
    let mut command = Command::new(program);
    command
        .args(["template", "build", "--background", "--quiet"])
        .args(["--image", &plan.image.name])
        .args(["--cpus", &spec.cpus.to_string()])
        .args(["--memory", &spec.memory.to_string()])
        .args(["--disk", &spec.disk.to_string()])
        .args(["--share-count", &spec.shares.len().to_string()])
        .args(["--accel", &plan.accelerator.to_string()])
        .current_dir(Path::new("/"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            Ok(())
        });
    }
    // It is nobody's child soon: this process ends before it.
    drop(command.spawn());
}
