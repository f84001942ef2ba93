//! `sandbox --kvm --dry-run`: prints the plan of a start.

use sandbox::{Event, Lifetime, StartOptions, StartPlan};
use sandbox_qemu::{accelerator, program};
use sandbox_spec::SandboxName;

use super::context::Context;
use super::{ExitStatus, Outcome, session};

pub(super) async fn run(
    context: &Context,
    name: Option<&SandboxName>,
    flags: StartOptions,
) -> Outcome {
    // The plan probes QEMU and KVM as a start does, but must not write into the state directory.
    let scratch = tempfile::tempdir()?;
    for known in [program::CACHE_FILE, accelerator::CACHE_FILE] {
        // A copied cache saves a probe. It may not exist yet.
        drop(std::fs::copy(
            context.host.directories().state.join(known),
            scratch.path().join(known),
        ));
    }
    let mut builder = context.builder(flags)?.lifetime(Lifetime::Persistent);
    if let Some(name) = name {
        builder = builder.name(name.as_str());
    }
    let planned = session::with_agent_keys(builder)
        .await
        .plan(scratch.path())?;
    for event in &planned.events {
        if let Event::Emulated(_) | Event::CloudConfigIgnored { .. } = event {
            super::start::warn(context.printer, event);
        }
    }
    if !planned.is_image_stored {
        context.printer.notice(format_args!(
            "image `{}` is not stored yet: a start builds it first, and names its files by their digests",
            planned.plan.image.name
        ));
    }
    context.printer.data(describe(&planned.plan))?;
    Ok(ExitStatus::SUCCESS)
}

fn describe(plan: &StartPlan) -> String {
    let spec = &plan.spec;
    let digest = match plan.image.digest {
        Some(digest) => digest.to_string(),
        None => "unknown".into(),
    };
    let mut lines = vec![
        format!("sandbox    {}", spec.name),
        format!(
            "workspace  {}",
            spec.workspace
                .as_deref()
                .unwrap_or_else(|| "".as_ref())
                .display()
        ),
        format!("state      {}", plan.layout.directory().display()),
        format!("image      {} {digest}", plan.image.name),
        format!(
            "machine    {} processor{}, {} memory, {} disk, {}{}",
            spec.cpus,
            if spec.cpus.get() == 1 { "" } else { "s" },
            spec.memory,
            spec.disk,
            plan.accelerator,
            super::format::nested_virtualization(spec.nested_virtualization)
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

/// Returns the lines of the network. They contain no value of a secret.
fn network(spec: &sandbox::NetworkSpec) -> Vec<String> {
    let mode = match spec.proxy {
        true => ", allowlisted domains only",
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

/// Returns the command line quoted for a shell, with one option per line.
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
