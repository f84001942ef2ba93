//! Parsing of a command line into [`Cli`]. Options before a verb belong to that verb.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use super::Cli;

/// Options before a verb that every verb accepts.
const GLOBAL: [&str; 5] = ["quiet", "verbose", "no_progress", "color", "kvm"];

/// Verbs that accept start options.
const STARTING: [&str; 1] = ["run"];

/// Verbs that accept `--name`.
const NAMING: [&str; 9] = [
    "exec", "run", "ssh", "proxy", "port", "stop", "info", "console", "logs",
];

/// The identifier of `--name`.
const NAME: &str = "name";

/// An option whose conflict with a verb `commands` reports.
const DRY_RUN: &str = "dry_run";

impl Cli {
    /// Parses the words of a command line. Ends the process with a message and status 2 if they are
    /// invalid.
    pub(crate) fn from_words(words: impl IntoIterator<Item = OsString>) -> Self {
        let words: Vec<OsString> = words.into_iter().collect();
        let parsed = Self::parse_words(&words);
        parsed.unwrap_or_else(|error| error.exit())
    }

    fn parse_words(words: &[OsString]) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let verb = verb(words);
        if verb.is_some_and(|verb| !STARTING.contains(&verb)) {
            // An invalid value in the environment must not prevent `sandbox stop`.
            command = without_environment(command, verb.is_some_and(|verb| NAMING.contains(&verb)));
        }
        let matches = command.try_get_matches_from_mut(words)?;
        if let Some((verb, _)) = matches.subcommand()
            && let Some(misplaced) = misplaced(&matches, verb)
        {
            let option = command
                .get_arguments()
                .find(|argument| argument.get_id() == misplaced.as_str())
                .and_then(|argument| argument.get_long())
                .unwrap_or(&misplaced);
            let message = format!("the argument '--{option}' cannot be used with '{verb}'\n");
            return Err(command.error(ErrorKind::ArgumentConflict, message));
        }
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

/// Returns the verb, also of an otherwise invalid command line.
fn verb(words: &[OsString]) -> Option<&'static str> {
    let matches = Cli::command()
        .ignore_errors(true)
        .try_get_matches_from(words)
        .ok()?;
    let verb = matches.subcommand_name()?;
    let command = Cli::command();
    let known: Vec<String> = command
        .get_subcommands()
        .map(|subcommand| subcommand.get_name().to_owned())
        .collect();
    known
        .into_iter()
        .find(|known| known == verb)
        .map(|verb| &*verb.leak())
}

/// Returns the command without the environment variables of the options before a verb.
fn without_environment(command: clap::Command, keeps_name: bool) -> clap::Command {
    let ids: Vec<String> = command
        .get_arguments()
        .filter(|argument| argument.get_env().is_some())
        .map(|argument| argument.get_id().to_string())
        .filter(|id| !(keeps_name && id == NAME))
        .collect();
    ids.into_iter().fold(command, |command, id| {
        command.mut_arg(id, |argument| argument.env(None::<&str>))
    })
}

/// Returns an option before the verb that the verb does not accept.
fn misplaced(matches: &ArgMatches, verb: &str) -> Option<String> {
    let is_accepted = |id: &str| {
        GLOBAL.contains(&id)
            || id == DRY_RUN
            || STARTING.contains(&verb)
            || (id == NAME && NAMING.contains(&verb))
    };
    matches
        .ids()
        .map(|id| id.as_str())
        .filter(|id| matches!(matches.try_contains_id(id), Ok(true)))
        .filter(|id| matches.value_source(id) == Some(ValueSource::CommandLine))
        .find(|id| {
            !is_accepted(id)
                && Cli::command()
                    .get_arguments()
                    .any(|argument| argument.get_id() == *id)
        })
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Command;

    fn parse(line: &str) -> Result<Cli, String> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Cli::parse_words(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn start_options_before_run_belong_to_run() {
        let cli = parse("sandbox --memory 4G run --cpus 2 -- true").unwrap();
        assert!(cli.start.machine.memory.is_some());
        let Some(Command::Run(run)) = cli.command else {
            panic!("not a run");
        };
        assert!(run.start.machine.cpus.is_some());
    }

    #[test]
    fn start_options_before_other_verbs_are_refused() {
        for line in [
            "sandbox --memory 4G list",
            "sandbox list --memory 4G",
            "sandbox proxy ask --memory 4G",
            "sandbox --name box df",
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.starts_with("error: "), "{line}: {error}");
        }
        for line in [
            "sandbox --kvm list",
            "sandbox list --kvm",
            "sandbox --name box exec -- true",
            "sandbox proxy --name box list",
        ] {
            parse(line).unwrap();
        }
    }
}
