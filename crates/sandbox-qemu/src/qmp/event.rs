//! The QMP events in use, as QEMU's `qapi/*.json` define them.
//!
//! The structs have only the fields that callers read, since each QEMU release may add others.

use serde::Deserialize;

/// An event. The parser rejects an unknown name. The client then logs and ignores the event.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Event {
    /// `BLOCK_IO_ERROR` (`qapi/block-core.json`, QEMU 0.13): the host could not read or write
    /// a disk of the guest.
    BlockIoError {
        /// The error.
        data: BlockIoError,
    },
    /// `MIGRATION` (`qapi/migration.json`, QEMU 2.4): the migration has a new status.
    Migration {
        /// The status.
        data: Migration,
    },
    /// `STOP` (`qapi/run-state.json`, QEMU 0.12): QEMU paused the guest.
    Stop,
}

/// The data of [`Event::BlockIoError`].
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct BlockIoError {
    /// Whether the host's disk is full (QEMU 2.2). QEMU omits it for a device that keeps no I/O
    /// status.
    pub nospace: Option<bool>,
    /// The cause, as text for people (QEMU 2.2).
    pub reason: Option<String>,
}

/// The data of [`Event::Migration`].
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Migration {
    /// The new status.
    pub status: MigrationStatus,
}

/// The status of a migration (`qapi/migration.json`, QEMU 2.3).
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigrationStatus {
    /// The state is written or read.
    Completed,
    /// QEMU gave up. `query-migrate` may have the reason.
    Failed,
    /// A client cancelled it.
    Cancelled,
    /// Any other status, such as `setup` or `active`. The migration has not ended.
    #[serde(other)]
    Underway,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Event, serde_json::Error> {
        serde_json::from_str(line)
    }

    /// The lines are QEMU 10.0.2's, from saving and restoring a machine `none`.
    #[test]
    fn migration_event_has_status() {
        for (line, status) in [
            (
                r#"{"timestamp": {"seconds": 1795706542, "microseconds": 398428}, "event": "MIGRATION", "data": {"status": "setup"}}"#,
                MigrationStatus::Underway,
            ),
            (
                r#"{"timestamp": {"seconds": 1795706542, "microseconds": 399336}, "event": "MIGRATION", "data": {"status": "active"}}"#,
                MigrationStatus::Underway,
            ),
            (
                r#"{"timestamp": {"seconds": 1795706542, "microseconds": 399415}, "event": "MIGRATION", "data": {"status": "device"}}"#,
                MigrationStatus::Underway,
            ),
            (
                r#"{"timestamp": {"seconds": 1795706542, "microseconds": 399499}, "event": "MIGRATION", "data": {"status": "completed"}}"#,
                MigrationStatus::Completed,
            ),
            (
                r#"{"timestamp": {"seconds": 1795706550, "microseconds": 988728}, "event": "MIGRATION", "data": {"status": "failed"}}"#,
                MigrationStatus::Failed,
            ),
        ] {
            let data = Migration { status };
            assert_eq!(parse(line).unwrap(), Event::Migration { data });
        }
    }

    /// The line is QEMU 10.0.2's.
    #[test]
    fn stop_event_has_no_data() {
        let line =
            r#"{"timestamp": {"seconds": 1795706541, "microseconds": 792867}, "event": "STOP"}"#;
        assert_eq!(parse(line).unwrap(), Event::Stop);
    }

    /// The first line is the example of `qapi/block-core.json`. The second has all fields of QEMU
    /// 10.
    #[test]
    fn block_io_error_has_nospace_unless_qemu_leaves_it_out() {
        for (line, nospace) in [
            (
                r##"{"event": "BLOCK_IO_ERROR", "data": {"device": "ide0-hd1", "node-name": "#block212", "operation": "write", "action": "stop", "reason": "No space left on device"}, "timestamp": {"seconds": 1265044230, "microseconds": 450486}}"##,
                None,
            ),
            (
                r#"{"event": "BLOCK_IO_ERROR", "data": {"device": "", "qom-path": "/machine/peripheral/root", "node-name": "root", "operation": "write", "action": "stop", "nospace": true, "reason": "No space left on device"}, "timestamp": {"seconds": 1265044230, "microseconds": 450486}}"#,
                Some(true),
            ),
        ] {
            let data = BlockIoError {
                nospace,
                reason: Some("No space left on device".into()),
            };
            assert_eq!(parse(line).unwrap(), Event::BlockIoError { data });
        }
    }

    /// The line is QEMU 10.0.2's.
    #[test]
    fn unknown_event_is_error_that_names_it() {
        let line =
            r#"{"timestamp": {"seconds": 1795706544, "microseconds": 615871}, "event": "RESUME"}"#;
        assert!(parse(line).unwrap_err().to_string().contains("`RESUME`"));
    }
}
