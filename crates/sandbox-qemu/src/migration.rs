//! Saves a paused guest to a file, and restores it from one, with QEMU's migration (QEMU,
//! docs/devel/migration).
//!
//! The guest's memory stays in its own file: the capability `x-ignore-shared` omits memory that is
//! shared with a file. So the saved file holds only the state of the devices, half a megabyte.

use std::path::Path;
use std::time::Duration;

use super::program::QemuVersion;
use super::qmp::command::{self, MigrationCapability, MigrationCapabilityStatus};
use super::qmp::{Client, Event, MigrationStatus, QmpError};

/// The oldest QEMU that migrates to and from a named file.
pub const LEAST_VERSION: QemuVersion = QemuVersion::new(8, 2, 0);

/// The time limit for QEMU to write or read the state of the devices.
const DEADLINE: Duration = Duration::from_secs(60);

/// An error of saving or restoring.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A command of QEMU's monitor failed.
    #[error(transparent)]
    Monitor(#[from] QmpError),
    /// QEMU reported a failure.
    #[error("QEMU could not {action} the guest's state{}{}", if reason.is_empty() { "" } else { ": " }, reason)]
    Failed {
        /// `save` or `restore`.
        action: &'static str,
        /// QEMU's error message; empty if it gave none.
        reason: String,
    },
    /// QEMU did not finish in time.
    #[error("QEMU did not {action} the guest's state within {} s", DEADLINE.as_secs())]
    TimedOut {
        /// `save` or `restore`.
        action: &'static str,
    },
}

/// Pauses the guest and writes the state of its devices to `file`. The guest stays paused, so that
/// its memory still matches that state.
///
/// # Errors
///
/// If QEMU cannot write the state. The guest stays paused.
pub async fn save(monitor: &mut Client, file: &Path) -> Result<(), MigrationError> {
    monitor.execute(command::Stop {}).await?;
    set_capabilities(monitor).await?;
    monitor.execute(command::Migrate { uri: uri(file) }).await?;
    completed(monitor, "save").await
}

/// Reads the state of the devices from `file` into a QEMU that was started with `-incoming defer`.
/// Leaves the guest paused.
///
/// # Errors
///
/// If the state does not fit this QEMU. Then QEMU has ended or is about to end.
pub async fn restore(monitor: &mut Client, file: &Path) -> Result<(), MigrationError> {
    set_capabilities(monitor).await?;
    monitor
        .execute(command::MigrateIncoming { uri: uri(file) })
        .await?;
    completed(monitor, "restore").await
}

fn uri(file: &Path) -> String {
    format!("file:{}", file.display())
}

async fn set_capabilities(monitor: &mut Client) -> Result<(), MigrationError> {
    let capabilities = [
        MigrationCapability::XIgnoreShared,
        MigrationCapability::Events,
    ];
    let capabilities = capabilities
        .into_iter()
        .map(|capability| MigrationCapabilityStatus {
            capability,
            state: true,
        })
        .collect();
    monitor
        .execute(command::MigrateSetCapabilities { capabilities })
        .await?;
    Ok(())
}

async fn completed(monitor: &mut Client, action: &'static str) -> Result<(), MigrationError> {
    let ended = async {
        while let Some(event) = monitor.events.recv().await {
            match event {
                Event::Migration { data } => match data.status {
                    MigrationStatus::Completed => return true,
                    MigrationStatus::Failed | MigrationStatus::Cancelled => return false,
                    MigrationStatus::Underway => {}
                },
                other => tracing::debug!(?other, "during a migration"),
            }
        }
        false
    };
    match tokio::time::timeout(DEADLINE, ended).await {
        Ok(true) => Ok(()),
        Ok(false) => {
            let status = monitor.execute(command::QueryMigrate {}).await;
            let reason = status.map(|status| status.error_desc.unwrap_or_default());
            Err(MigrationError::Failed {
                action,
                reason: reason.unwrap_or_default(),
            })
        }
        Err(_) => Err(MigrationError::TimedOut { action }),
    }
}
