//! The `sandbox` command: parse, run, render the error, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandbox_cli::main()
}
