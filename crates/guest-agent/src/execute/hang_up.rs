//! What becomes of a program that nobody looks at any more.

use super::descriptor::Descriptor;
use super::spawn::Running;

impl Running {
    /// Hangs up and discards what the program still says, to its end: one that
    /// cleans up must not fail for want of a reader, nor one that goes on, as
    /// `nohup` makes it.
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
            // Without error output it is a terminal, and closing our end of
            // that is what hangs it up.
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
