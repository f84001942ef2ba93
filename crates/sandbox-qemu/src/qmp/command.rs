//! The QMP commands in use, as QEMU's `qapi/*.json` define them.
//!
//! The structs lack the optional arguments that no caller sets. The replies ignore the fields that
//! no caller reads, since each QEMU release may add some.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A QMP command. Its serialized form is the `arguments` object.
///
/// A command without arguments is a struct with braces. QEMU expects `{}`, but a unit struct
/// serializes to `null`.
pub trait Command: Serialize {
    /// The value of `execute`.
    const NAME: &'static str;
    /// The value of `return`.
    type Reply: DeserializeOwned;
    /// The time limit for the reply. QEMU's main loop replies within milliseconds. On a busy host,
    /// a reply has taken seconds.
    const TIMEOUT: Duration = Duration::from_secs(30);
}

/// The reply of a command that returns nothing: `{}`.
#[derive(Debug, Deserialize)]
pub struct Empty {}

/// `qmp_capabilities` (`qapi/control.json`, QEMU 0.13): ends the negotiation and
/// enables no optional capability.
#[derive(Debug, Serialize)]
pub struct QmpCapabilities {}

impl Command for QmpCapabilities {
    const NAME: &'static str = "qmp_capabilities";
    type Reply = Empty;
    /// QEMU is still starting. One of the idle class on a busy host needed more than 30 s.
    const TIMEOUT: Duration = Duration::from_secs(120);
}

/// `quit` (`qapi/control.json`, QEMU 0.14): ends QEMU, which may close the monitor
/// before it replies.
#[derive(Debug, Serialize)]
pub struct Quit {}

impl Command for Quit {
    const NAME: &'static str = "quit";
    type Reply = Empty;
}

/// `stop` (`qapi/misc.json`, QEMU 0.14): pauses the guest.
#[derive(Debug, Serialize)]
pub struct Stop {}

impl Command for Stop {
    const NAME: &'static str = "stop";
    type Reply = Empty;
}

/// `cont` (`qapi/misc.json`, QEMU 0.14): resumes the guest.
#[derive(Debug, Serialize)]
pub struct Cont {}

impl Command for Cont {
    const NAME: &'static str = "cont";
    type Reply = Empty;
}

/// `system_powerdown` (`qapi/machine.json`, QEMU 0.14): presses the guest's power
/// button. The guest may ignore it.
#[derive(Debug, Serialize)]
pub struct SystemPowerdown {}

impl Command for SystemPowerdown {
    const NAME: &'static str = "system_powerdown";
    type Reply = Empty;
}

/// `query-status` (`qapi/run-state.json`, QEMU 0.14).
#[derive(Debug, Serialize)]
pub struct QueryStatus {}

impl Command for QueryStatus {
    const NAME: &'static str = "query-status";
    type Reply = StatusInfo;
}

/// The reply of [`QueryStatus`] (`qapi/run-state.json`, QEMU 0.14).
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct StatusInfo {
    /// The state of the guest.
    pub status: RunState,
}

/// The state of a guest (`qapi/run-state.json`, QEMU 0.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// The accelerator could not execute the guest's code, and QEMU has paused the guest for good.
    InternalError,
    /// Any other state, such as `running` or `paused`.
    #[serde(other)]
    Other,
}

/// `query-cpus-fast` (`qapi/machine.json`, QEMU 2.12).
#[derive(Debug, Serialize)]
pub struct QueryCpusFast {}

impl Command for QueryCpusFast {
    const NAME: &'static str = "query-cpus-fast";
    type Reply = Vec<CpuInfoFast>;
}

/// One processor in the reply of [`QueryCpusFast`] (`qapi/machine.json`, QEMU 2.12).
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CpuInfoFast {
    /// The thread of QEMU that runs it.
    pub thread_id: i32,
}

/// `block_resize` (`qapi/block-core.json`, QEMU 0.14; `node-name` since 2.0): resizes a
/// disk of a running guest.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockResize {
    /// The block node (`-blockdev node-name=…`).
    pub node_name: String,
    /// The new size in bytes.
    pub size: i64,
}

impl Command for BlockResize {
    const NAME: &'static str = "block_resize";
    type Reply = Empty;
}

/// `migrate` (`qapi/migration.json`, QEMU 0.14): starts to save the guest. The reply comes
/// before the end. [`Event::Migration`](super::Event::Migration) reports the end.
#[derive(Debug, Serialize)]
pub struct Migrate {
    /// The destination. The scheme `file:` needs QEMU 8.2.
    pub uri: String,
}

impl Command for Migrate {
    const NAME: &'static str = "migrate";
    type Reply = Empty;
}

/// `migrate-incoming` (`qapi/migration.json`, QEMU 2.3): starts to restore a guest into a
/// QEMU that waits with `-incoming defer`.
#[derive(Debug, Serialize)]
pub struct MigrateIncoming {
    /// The source. The scheme `file:` needs QEMU 8.2.
    pub uri: String,
}

impl Command for MigrateIncoming {
    const NAME: &'static str = "migrate-incoming";
    type Reply = Empty;
}

/// `migrate-set-capabilities` (`qapi/migration.json`, QEMU 1.2).
#[derive(Debug, Serialize)]
pub struct MigrateSetCapabilities {
    /// The capabilities to change. The others keep their state.
    pub capabilities: Vec<MigrationCapabilityStatus>,
}

impl Command for MigrateSetCapabilities {
    const NAME: &'static str = "migrate-set-capabilities";
    type Reply = Empty;
}

/// One capability with its new state (`qapi/migration.json`, QEMU 1.2).
#[derive(Debug, Serialize)]
pub struct MigrationCapabilityStatus {
    /// The capability.
    pub capability: MigrationCapability,
    /// Whether it is on.
    pub state: bool,
}

/// The migration capabilities in use (`qapi/migration.json`).
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigrationCapability {
    /// Sends [`Event::Migration`](super::Event::Migration) at each change of the status (QEMU 2.4).
    Events,
    /// Omits memory that is shared with a file from the stream (QEMU 4.0, which calls it unstable).
    XIgnoreShared,
}

/// `query-migrate` (`qapi/migration.json`, QEMU 0.14).
#[derive(Debug, Serialize)]
pub struct QueryMigrate {}

impl Command for QueryMigrate {
    const NAME: &'static str = "query-migrate";
    type Reply = MigrationInfo;
}

/// The reply of [`QueryMigrate`] (`qapi/migration.json`, QEMU 0.14).
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MigrationInfo {
    /// The reason of a failure, as text for people (QEMU 2.7).
    pub error_desc: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_wire<C: Command>(command: &C, name: &str, arguments: &str) {
        assert_eq!(C::NAME, name);
        assert_eq!(serde_json::to_string(command).unwrap(), arguments);
    }

    #[test]
    fn command_without_arguments_serializes_to_empty_object() {
        assert_wire(&QmpCapabilities {}, "qmp_capabilities", "{}");
        assert_wire(&Quit {}, "quit", "{}");
        assert_wire(&Stop {}, "stop", "{}");
        assert_wire(&Cont {}, "cont", "{}");
        assert_wire(&SystemPowerdown {}, "system_powerdown", "{}");
        assert_wire(&QueryMigrate {}, "query-migrate", "{}");
        assert_wire(&QueryStatus {}, "query-status", "{}");
    }

    #[test]
    fn command_with_arguments_serializes_to_names_of_schema() {
        assert_wire(
            &BlockResize {
                node_name: "root".into(),
                size: 2_097_152,
            },
            "block_resize",
            r#"{"node-name":"root","size":2097152}"#,
        );
        assert_wire(
            &Migrate {
                uri: "file:/t/state".into(),
            },
            "migrate",
            r#"{"uri":"file:/t/state"}"#,
        );
        assert_wire(
            &MigrateIncoming {
                uri: "file:/t/state".into(),
            },
            "migrate-incoming",
            r#"{"uri":"file:/t/state"}"#,
        );
        let capabilities = [
            MigrationCapability::XIgnoreShared,
            MigrationCapability::Events,
        ]
        .map(|capability| MigrationCapabilityStatus {
            capability,
            state: true,
        })
        .into();
        assert_wire(
            &MigrateSetCapabilities { capabilities },
            "migrate-set-capabilities",
            r#"{"capabilities":[{"capability":"x-ignore-shared","state":true},{"capability":"events","state":true}]}"#,
        );
    }

    /// The replies are QEMU 10.0.2's.
    #[test]
    fn migration_info_ignores_unknown_fields() {
        for (reply, error_desc) in [
            ("{}", None),
            (
                r#"{"status": "completed", "setup-time": 1, "downtime": 0, "total-time": 1, "ram": {"total": 0, "page-size": 4096, "transferred": 1342}}"#,
                None,
            ),
            (
                r#"{"status": "failed", "error-desc": "load of migration failed: Invalid argument"}"#,
                Some("load of migration failed: Invalid argument".into()),
            ),
        ] {
            assert_eq!(
                serde_json::from_str::<MigrationInfo>(reply).unwrap(),
                MigrationInfo { error_desc }
            );
        }
    }

    /// The replies are QEMU 10.0.2's, the second with the state of a failed KVM.
    #[test]
    fn status_info_tells_an_internal_error_from_other_states() {
        for (reply, status) in [
            (r#"{"status": "running", "running": true}"#, RunState::Other),
            (
                r#"{"status": "internal-error", "running": false}"#,
                RunState::InternalError,
            ),
        ] {
            assert_eq!(
                serde_json::from_str::<StatusInfo>(reply).unwrap(),
                StatusInfo { status }
            );
        }
    }

    #[test]
    fn empty_reply_ignores_unknown_fields() {
        for reply in ["{}", r#"{"added-later": 1}"#] {
            serde_json::from_str::<Empty>(reply).unwrap();
        }
    }
}
