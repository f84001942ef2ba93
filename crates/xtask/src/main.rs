//! Tasks of the repository: the manual pages and shell completions that packages of
//! `sandbox` ship, and the comparison of two results of a bench.
//!
//! Pages and completions come from the clap command, so they match `--help`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use bench_report::{Document, Tolerance, compare};
use clap::{Parser, ValueEnum};
use clap_complete::Shell;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about)]
enum Task {
    /// Write a manual page for each command
    Man {
        /// The directory of the pages; created if it does not exist
        directory: PathBuf,
    },
    /// Write the completions of each supported shell
    Completions {
        /// The directory of the scripts; created if it does not exist
        directory: PathBuf,
    },
    /// Compare two results that a bench wrote with `--json`
    ///
    /// Exits with 1 if a row is worse by more than the tolerance, and with 2 if the results
    /// cannot be compared.
    CompareBenches {
        /// The result to compare with
        before: PathBuf,
        /// The result to judge
        after: PathBuf,
        /// The largest change of a median that does not count
        #[arg(long, value_name = "PERCENT", default_value_t)]
        tolerance: Tolerance,
    },
}

fn main() -> ExitCode {
    let done: Result<(), Box<dyn Error>> = match Task::parse() {
        Task::Man { directory } => write_manual_pages(&directory).map_err(Into::into),
        Task::Completions { directory } => write_completions(&directory).map_err(Into::into),
        Task::CompareBenches {
            before,
            after,
            tolerance,
        } => match compare_benches(&before, &after, tolerance) {
            Ok(0) => Ok(()),
            Ok(_) => return ExitCode::from(1),
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(error.as_ref()));
            ExitCode::from(2)
        }
    }
}

/// Returns the text of an error and its causes.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Prints the comparison of two results. Returns the number of rows that are worse.
fn compare_benches(
    before: &Path,
    after: &Path,
    tolerance: Tolerance,
) -> Result<usize, Box<dyn Error>> {
    let (before, after) = (Document::read(before)?, Document::read(after)?);
    let comparison = compare(&before, &after, tolerance)?;
    for warning in &comparison.warnings {
        eprintln!("warning: {warning}");
    }
    print!("{comparison}");
    let worse = comparison.worse();
    if worse > 0 {
        let rows = comparison.rows.len();
        eprintln!("{worse} of {rows} rows are worse by more than {tolerance}");
    }
    Ok(worse)
}

/// Writes `sandbox.1`, and a page such as `sandbox-image-build.1` for each command that
/// `--help` lists.
fn write_manual_pages(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(sandbox_cli::command(), directory)
}

/// Writes one script per shell under the name that the shell looks for.
fn write_completions(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for shell in Shell::value_variants() {
        clap_complete::generate_to(*shell, &mut sandbox_cli::command(), "sandbox", directory)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible_pages(command: &clap::Command, name: &str, pages: &mut Vec<String>) {
        pages.push(format!("{name}.1"));
        for child in command
            .get_subcommands()
            .filter(|child| !child.is_hide_set())
        {
            visible_pages(child, &format!("{name}-{}", child.get_name()), pages);
        }
    }

    fn file_names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn manual_pages_cover_visible_commands_only() {
        let directory = tempfile::tempdir().unwrap();
        write_manual_pages(directory.path()).unwrap();
        let mut expected = Vec::new();
        visible_pages(&sandbox_cli::command(), "sandbox", &mut expected);
        expected.sort();
        assert_eq!(file_names(directory.path()), expected);
    }

    #[test]
    fn manual_page_names_its_options() {
        let directory = tempfile::tempdir().unwrap();
        write_manual_pages(directory.path()).unwrap();
        let page = fs::read_to_string(directory.path().join("sandbox-stop.1")).unwrap();
        assert!(page.contains(".TH"), "{page}");
        assert!(page.contains("\\-\\-timeout"), "{page}");
    }

    #[test]
    fn completions_cover_each_shell() {
        let directory = tempfile::tempdir().unwrap();
        write_completions(directory.path()).unwrap();
        let names = file_names(directory.path());
        assert_eq!(names.len(), Shell::value_variants().len(), "{names:?}");
        for name in names {
            let script = fs::read_to_string(directory.path().join(&name)).unwrap();
            assert!(script.contains("template"), "{name}");
        }
    }
}
