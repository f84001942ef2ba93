//! Writes the files that describe a restricted network: apt's proxy, the message of the day, the
//! gateway's certificate authority, and browser settings. [`crate::environment`] writes the
//! variables.

use std::fs;
use std::path::Path;

use crate::credentials::Credentials;
use crate::files::{self, Owner, WriteError};

/// A part of apt.conf(5).
const APT_CONFIGURATION: &str = "sandbox.apt-configuration";

/// The message of the day. The name is systemd's: its `provision.conf`
/// (tmpfiles.d(5)) writes the same file unless it exists.
const MOTD: &str = "login.motd";

/// A certificate in PEM.
const CERTIFICATE: &str = "sandbox.certificate";

/// A policy file of Firefox with certificates to trust.
const FIREFOX_POLICY: &str = "sandbox.firefox-policy";

/// The paths of each credential. The variants of a program read different paths.
const FILES: [(&str, &[&str]); 6] = [
    (APT_CONFIGURATION, &["etc/apt/apt.conf.d/95-sandbox"]),
    (MOTD, &[MOTD_PATH]),
    (CERTIFICATE, &[LOCAL_CERTIFICATE]),
    (
        "sandbox.chromium-policy",
        &[
            "etc/chromium/policies/managed/sandbox.json",
            "etc/opt/chrome/policies/managed/sandbox.json",
            "etc/opt/chrome_for_testing/policies/managed/sandbox.json",
        ],
    ),
    (
        "sandbox.firefox-preferences",
        &["etc/firefox-esr/sandbox.js"],
    ),
    (FIREFOX_POLICY, &["etc/firefox/policies/policies.json"]),
];

/// The message of the day for pam_motd(8).
const MOTD_PATH: &str = "etc/motd.d/50-provision.conf";

/// The certificate for update-ca-certificates(8), which builds the bundle again.
const LOCAL_CERTIFICATE: &str = "usr/local/share/ca-certificates/sandbox.crt";

/// The bundle of all trusted certificates. It is the default file of Debian's
/// OpenSSL, so no link named by the certificate's hash is needed.
const CA_BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

/// Returns whether the seed contains a proxy or an authority. Services need the
/// seed's variables then.
pub(crate) fn is_restricted(credentials: &Credentials) -> bool {
    [APT_CONFIGURATION, CERTIFICATE]
        .iter()
        .any(|name| credentials.bytes(name).is_some())
}

/// Writes the files below `root`, owned by `owner`.
pub(crate) fn apply(
    credentials: &Credentials,
    root: &Path,
    owner: Owner,
) -> Result<(), WriteError> {
    for (credential, paths) in FILES {
        let Some(content) = credentials.bytes(credential) else {
            continue;
        };
        for path in paths.iter().map(|path| root.join(path)) {
            // Firefox reads one policy file, so the image's file has priority.
            if credential == FIREFOX_POLICY && path.exists() {
                continue;
            }
            make_parent(&path, owner)?;
            files::write(&path, content, 0o644, owner)?;
        }
    }
    if let Some(certificate) = credentials.bytes(CERTIFICATE) {
        let bundle = root.join(CA_BUNDLE);
        make_parent(&bundle, owner)?;
        // The newline ends a last line that has none.
        files::append(&bundle, &[b"\n", certificate].concat())?;
    }
    Ok(())
}

fn make_parent(path: &Path, owner: Owner) -> Result<(), WriteError> {
    path.parent()
        .map_or(Ok(()), |parent| files::make_directory(parent, 0o755, owner))
}

/// Returns the message of the day for a user with this home directory, unless
/// `.hushlogin` silences it (pam_motd(8), login(1)).
pub(crate) fn motd(root: &Path, home: &Path) -> Option<String> {
    if home.join(".hushlogin").exists() {
        return None;
    }
    fs::read_to_string(root.join(MOTD_PATH)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_root(name: &str, test: impl FnOnce(&Path)) {
        let root = std::env::temp_dir().join(format!("guest-{name}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        test(&root);
        fs::remove_dir_all(root).unwrap();
    }

    fn me() -> Owner {
        Owner(rustix::process::getuid().as_raw())
    }

    #[test]
    fn apply_writes_apt_configuration_and_message_of_the_day() {
        with_root("proxy", |root| {
            let credentials = Credentials::from([
                ("sandbox.apt-configuration", "Acquire::x;\n"),
                ("login.motd", "closed\n"),
            ]);
            assert!(is_restricted(&credentials));
            apply(&credentials, root, me()).unwrap();
            let apt = fs::read_to_string(root.join("etc/apt/apt.conf.d/95-sandbox")).unwrap();
            assert_eq!(apt, "Acquire::x;\n");
            let home = root.join("home");
            assert_eq!(motd(root, &home).as_deref(), Some("closed\n"));
            fs::create_dir(&home).unwrap();
            fs::write(home.join(".hushlogin"), "").unwrap();
            assert_eq!(motd(root, &home), None);
            assert!(!root.join("etc/ssl").exists());
        });
    }

    #[test]
    fn apply_writes_browser_policies_and_keeps_the_firefox_policy_of_the_image() {
        with_root("browsers", |root| {
            let own = root.join("etc/firefox/policies/policies.json");
            let credentials = Credentials::from([
                ("sandbox.chromium-policy", "{}\n"),
                ("sandbox.firefox-preferences", "pref\n"),
                ("sandbox.firefox-policy", "ours\n"),
            ]);
            apply(&credentials, root, me()).unwrap();
            for directory in ["chromium", "opt/chrome", "opt/chrome_for_testing"] {
                let path = format!("etc/{directory}/policies/managed/sandbox.json");
                assert_eq!(fs::read_to_string(root.join(path)).unwrap(), "{}\n");
            }
            let preferences = fs::read_to_string(root.join("etc/firefox-esr/sandbox.js"));
            assert_eq!(preferences.unwrap(), "pref\n");
            assert_eq!(fs::read_to_string(&own).unwrap(), "ours\n");

            fs::write(&own, "the image's\n").unwrap();
            apply(&credentials, root, me()).unwrap();
            assert_eq!(fs::read_to_string(&own).unwrap(), "the image's\n");
        });
    }

    #[test]
    fn apply_appends_the_certificate_to_the_bundle() {
        with_root("certificate", |root| {
            let bundle = root.join(CA_BUNDLE);
            fs::create_dir_all(bundle.parent().unwrap()).unwrap();
            fs::write(&bundle, "first").unwrap();
            let credentials = Credentials::from([("sandbox.certificate", "ours\n")]);
            assert!(is_restricted(&credentials));
            apply(&credentials, root, me()).unwrap();
            assert_eq!(fs::read_to_string(&bundle).unwrap(), "first\nours\n");
            let local = fs::read_to_string(root.join(LOCAL_CERTIFICATE)).unwrap();
            assert_eq!(local, "ours\n");
        });
    }

    #[test]
    fn apply_creates_a_missing_bundle() {
        with_root("bundle", |root| {
            let credentials = Credentials::from([("sandbox.certificate", "ours\n")]);
            apply(&credentials, root, me()).unwrap();
            let bundle = fs::read_to_string(root.join(CA_BUNDLE)).unwrap();
            assert_eq!(bundle.trim_start(), "ours\n");
        });
    }

    #[test]
    fn apply_writes_nothing_for_an_open_network() {
        with_root("open", |root| {
            let credentials = Credentials::from([("sandbox.environment", "A=1\n")]);
            assert!(!is_restricted(&credentials));
            apply(&credentials, root, me()).unwrap();
            assert!(fs::read_dir(root).unwrap().next().is_none());
            assert_eq!(motd(root, root), None);
        });
    }
}
