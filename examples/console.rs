//! Waits for the login prompt on the serial console.
//!
//! `cargo run --example console`

use std::error::Error;
use std::time::Duration;

use sandbox::{Host, Sandbox};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let host = Host::from_environment()?;
    let sandbox = Sandbox::builder(&host)
        .image("debian-13-minimal")
        .start()
        .await?;
    let mut console = sandbox.console().await?;
    console.wait_for("login:", Duration::from_secs(120)).await?;
    console.send("\n").await?;
    println!("the console logs in");
    Ok(())
}
