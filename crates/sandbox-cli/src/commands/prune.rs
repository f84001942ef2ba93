//! `sandbox prune`.

use super::context::Context;
use sandbox::Garbage;

use super::format::{counted, garbage, megabytes};
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
            print_removal(context, removal)?;
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
        context.printer.notice("nothing removed");
        return Ok(ExitStatus::FAILURE);
    }
    let mut freed = 0;
    let mut status = ExitStatus::SUCCESS;
    for removal in &removals {
        // A failed removal must not prevent the others.
        match removal.collect() {
            Ok(()) => {
                print_removal(context, removal)?;
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

fn print_removal(context: &Context, removal: &Garbage) -> std::io::Result<()> {
    let size = megabytes(removal.allocated_bytes());
    context
        .printer
        .data(format_args!("{}, {size}", garbage(removal.what())))
}

/// Asks for confirmation if a template that starts may use is among the removals. Agrees without a
/// terminal.
fn is_agreed(context: &Context, removals: &[Garbage]) -> std::io::Result<bool> {
    let usable: Vec<&Garbage> = removals
        .iter()
        .filter(|removal| removal.is_of_use())
        .collect();
    if usable.is_empty() {
        return Ok(true);
    }
    let bytes = usable.iter().map(|removal| removal.allocated_bytes()).sum();
    let answer = context.printer.ask(format_args!(
        "also remove {} that starts may use ({})? The next starts boot, and build them again",
        counted(usable.len(), "template", "templates"),
        megabytes(bytes)
    ))?;
    Ok(answer.unwrap_or(true))
}
