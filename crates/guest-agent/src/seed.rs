//! Writes the seed to the root file system: at a cold start before systemd, and
//! after a restore.

use std::path::Path;

use crate::credentials::Credentials;
use crate::files::{self, DEV, ROOT, WriteError};
use crate::network::Network;
use crate::{egress, environment};

/// The value of the credential `sandbox.cloud-init` that runs cloud-init.
const CLOUD_INIT_RUN: &str = "run";

/// Returns whether the value of `sandbox.cloud-init` asks for cloud-init.
pub(crate) fn wants_cloud_init(value: Option<&str>) -> bool {
    value.is_some_and(|value| value.trim() == CLOUD_INIT_RUN)
}

/// The credential of the host name. From its own `system.hostname`, systemd
/// drops underscores.
const HOSTNAME: &str = "sandbox.hostname";

/// Sets the host name of the running kernel. systemd keeps it unless a file on
/// the disk sets another.
pub(crate) fn set_hostname(credentials: &Credentials) -> rustix::io::Result<()> {
    match credentials.text(HOSTNAME) {
        Some(hostname) => rustix::system::sethostname(hostname.trim().as_bytes()),
        None => Ok(()),
    }
}

/// Writes the files of the seed below `root`, the mounted root file system, and
/// below `run`, the tmpfs that is or becomes its `/run`.
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
    // From this file, systemd also drops underscores.
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

/// Writes the user's cloud-config for the NoCloud data source and enables
/// cloud-init, which the image disables. Only root can read the data, since it
/// may contain secrets.
fn apply_cloud_init(credentials: &Credentials, root: &Path) -> Result<(), WriteError> {
    let directory = root.join("var/lib/cloud/seed/nocloud");
    files::make_directory(&directory, 0o700, ROOT)?;
    for (credential, name) in [
        ("cloud-init.user-data", "user-data"),
        ("cloud-init.meta-data", "meta-data"),
    ] {
        // cloud-init ignores the data source unless both files exist.
        let content = credentials.bytes(credential).unwrap_or_default();
        files::write(&directory.join(name), content, 0o600, ROOT)?;
    }
    files::remove(&root.join("etc/cloud/cloud-init.disabled"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wants_cloud_init_only_with_the_value_run() {
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
