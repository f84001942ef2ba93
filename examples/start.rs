//! Starts a sandbox for the current directory, runs one command in it, and stops it.
//!
//! `cargo run --example start`

use std::error::Error;
use std::time::Duration;

use sandbox::{Host, Sandbox};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let host = Host::from_environment()?;
    let sandbox = Sandbox::builder(&host)
        .image("debian-13-minimal")
        .workspace(".")
        .on_event(|event| eprintln!("{event}"))
        .start()
        .await?;
    let output = sandbox.exec("uname").arg("-sm").output().await?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    sandbox.stop(Duration::from_secs(10)).await?;
    Ok(())
}
