//! Ends a program whose stream to the host is gone.

use super::descriptor::Descriptor;
use super::spawn::Running;

impl Running {
    /// Hangs up the program and discards its output until it ends. A program
    /// that cleans up, or continues under nohup(1), must not fail because nobody
    /// reads its output.
    pub(super) async fn hang_up(self) {
        let Self {
            process,
            input,
            output,
            error,
        } = self;
        process.hang_up();
        drop(input);
        let discarded = async {
            // Without error output this is a terminal, and the kernel hangs it
            // up when the agent's end closes.
            if let Some(error) = &error {
                tokio::join!(discard(&output), discard(error));
            } else {
                drop(output);
            }
            std::future::pending().await
        };
        tokio::select! {
            _ = process.ended() => {}
            () = discarded => {}
        }
    }
}

async fn discard(descriptor: &Descriptor) {
    let mut buffer = [0; 4096];
    while matches!(descriptor.read(&mut buffer).await, Ok(1..)) {}
}
