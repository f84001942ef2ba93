//! The recording of a template's working set, by trial starts.

use std::time::Duration;

use sandbox_host::files;
use sandbox_qemu::working_set::{Memory, WorkingSet};
use sandbox_spec::{AcceleratorChoice, ImageReference, TemplatePolicy};
use sandbox_store::template::Template;

use crate::error::{Error, ErrorKind};
use crate::host::Host;
use crate::options::StartOptions;
use crate::plan::MachineShape;
use crate::sandbox::Sandbox;

/// The number of trial starts. A page that only one of them writes to may stay unused in others.
const TRIALS: usize = 2;

/// Records the pages of a new template that a start and its first command touch. Starts from the
/// template work without, so a failure is only logged.
pub(super) async fn record(
    host: &Host,
    template: &Template,
    machine: MachineShape,
    image: &ImageReference,
) {
    let recorded = Box::pin(try_record(host, template, machine, image)).await;
    if let Err(error) = recorded {
        tracing::info!(
            error = &error as &dyn std::error::Error,
            "could not record the working set of the template"
        );
    }
}

async fn try_record(
    host: &Host,
    template: &Template,
    machine: MachineShape,
    image: &ImageReference,
) -> Result<(), Error> {
    let mut set: Option<WorkingSet> = None;
    for _ in 0..TRIALS {
        let touched = observe(host, template, machine, image).await?;
        set = Some(set.map_or(touched.clone(), |set| set.intersect(&touched)));
    }
    let json = serde_json::to_vec(&set).expect("numbers serialize to JSON");
    files::write_private(&template.directory.working_set(), &json)?;
    Ok(())
}

/// Starts a sandbox and runs a command in it. Returns the pages that it touched.
async fn observe(
    host: &Host,
    template: &Template,
    machine: MachineShape,
    image: &ImageReference,
) -> Result<WorkingSet, Error> {
    let workspace = tempfile::tempdir()?;
    let options = StartOptions {
        image: Some(image.clone()),
        cpus: Some(machine.cpus),
        memory: Some(machine.memory),
        disk: Some(machine.disk),
        nested_virtualization: Some(machine.nested_virtualization),
        accelerator: Some(AcceleratorChoice::Kvm),
        templates: Some(TemplatePolicy::Manual),
        shares: machine.shares(workspace.path())?,
        ..StartOptions::default()
    };
    let sandbox = Sandbox::builder(host)
        .options(options)
        .name(&trial_name(template))
        .workspace(workspace.path())
        .fresh()
        .start()
        .await?;
    sandbox.exec("true").output().await?;
    let found = host.find(sandbox.name())?;
    let record = found.as_ref().and_then(|found| found.record());
    let used = record.filter(|record| record.template == Some(template.key));
    let Some(qemu) = used.and_then(|record| record.qemu.as_ref()) else {
        return Err(Error::new(
            ErrorKind::Template,
            "the trial start did not use the template",
            None,
        ));
    };
    let memory = Memory {
        qemu: qemu.pid,
        file: &template.directory.ram(),
    };
    let set = WorkingSet::observe(&memory)?;
    sandbox.stop(Duration::ZERO).await?;
    Ok(set)
}

fn trial_name(template: &Template) -> String {
    let key = template.key.to_string();
    format!("template-{}", &key[..8])
}
