//! Runs a command in a fresh sandbox for the current directory, as a CI job does.
//!
//! The command has a deadline. This program passes its output on and returns its status.
//!
//! `cargo run --example ci_job -- make test`

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use sandbox::{ErrorKind, Host, Sandbox};

/// How long the job may take.
const LIMIT: Duration = Duration::from_secs(60 * 60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let program = words.next().ok_or("usage: ci_job COMMAND [ARGUMENT …]")?;
    let host = Host::from_environment()?;
    let sandbox = Sandbox::builder(&host)
        .image("debian-13-minimal")
        .workspace(".")
        .start()
        .await?;
    let job = sandbox.exec(program).args(words).env("CI", "true");
    let output = match job.timeout(LIMIT).output().await {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("{error}");
            return Ok(ExitCode::from(127));
        }
        Err(error) => return Err(error.into()),
    };
    std::io::stdout().write_all(&output.stdout)?;
    std::io::stderr().write_all(&output.stderr)?;
    let signal = output.status.signal().unwrap_or_default();
    Ok(ExitCode::from(output.status.code().unwrap_or(128 + signal)))
}
