//! Applies the seed to the root file system before systemd starts.

use std::path::Path;

use crate::credentials::Credentials;
use crate::files::{self, DEV, ROOT, WriteError};
use crate::network::Network;
use crate::{egress, environment};

/// Value of the credential `sandbox.cloud-init` that lets cloud-init run.
const CLOUD_INIT_RUN: &str = "run";

/// Whether cloud-init shall run to its end before the sandbox is ready.
pub(crate) fn wants_cloud_init(value: Option<&str>) -> bool {
    value.is_some_and(|value| value.trim() == CLOUD_INIT_RUN)
}

/// The credential with the host name. systemd's own, `system.hostname`, would
/// lose its underscores.
const HOSTNAME: &str = "sandbox.hostname";

/// Gives the running kernel the host name; systemd keeps what it finds there
/// if nothing on the disk says otherwise.
pub(crate) fn set_hostname(credentials: &Credentials) -> rustix::io::Result<()> {
    match credentials.text(HOSTNAME) {
        Some(hostname) => rustix::system::sethostname(hostname.trim().as_bytes()),
        None => Ok(()),
    }
}

/// Writes what the credentials say below `root`, the mounted root file system,
/// and below `run`, the tmpfs that will be its `/run`.
pub(crate) fn apply(
    credentials: &Credentials,
    network: Option<&Network>,
    root: &Path,
    run: &Path,
) -> Result<(), WriteError> {
    if let Some(hostname) = credentials.text(HOSTNAME) {
        apply_hostname(hostname.trim(), root)?;
    }
    if let Some(text) = credentials.text("sandbox.environment") {
        let lines = environment::pam_lines(&text);
        files::append(&root.join("etc/environment"), lines.as_bytes())?;
        let drop_in = environment::systemd_drop_in(&text);
        let directory = run.join("systemd/system.conf.d");
        files::make_directory(&directory, 0o755, ROOT)?;
        files::write(
            &directory.join("10-sandbox.conf"),
            drop_in.as_bytes(),
            0o644,
            ROOT,
        )?;
    }
    if let Some(key) = credentials.bytes("sandbox.ssh-host-key") {
        files::write(&root.join("etc/ssh/ssh_host_ed25519_key"), key, 0o600, ROOT)?;
    }
    if let Some(keys) = credentials.bytes("sandbox.authorized-keys") {
        for (home, owner) in [("root", ROOT), ("home/dev", DEV)] {
            let directory = root.join(home).join(".ssh");
            files::make_directory(&directory, 0o700, owner)?;
            files::write(&directory.join("authorized_keys"), keys, 0o600, owner)?;
        }
    }
    egress::apply(credentials, root, ROOT)?;
    if let Some(network) = network {
        apply_network(network, root)?;
    }
    if wants_cloud_init(credentials.text("sandbox.cloud-init").as_deref()) {
        apply_cloud_init(credentials, root)?;
    }
    Ok(())
}

fn apply_hostname(hostname: &str, root: &Path) -> Result<(), WriteError> {
    // systemd drops underscores from what the file says, too.
    if !hostname.contains('_') {
        let line = format!("{hostname}\n");
        files::write(&root.join("etc/hostname"), line.as_bytes(), 0o644, ROOT)?;
    }
    let line = format!("127.0.1.1\t{hostname}\n");
    files::append(&root.join("etc/hosts"), line.as_bytes())
}

fn apply_network(network: &Network, root: &Path) -> Result<(), WriteError> {
    let resolver = network.resolv_conf();
    files::write(
        &root.join("etc/resolv.conf"),
        resolver.as_bytes(),
        0o644,
        ROOT,
    )?;
    let directory = root.join("etc/systemd/network");
    files::make_directory(&directory, 0o755, ROOT)?;
    let file = network.networkd_file();
    files::write(
        &directory.join("10-sandbox.network"),
        file.as_bytes(),
        0o644,
        ROOT,
    )
}

/// Hands the user's cloud-config to the NoCloud source and lifts the image's
/// ban on cloud-init. The user's data may hold secrets.
fn apply_cloud_init(credentials: &Credentials, root: &Path) -> Result<(), WriteError> {
    let directory = root.join("var/lib/cloud/seed/nocloud");
    files::make_directory(&directory, 0o700, ROOT)?;
    for (credential, name) in [
        ("cloud-init.user-data", "user-data"),
        ("cloud-init.meta-data", "meta-data"),
    ] {
        // Both files must be there for the source to be found.
        let content = credentials.bytes(credential).unwrap_or_default();
        files::write(&directory.join(name), content, 0o600, ROOT)?;
    }
    files::remove(&root.join("etc/cloud/cloud-init.disabled"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cloud_init_runs_only_when_told_to() {
        for (value, wanted) in [
            (None, false),
            (Some(""), false),
            (Some("no"), false),
            (Some("run"), true),
            (Some("run\n"), true),
        ] {
            assert_eq!(wants_cloud_init(value), wanted, "{value:?}");
        }
    }
}
