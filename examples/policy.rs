//! Closes the network except for one domain, and shows that it is closed.
//!
//! `cargo run --example policy`

use std::error::Error;

use sandbox::{Host, NetworkPolicy, Sandbox};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let host = Host::from_environment()?;
    let sandbox = Sandbox::builder(&host)
        .image("debian-13-minimal")
        .network(NetworkPolicy::proxy().allow_domain("*.crates.io")?)
        .start()
        .await?;
    // The proxy accepts only the ports of the web. The gateway refuses other connections.
    let script = "exec 3<>/dev/tcp/192.0.2.1/22";
    let status = sandbox.exec("bash").args(["-c", script]).status().await?;
    println!("reached the internet: {}", status.success());
    Ok(())
}
