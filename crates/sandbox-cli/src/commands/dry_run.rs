//! `sandbox --kvm --dry-run`: the plan, and nothing done.

use super::context::Context;
use super::{ExitStatus, Outcome, prepare, target};
use sandbox::{BootImage, Lifetime, NetworkSpec, StartPlan};
use sandbox_qemu::{accelerator, program};
use sandbox_store::image::Recipe;

pub(super) async fn run(context: &Context) -> Outcome {
    let workspace = target::workspace()?;
    let name = target::name(context, None)?;
    // What QEMU and KVM are is found out as for a start, and forgotten.
    let scratch = tempfile::tempdir()?;
    for known in [program::CACHE_FILE, accelerator::CACHE_FILE] {
        // What was found out before need not be again, and may be nothing.
        drop(std::fs::copy(
            context.directories.state.join(known),
            scratch.path().join(known),
        ));
    }
    let hypervisor = prepare::hypervisor(context, scratch.path())?;
    let stored = context.images().open(&context.settings.image)?;
    let image = match &stored {
        Some(image) => prepare::boot_image(image),
        None => {
            // A start would build it.
            Recipe::embedded(&context.settings.image)?;
            unknown_image(context)
        }
    };
    let accelerator = hypervisor.decision.accelerator;
    let spec =
        prepare::specification(context, name, &workspace, Lifetime::Persistent, accelerator)?;
    let shape = prepare::template_shape(context, &spec, &image, &hypervisor);
    let template = match &shape {
        Some(shape) => context.templates().peek(&shape.key())?,
        None => None,
    };
    let plan = prepare::plan(context, spec, image, &hypervisor, template.as_ref()).await?;
    if let Some(warning) = &hypervisor.decision.warning {
        context.printer.warning(warning);
    }
    if stored.is_none() {
        context.printer.notice(format_args!(
            "the image `{}` is not stored yet: a start builds it first, and its files get names by their digests",
            context.settings.image
        ));
    }
    context.printer.data(describe(&plan))?;
    Ok(ExitStatus::SUCCESS)
}

/// Names where the real ones are known only once the image is built.
fn unknown_image(context: &Context) -> BootImage {
    let blobs = context.directories.images().join("blobs/sha256");
    BootImage {
        name: context.settings.image.to_string(),
        digest: "unknown".into(),
        disk: blobs.join("DISK"),
        disk_bytes: 0,
        kernel: blobs.join("KERNEL"),
        modules: blobs.join("MODULES"),
        command_line: "root=/dev/vda".into(),
    }
}

fn describe(plan: &StartPlan) -> String {
    let spec = &plan.spec;
    let mut lines = vec![
        format!("sandbox    {}", spec.name),
        format!("workspace  {}", spec.workspace.display()),
        format!("state      {}", plan.layout.directory().display()),
        format!("image      {} {}", plan.image.name, plan.image.digest),
        format!(
            "machine    {} processor{}, {} memory, {} disk, {}",
            spec.cpus,
            if spec.cpus.get() == 1 { "" } else { "s" },
            spec.memory,
            spec.disk,
            plan.accelerator
        ),
        format!(
            "overlay    {} on {}",
            plan.layout.overlay().display(),
            match &plan.warm {
                Some(warm) => warm.template.disk.display(),
                None => plan.image.disk.display(),
            }
        ),
    ];
    lines.push(match &plan.warm {
        Some(warm) => format!("template   {}", warm.template.key),
        None => format!(
            "initrd     {} and the guest agent",
            plan.image.modules.display()
        ),
    });
    lines.push(format!(
        "timeout    {} s to readiness",
        spec.ready_timeout.as_secs()
    ));
    lines.extend(network(&spec.network));
    let mut seed = |name: &str, way| lines.push(format!("seed       {name} by {way}"));
    let argv = match &plan.warm {
        Some(warm) => {
            for credential in &warm.credentials {
                seed(&credential.name, "the guest agent");
            }
            &warm.argv
        }
        None => {
            for (way, files) in [
                ("SMBIOS", &plan.cold.seed.smbios),
                ("fw_cfg", &plan.cold.seed.firmware),
            ] {
                files.iter().for_each(|file| seed(&file.name, way));
            }
            &plan.cold.argv
        }
    };
    lines.push(String::new());
    lines.push(command_line(argv));
    lines.join("\n")
}

/// The network, as far as it may be shown.
fn network(spec: &NetworkSpec) -> Vec<String> {
    let mode = match spec.proxy {
        true => ", listed domains only",
        false => "",
    };
    let mut lines = vec![format!("network    {}{mode}", spec.policy.preset)];
    lines.extend(
        spec.policy
            .rules
            .iter()
            .map(|rule| format!("rule       {rule}")),
    );
    lines.extend(
        spec.published
            .iter()
            .map(|port| format!("port       {port}")),
    );
    lines.extend(spec.dns.map(|dns| format!("resolver   {dns}")));
    lines.extend(
        spec.bandwidth
            .map(|limit| format!("bandwidth  {limit} a second")),
    );
    lines.push(format!("limit      {} connections", spec.max_connections));
    lines.extend(spec.secrets.iter().map(|secret| {
        let hosts: Vec<_> = secret.hosts.iter().map(ToString::to_string).collect();
        format!("secret     {} for {}", secret.name, hosts.join(", "))
    }));
    lines
}

/// The command line, quoted for a shell, an option and its value a line.
fn command_line(argv: &[String]) -> String {
    let mut text = String::new();
    for (index, word) in argv.iter().enumerate() {
        if index > 0 {
            text.push_str(if word.starts_with('-') {
                " \\\n    "
            } else {
                " "
            });
        }
        text.push_str(&shell_words::quote(word));
    }
    text
}
