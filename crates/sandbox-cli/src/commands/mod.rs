//! The verbs, one file each: parsed arguments in, exit status out.
//!
//! The commands may use every other room. They print results through the printer.

mod console;
mod context;
mod df;
mod doctor;
mod dry_run;
mod enter;
mod exec;
mod format;
mod gateway;
mod image;
mod info;
mod list;
mod logs;
mod port;
mod proxy;
mod prune;
mod role;
mod run;
mod session;
mod ssh;
mod start;
mod stop;
mod template;

use std::process::ExitCode;

use clap::CommandFactory;
use sandbox::StartOptions;
use sandbox::program::Inheritance;

use self::context::Context;
use crate::cli::{Cli, Command};
use crate::output::{self, Printer, Report, Verbosity};

/// The exit status of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ExitStatus(u8);

impl ExitStatus {
    const SUCCESS: Self = Self(0);
    /// A failure of this tool.
    const FAILURE: Self = Self(1);
    /// A failure of this tool in verbs that return the status of a guest's command, as with
    /// `docker run` and `env`.
    const SESSION_FAILURE: Self = Self(125);
    /// The program in the guest cannot be executed.
    const NOT_EXECUTABLE: Self = Self(126);
    /// The program was not found in the guest.
    const NOT_FOUND: Self = Self(127);
    /// Interrupted by a signal such as Ctrl-C.
    const INTERRUPTED: Self = Self(130);
}

/// The result of a command.
type Outcome = Result<ExitStatus, Report>;

/// Parses the arguments of the process, runs the command, and returns its status.
pub fn main() -> ExitCode {
    let cli = Cli::from_words(std::env::args_os());
    cli.output.color.apply();
    let printer = Printer::new(Verbosity {
        quiet: cli.output.quiet,
        verbose: cli.output.verbose,
        no_progress: cli.output.no_progress,
    });
    let failure = match &cli.command {
        None | Some(Command::Exec(_) | Command::Run(_)) => ExitStatus::SESSION_FAILURE,
        _ => ExitStatus::FAILURE,
    };
    let status = run(cli, printer).unwrap_or_else(|report| {
        printer.report(&report);
        failure
    });
    ExitCode::from(status.0)
}

fn run(cli: Cli, printer: Printer) -> Outcome {
    let inheritance = match &cli.command {
        Some(Command::Role(_)) => Some(Inheritance::take()),
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let status = runtime.block_on(dispatch(cli, printer, inheritance));
    // A thread that still reads from a terminal must not delay the exit.
    runtime.shutdown_background();
    status
}

async fn dispatch(cli: Cli, printer: Printer, inheritance: Option<Inheritance>) -> Outcome {
    if let Some(Command::Completions(arguments)) = &cli.command {
        let mut script = Vec::new();
        clap_complete::generate(arguments.shell, &mut Cli::command(), "sandbox", &mut script);
        printer.data(String::from_utf8_lossy(&script).trim_end())?;
        return Ok(ExitStatus::SUCCESS);
    }
    if let Some(inheritance) = inheritance {
        return role::run(inheritance).await;
    }
    output::log_to(printer);
    let context = Context::new(printer)?;
    if cli.dry_run && cli.command.is_some() {
        return Err(Report::new(
            "`--dry-run` cannot be used with a command",
            Some("run `sandbox --kvm --dry-run` without a command".into()),
        ));
    }
    let name = cli.name.name;
    let flags = StartOptions::from(cli.start);
    match cli.command {
        None if cli.dry_run => dry_run::run(&context, name.as_ref(), flags).await,
        None => enter::run(&context, name.as_ref(), flags).await,
        Some(Command::Exec(arguments)) => exec::run(&context, name.as_ref(), arguments).await,
        Some(Command::Run(mut arguments)) => {
            let name = arguments.name.name.take().or(name);
            run::run(&context, name, flags, *arguments).await
        }
        Some(Command::Stop(arguments)) => stop::run(&context, name.as_ref(), &arguments).await,
        Some(Command::List(arguments)) => list::run(&context, &arguments),
        Some(Command::Info(arguments)) => info::run(&context, name.as_ref(), &arguments).await,
        Some(Command::Console(arguments)) => {
            console::run(&context, name.as_ref(), &arguments).await
        }
        Some(Command::Ssh(arguments)) => ssh::run(&context, name.as_ref(), &arguments).await,
        Some(Command::Logs(arguments)) => logs::run(&context, name.as_ref(), &arguments).await,
        Some(Command::Proxy(arguments)) => proxy::run(&context, name.as_ref(), arguments).await,
        Some(Command::Port(arguments)) => port::run(&context, name.as_ref(), arguments).await,
        Some(Command::Image(arguments)) => image::run(&context, arguments.command).await,
        Some(Command::Template(arguments)) => template::run(&context, arguments.command).await,
        Some(Command::Df(arguments)) => df::run(&context, &arguments),
        Some(Command::Prune(arguments)) => prune::run(&context, &arguments),
        Some(Command::Doctor(arguments)) => doctor::run(&context, &arguments),
        Some(Command::Completions(_) | Command::Role(_)) => {
            unreachable!("both returned above")
        }
    }
}
