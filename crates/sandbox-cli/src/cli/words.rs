//! From the words of a command line to [`Cli`]: what stands before a verb is for that verb.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use super::Cli;

/// Arguments before a verb that every verb takes.
const OF_EVERY_VERB: [&str; 5] = ["quiet", "verbose", "no_progress", "color", "kvm"];

/// Verbs that start a sandbox.
const STARTING: [&str; 1] = ["run"];

/// Verbs that are about one sandbox.
const NAMING: [&str; 9] = [
    "exec", "run", "ssh", "proxy", "port", "stop", "info", "console", "logs",
];

/// The argument before a verb that says which sandbox.
const NAME: &str = "name";

/// Arguments that tell themselves.
const OWN_WORD: &str = "dry_run";

impl Cli {
    /// Parses the process's words, or ends the process with a message and status 2.
    pub(crate) fn from_words(words: impl IntoIterator<Item = OsString>) -> Self {
        let words: Vec<OsString> = words.into_iter().collect();
        let parsed = Self::parse_words(&words);
        parsed.unwrap_or_else(|error| error.exit())
    }

    fn parse_words(words: &[OsString]) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let verb = verb(words);
        if verb.is_some_and(|verb| !STARTING.contains(&verb)) {
            // A bad value in the environment must not keep anybody from stopping a sandbox.
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

/// The verb in these words, whatever else is wrong with them.
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

/// The command without environment variables for what stands before a verb.
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

/// An argument that stands before a verb which has no use for it.
fn misplaced(matches: &ArgMatches, verb: &str) -> Option<String> {
    let is_welcome = |id: &str| {
        OF_EVERY_VERB.contains(&id)
            || id == OWN_WORD
            || STARTING.contains(&verb)
            || (id == NAME && NAMING.contains(&verb))
    };
    matches
        .ids()
        .map(|id| id.as_str())
        .filter(|id| matches!(matches.try_contains_id(id), Ok(true)))
        .filter(|id| matches.value_source(id) == Some(ValueSource::CommandLine))
        .find(|id| {
            !is_welcome(id)
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
    fn options_before_a_verb_that_starts_are_its_own() {
        let cli = parse("sandbox --memory 4G run --cpus 2 -- true").unwrap();
        assert!(cli.start.machine.memory.is_some());
        let Some(Command::Run(run)) = cli.command else {
            panic!("not a run");
        };
        assert!(run.start.machine.cpus.is_some());
    }

    #[test]
    fn options_of_a_start_are_refused_by_other_verbs() {
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
