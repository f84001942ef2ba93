//! Writes to a program in a sandbox while reading its output.
//!
//! `cargo run --example streams`

use std::error::Error;

use sandbox::{Host, Sandbox};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let host = Host::from_environment()?;
    // Without a workspace, the sandbox has no files of this machine.
    let sandbox = Sandbox::builder(&host)
        .image("debian-13-minimal")
        .start()
        .await?;
    let mut child = sandbox.exec("tr").args(["a-z", "A-Z"]).spawn().await?;
    let mut stdin = child.stdin.take().ok_or("no input")?;
    let mut stdout = child.stdout.take().ok_or("no output")?;
    let write = async {
        for line in ["one\n", "two\n"] {
            stdin.write_all(line.as_bytes()).await?;
        }
        drop(stdin); // the end of the input
        Ok::<_, std::io::Error>(())
    };
    let mut text = String::new();
    let (written, read) = tokio::join!(write, stdout.read_to_string(&mut text));
    written?;
    read?;
    print!("{text}");
    println!("{}", child.wait().await?);
    Ok(()) // The drop discards the sandbox.
}
