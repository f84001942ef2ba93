//! What the guest's programs and people are told of its network, in files: the
//! proxy for apt, a note for who logs in, the authority that the gateway signs
//! with, what browsers must know. The variables are part of [`crate::environment`].

use std::fs;
use std::path::Path;

use crate::credentials::Credentials;
use crate::files::{self, Owner, WriteError};

/// Configuration of apt, as apt.conf(5) has it.
const APT_CONFIGURATION: &str = "sandbox.apt-configuration";

/// The note. systemd's own name: its `provision.conf` (tmpfiles.d(5)) writes
/// the same file, unless it is there.
const MOTD: &str = "login.motd";

/// A certificate, PEM.
const CERTIFICATE: &str = "sandbox.certificate";

/// Certificates to trust, as Firefox has them.
const FIREFOX_POLICY: &str = "sandbox.firefox-policy";

/// What is written where: a program of several names looks in several places.
const FILES: [(&str, &[&str]); 6] = [
    (APT_CONFIGURATION, &["etc/apt/apt.conf.d/95-sandbox"]),
    (MOTD, &[NOTE]),
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

/// Where pam_motd(8) finds the note.
const NOTE: &str = "etc/motd.d/50-provision.conf";

/// Where update-ca-certificates(8) finds the certificate whenever it makes the
/// bundle anew.
const LOCAL_CERTIFICATE: &str = "usr/local/share/ca-certificates/sandbox.crt";

/// All certificates that are trusted. Debian's OpenSSL reads it as its default
/// file, so no link by the certificate's hash is needed.
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

/// Whether the seed names a proxy or an authority: services that are started
/// without its variables cannot work then.
pub(crate) fn is_restricted(credentials: &Credentials) -> bool {
    [APT_CONFIGURATION, CERTIFICATE]
        .iter()
        .any(|name| credentials.bytes(name).is_some())
}

/// Writes the files below `root`, as those of `owner`.
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
            // Firefox reads one file only, so the image's own stays.
            if credential == FIREFOX_POLICY && path.exists() {
                continue;
            }
            make_parent(&path, owner)?;
            files::write(&path, content, 0o644, owner)?;
        }
    }
    if let Some(certificate) = credentials.bytes(CERTIFICATE) {
        let bundle = root.join(BUNDLE);
        make_parent(&bundle, owner)?;
        // Should the last line before have no end, it has one now.
        files::append(&bundle, &[b"\n", certificate].concat())?;
    }
    Ok(())
}

fn make_parent(path: &Path, owner: Owner) -> Result<(), WriteError> {
    path.parent()
        .map_or(Ok(()), |parent| files::make_directory(parent, 0o755, owner))
}

/// The note for who logs in at a terminal with this home; none for those who
/// have silenced all such notes.
pub(crate) fn motd(root: &Path, home: &Path) -> Option<String> {
    if home.join(".hushlogin").exists() {
        return None;
    }
    fs::read_to_string(root.join(NOTE)).ok()
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
    fn proxy_mode_is_told_to_apt_and_to_people() {
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
    fn browsers_are_told_wherever_they_look() {
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
    fn a_certificate_joins_those_that_are_trusted() {
        with_root("certificate", |root| {
            let bundle = root.join(BUNDLE);
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
    fn a_system_that_trusts_nobody_gets_a_bundle_too() {
        with_root("bundle", |root| {
            let credentials = Credentials::from([("sandbox.certificate", "ours\n")]);
            apply(&credentials, root, me()).unwrap();
            let bundle = fs::read_to_string(root.join(BUNDLE)).unwrap();
            assert_eq!(bundle.trim_start(), "ours\n");
        });
    }

    #[test]
    fn an_open_network_leaves_everything_as_it_is() {
        with_root("open", |root| {
            let credentials = Credentials::from([("sandbox.environment", "A=1\n")]);
            assert!(!is_restricted(&credentials));
            apply(&credentials, root, me()).unwrap();
            assert!(fs::read_dir(root).unwrap().next().is_none());
            assert_eq!(motd(root, root), None);
        });
    }
}
