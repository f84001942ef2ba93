//! `sandbox template`: build, list, inspect, remove.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::context::Context;
use super::format::megabytes;
use super::start::{Reporter, terminated};
use super::{ExitStatus, Outcome};
use crate::cli::{TemplateBuildArguments, TemplateCommand};
use crate::output::{Report, Table};
use sandbox::{Event, StartOptions, TemplateRequest};
use sandbox_host::notices::Notices;
use sandbox_spec::{KeyPrefix, SandboxName, TemplateKey, format_bytes};
use sandbox_store::template::{
    Entry, EntryState, Expectations, Obsolescence, Shape, TemplateFiles,
};

pub(super) async fn run(context: &Context, command: TemplateCommand) -> Outcome {
    match command {
        TemplateCommand::Build(arguments) => build(context, arguments).await,
        TemplateCommand::Ls(arguments) => list(context, arguments.json),
        TemplateCommand::Inspect { key, json } => inspect(context, &key, json.json),
        TemplateCommand::Rm { keys, all } => remove(context, &keys, all),
    }
}

async fn build(context: &Context, arguments: TemplateBuildArguments) -> Outcome {
    let mut notices = Notices::of_process()?;
    let options = StartOptions::from(arguments.machine).combine(context.configuration()?);
    let request = TemplateRequest::new(options);
    let reporter = Reporter::new(context);
    let show = |event: &Event| reporter.show(event);
    let cancel = terminated(&mut notices);
    let built = context.host.build_template(request, show, cancel).await;
    reporter.finish();
    let Some(built) = built? else {
        return Ok(ExitStatus::INTERRUPTED);
    };
    let key = built.key;
    match built.times {
        None => context
            .printer
            .notice(format_args!("template `{key}` already exists")),
        Some(times) => context.printer.notice(format_args!(
            "built template `{key}`: booted in {:.1} s, saved in {:.2} s",
            times.boot.as_secs_f64(),
            times.save.as_secs_f64()
        )),
    }
    Ok(ExitStatus::SUCCESS)
}

/// The JSON of a template.
#[derive(Serialize)]
struct Info<'a> {
    key: TemplateKey,
    /// `ready`, `building` or `broken`.
    state: &'static str,
    /// The fault of a broken template.
    fault: Option<String>,
    /// The start of a build in progress.
    since: Option<jiff::Timestamp>,
    /// Why starts no longer use the template.
    obsolete: Option<Obsolescence>,
    /// Running sandboxes that were restored from the template.
    in_use_by: Vec<SandboxName>,
    allocated_bytes: u64,
    /// The time of the last start that used the template, or of its build.
    last_used: Option<jiff::Timestamp>,
    shape: Option<&'a Shape>,
    files: Option<&'a TemplateFiles>,
    created: Option<jiff::Timestamp>,
    build_seconds: Option<f64>,
}

impl<'a> Info<'a> {
    fn new(entry: &'a Entry, expectations: &Expectations, users: Vec<SandboxName>) -> Self {
        let mut info = Self {
            key: entry.key,
            state: "ready",
            fault: None,
            since: None,
            obsolete: None,
            in_use_by: users,
            allocated_bytes: entry.allocated_bytes,
            last_used: None,
            shape: entry.shape(),
            files: None,
            created: None,
            build_seconds: None,
        };
        match &entry.state {
            EntryState::Ready(metadata) => {
                info.obsolete = expectations.obsolescence(&metadata.shape);
                info.last_used = Some(entry.last_used);
                info.files = Some(&metadata.files);
                info.created = Some(metadata.created);
                info.build_seconds = Some(metadata.build_seconds);
            }
            EntryState::Building { since, .. } => {
                info.state = "building";
                info.since = Some(*since);
            }
            EntryState::Broken(fault) => {
                info.state = "broken";
                info.fault = Some(fault.to_string());
            }
        }
        info
    }

    /// Returns the state as text.
    fn state_text(&self) -> String {
        match (self.since, self.obsolete) {
            (Some(since), _) => {
                let age = SystemTime::now().duration_since(since.into());
                let age = age.unwrap_or(Duration::ZERO).as_secs();
                format!("{} for {age} s", self.state)
            }
            (None, Some(_)) => "obsolete".into(),
            (None, None) if !self.in_use_by.is_empty() => "in use".into(),
            (None, None) => self.state.into(),
        }
    }
}

fn list(context: &Context, json: bool) -> Outcome {
    let entries = context.host.templates().list()?;
    let users = context.host.template_users()?;
    let expectations = context.host.template_expectations()?;
    let infos: Vec<Info> = entries
        .iter()
        .map(|entry| {
            let users = users.get(&entry.key).cloned().unwrap_or_default();
            Info::new(entry, &expectations, users)
        })
        .collect();
    if json {
        context.printer.json(&infos)?;
        return Ok(ExitStatus::SUCCESS);
    }
    let mut table = Table::new(&[
        "key",
        "state",
        "image",
        "cpus",
        "memory",
        "shares",
        "accel",
        "size",
        "last used",
    ]);
    for info in infos {
        if let Some(fault) = &info.fault {
            context.printer.warning(format_args!(
                "template `{}` cannot be used: {fault} (run `sandbox prune` to remove it)",
                info.key
            ));
        }
        let shape = |text: fn(&Shape) -> String| info.shape.map(text).unwrap_or_default();
        table.row([
            info.key.to_string(),
            info.state_text(),
            shape(|shape| shape.image_name.to_string()),
            shape(|shape| shape.cpus.to_string()),
            shape(|shape| format_bytes(shape.memory_bytes)),
            shape(|shape| shape.share_devices.to_string()),
            shape(|shape| shape.accelerator.to_string()),
            megabytes(info.allocated_bytes),
            info.last_used
                .map(|time| time.strftime("%Y-%m-%d %H:%M").to_string())
                .unwrap_or_default(),
        ]);
    }
    context.printer.data(table)?;
    Ok(ExitStatus::SUCCESS)
}

fn inspect(context: &Context, key: &KeyPrefix, json: bool) -> Outcome {
    let entry = context.host.templates().resolve(key)?;
    let users = context.host.template_users()?;
    let users = users.get(&entry.key).cloned().unwrap_or_default();
    let info = Info::new(&entry, &context.host.template_expectations()?, users);
    if json {
        context.printer.json(&info)?;
        return Ok(ExitStatus::SUCCESS);
    }
    let mut rows = vec![("key", info.key.hex()), ("state", info.state_text())];
    if let Some(fault) = &info.fault {
        rows.push(("fault", fault.clone()));
    }
    if let Some(obsolescence) = info.obsolete {
        rows.push(("obsolete", obsolescence.to_string()));
    }
    let users: Vec<&str> = info.in_use_by.iter().map(SandboxName::as_str).collect();
    rows.push(("used by", users.join(", ")));
    if let Some(shape) = info.shape {
        rows.extend(shape_rows(shape));
    }
    rows.push(("size", megabytes(info.allocated_bytes)));
    let time = |time: jiff::Timestamp| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    if let (Some(created), Some(seconds)) = (info.created, info.build_seconds) {
        rows.push(("made", format!("{}, in {seconds:.0} s", time(created))));
    }
    rows.push(("last used", info.last_used.map(time).unwrap_or_default()));
    for (name, value) in rows {
        if !value.is_empty() {
            context.printer.data(format_args!("{name:<10} {value}"))?;
        }
    }
    Ok(ExitStatus::SUCCESS)
}

fn shape_rows(shape: &Shape) -> [(&'static str, String); 7] {
    [
        (
            "image",
            format!("{} {}", shape.image_name, shape.image_digest),
        ),
        ("kernel", shape.kernel_command_line.clone()),
        (
            "machine",
            format!(
                "{} processors, {} memory, {} disk, {} share devices, {}",
                shape.cpus,
                format_bytes(shape.memory_bytes),
                format_bytes(shape.disk_bytes),
                shape.share_devices,
                shape.accelerator
            ),
        ),
        ("hardware", shape.hardware.clone()),
        ("host", shape.host_processor.clone()),
        ("qemu", shape.qemu_version.clone()),
        ("program", shape.program.clone()),
    ]
}

fn remove(context: &Context, keys: &[KeyPrefix], all: bool) -> Outcome {
    let store = context.host.templates();
    let users = context.host.template_users()?;
    let mut entries = Vec::new();
    if all {
        entries = store.list()?;
        entries.retain(|entry| !is_building(entry));
    }
    for key in keys {
        let entry = store.resolve(key)?;
        if is_building(&entry) {
            return Err(Report::new(
                format!("template `{}` is being built", entry.key),
                Some("run `sandbox template ls` to see when the build has finished".into()),
            ));
        }
        entries.push(entry);
    }
    for entry in entries {
        let key = entry.key;
        // Another command may have removed it, or the key was given twice.
        let Some(bytes) = store.discard(&key)? else {
            continue;
        };
        let size = megabytes(bytes);
        match users.get(&key).and_then(|users| users.first()) {
            Some(user) => context.printer.notice(format_args!(
                "removed `{key}`; its {size} become free when the sandbox `{user}` stops"
            )),
            None => context
                .printer
                .notice(format_args!("removed `{key}`, {size}")),
        }
    }
    Ok(ExitStatus::SUCCESS)
}

fn is_building(entry: &Entry) -> bool {
    matches!(entry.state, EntryState::Building { .. })
}
