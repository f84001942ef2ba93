//! The options that all benches share, and the report at their end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use bench_report::{Document, Host, Row, Tolerance, compare};
use clap::Args;
use sandbox_qemu::program::{self, OVERRIDE_VARIABLE, Search};

use super::{Program, Result, accelerator, repository};

/// The programs to measure, and the files of the results. Cargo runs a bench in another
/// directory, so relative paths count from the root of the repository.
#[derive(Args)]
pub(crate) struct ReportOptions {
    /// Measure this build of `sandbox` instead of the one that cargo built
    #[arg(
        long,
        value_name = "PATH",
        default_value = env!("CARGO_BIN_EXE_sandbox"),
        hide_default_value = true
    )]
    program: PathBuf,
    /// Measure this build in turn with the other, and compare the two
    #[arg(long, value_name = "PATH")]
    program_before: Option<PathBuf>,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the results of `--program-before` as JSON
    #[arg(long, value_name = "FILE", requires = "program_before")]
    json_before: Option<PathBuf>,
    /// `cargo bench` adds it
    #[arg(long, hide = true)]
    bench: bool,
}

impl ReportOptions {
    /// Returns the program to measure, then the one to compare it with. Their commands run in
    /// `directory`.
    pub(crate) fn programs(&self, directory: &Path) -> Result<Vec<Program>> {
        let paths = [Some(&self.program), self.program_before.as_ref()];
        let paths = paths.into_iter().flatten();
        paths.map(|path| Program::new(path, directory)).collect()
    }

    /// Writes the rows of each program, and prints the comparison if there are two.
    pub(crate) fn report<const N: usize>(
        &self,
        bench: &str,
        options: [(&str, String); N],
        programs: &[Program],
        rows: Vec<Vec<Row>>,
    ) -> Result<()> {
        let host = host()?;
        let options = options.map(|(name, value)| (name.to_owned(), value));
        let options = BTreeMap::from(options);
        let documents = programs.iter().zip(rows).map(|(program, rows)| {
            let (host, options) = (host.clone(), options.clone());
            Document::new(bench, program.version(), host, options, rows)
        });
        let documents: Vec<Document> = documents.collect::<std::result::Result<_, _>>()?;
        for (document, path) in documents.iter().zip([&self.json, &self.json_before]) {
            if let Some(path) = path {
                document.write(&repository().join(path))?;
            }
        }
        if let [after, before] = &documents[..] {
            println!("\n{}", compare(before, after, Tolerance::default())?);
        }
        Ok(())
    }
}

fn host() -> Result<Host> {
    let cache = tempfile::tempdir()?;
    let environment = |name: &str| std::env::var_os(name);
    let (program_override, search_path) = (environment(OVERRIDE_VARIABLE), environment("PATH"));
    let qemu = program::locate(Search {
        program_override: program_override.as_deref(),
        search_path: search_path.as_deref(),
        cache_directory: cache.path(),
    })?;
    Ok(Host {
        cpus: available_parallelism()?.get(),
        accelerator: accelerator().to_string(),
        qemu: qemu.version.to_string(),
    })
}
