//! `sandbox prune`.

use super::context::Context;
use sandbox::Garbage;

use super::words::{counted, garbage, megabytes};
use super::{ExitStatus, Outcome};
use crate::cli::PruneArguments;

pub(super) fn run(context: &Context, arguments: &PruneArguments) -> Outcome {
    let removals = context.host.garbage(arguments.all)?;
    if removals.is_empty() {
        context.printer.data("nothing to remove")?;
        return Ok(ExitStatus::SUCCESS);
    }
    if arguments.preview {
        for removal in &removals {
            tell(context, removal)?;
        }
        let bytes = removals
            .iter()
            .map(|removal| removal.allocated_bytes())
            .sum();
        context
            .printer
            .data(format_args!("would free {}", megabytes(bytes)))?;
        return Ok(ExitStatus::SUCCESS);
    }
    if !arguments.yes && !is_agreed(context, &removals)? {
        context.printer.notice("nothing was removed");
        return Ok(ExitStatus::FAILURE);
    }
    let mut freed = 0;
    let mut status = ExitStatus::SUCCESS;
    for removal in &removals {
        // What cannot go does not keep the rest.
        match removal.collect() {
            Ok(()) => {
                tell(context, removal)?;
                freed += removal.allocated_bytes();
            }
            Err(error) => {
                context.printer.report(&error.into());
                status = ExitStatus::FAILURE;
            }
        }
    }
    context
        .printer
        .data(format_args!("freed {}", megabytes(freed)))?;
    Ok(status)
}

fn tell(context: &Context, removal: &Garbage) -> std::io::Result<()> {
    let size = megabytes(removal.allocated_bytes());
    context
        .printer
        .data(format_args!("{}, {size}", garbage(removal.what())))
}

/// Asks, if there is somebody to ask and something that takes time to make again.
fn is_agreed(context: &Context, removals: &[Garbage]) -> std::io::Result<bool> {
    let of_use: Vec<&Garbage> = removals
        .iter()
        .filter(|removal| removal.is_of_use())
        .collect();
    if of_use.is_empty() {
        return Ok(true);
    }
    let bytes = of_use.iter().map(|removal| removal.allocated_bytes()).sum();
    let answer = context.printer.ask(format_args!(
        "remove {} that starts may use ({}), too? the next starts boot and make them again",
        counted(of_use.len(), "template", "templates"),
        megabytes(bytes)
    ))?;
    Ok(answer.unwrap_or(true))
}
