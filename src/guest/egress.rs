//! The guest's settings for its network: variables, files and a note for users.
//!
//! With them, programs find the proxy, trust the gateway and have placeholders for secrets. The
//! gateway restricts the guest, not these settings.

use serde_json::json;

use super::cloud_config::WriteFile;
use super::credential::Credential;

/// The path of the certificate in the guest. update-ca-certificates(8) adds it to [`BUNDLE`], and
/// Firefox installs it by its policy.
const CERTIFICATE: &str = "/usr/local/share/ca-certificates/sandbox.crt";

/// All certificates that Debian trusts, including the gateway's. OpenSSL, GnuTLS, curl and git read
/// it by default.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The part of apt's configuration (apt.conf(5)) that names the proxy.
const APT_CONFIGURATION: &str = "/etc/apt/apt.conf.d/95-sandbox";

/// The path to which systemd's `provision.conf` (tmpfiles.d(5)) writes `login.motd`. pam_motd(8)
/// reads it.
const NOTE: &str = "/etc/motd.d/50-provision.conf";

/// The policy files of Chromium, Chrome and Chrome for Testing (policy_paths.cc of Chromium).
/// Playwright and Puppeteer use Chrome for Testing.
const CHROMIUM_POLICIES: [&str; 3] = [
    "/etc/chromium/policies/managed/sandbox.json",
    "/etc/opt/chrome/policies/managed/sandbox.json",
    "/etc/opt/chrome_for_testing/policies/managed/sandbox.json",
];

/// The preferences that Debian's Firefox reads in addition to its own.
const FIREFOX_PREFERENCES: &str = "/etc/firefox-esr/sandbox.js";

/// The policies of Firefox.
const FIREFOX_POLICY: &str = "/etc/firefox/policies/policies.json";

/// The names and addresses of the guest and of the gateway. Programs connect to them without the
/// proxy.
const NOT_BY_PROXY: &str =
    "localhost,127.0.0.1,::1,10.0.2.15,10.0.2.2,10.0.2.3,host.sandbox.internal";

/// The guest's settings for its network.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Egress<'a> {
    /// The URL of the proxy, in proxy mode.
    pub proxy: Option<&'a str>,
    /// The variables with the placeholders of secrets.
    pub variables: &'a [(String, String)],
    /// The certificate of the sandbox's own authority in PEM (RFC 7468), if there are secrets.
    pub certificate: Option<&'a str>,
}

impl Egress<'_> {
    /// Returns the variables of every session and service. A later one replaces an earlier one of
    /// the same name. `hostname` is the guest's.
    pub(super) fn environment(&self, hostname: &str) -> Vec<(String, String)> {
        let mut environment = Vec::new();
        if let Some(proxy) = self.proxy {
            let exceptions = format!("{NOT_BY_PROXY},{hostname}");
            environment.extend(
                [
                    ("http_proxy", proxy),
                    ("https_proxy", proxy),
                    ("HTTP_PROXY", proxy),
                    ("HTTPS_PROXY", proxy),
                    ("no_proxy", &exceptions),
                    ("NO_PROXY", &exceptions),
                ]
                .map(owned),
            );
        }
        if self.certificate.is_some() {
            // For programs with their own certificates.
            environment.extend(
                [
                    ("SSL_CERT_FILE", BUNDLE),
                    ("REQUESTS_CA_BUNDLE", BUNDLE),
                    ("NODE_EXTRA_CA_CERTS", CERTIFICATE),
                ]
                .map(owned),
            );
        }
        environment.extend_from_slice(self.variables);
        environment
    }

    /// Returns the credentials whose values the agent writes to files.
    pub(super) fn credentials(&self) -> Vec<Credential> {
        self.texts()
            .into_iter()
            .map(|text| Credential::new(text.credential, text.content))
            .collect()
    }

    /// Returns the same files for cloud-init.
    pub(super) fn files(&self) -> Vec<WriteFile> {
        self.texts()
            .iter()
            .flat_map(|text| {
                let paths = text.paths.iter();
                paths.map(|path| WriteFile::new(path, &*text.content))
            })
            .collect()
    }

    fn texts(&self) -> Vec<Text> {
        let mut texts = Vec::new();
        let mut add = |credential, paths, content| {
            texts.push(Text {
                credential,
                paths,
                content,
            });
        };
        if let Some(proxy) = self.proxy {
            let configuration = apt_configuration(proxy);
            add(
                "sandbox.apt-configuration",
                &[APT_CONFIGURATION],
                configuration,
            );
            add("login.motd", &[NOTE], note());
        }
        if let Some(certificate) = self.certificate {
            add("sandbox.certificate", &[CERTIFICATE], certificate.into());
            add(
                "sandbox.firefox-policy",
                &[FIREFOX_POLICY],
                firefox_policy(),
            );
        }
        if self.proxy.is_some() || self.certificate.is_some() {
            let policy = chromium_policy(self.certificate);
            add("sandbox.chromium-policy", &CHROMIUM_POLICIES, policy);
            add(
                "sandbox.firefox-preferences",
                &[FIREFOX_PREFERENCES],
                firefox_preferences(),
            );
        }
        texts
    }

    /// Returns the commands that cloud-init runs before the user's, for images that start without
    /// the agent.
    ///
    /// Building the bundle takes half a minute in emulation. So the command builds it only if the
    /// certificate is not in it, by its first line of base64.
    pub(super) fn commands(&self, hostname: &str) -> Vec<Vec<String>> {
        let environment = self.environment(hostname);
        if environment.is_empty() {
            return Vec::new();
        }
        let assignments = environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let words = ["systemctl", "set-environment"].map(String::from);
        let mut commands = vec![words.into_iter().chain(assignments).collect()];
        if self.certificate.is_some() {
            let script = format!(
                "grep -qsF \"$(sed -n 2p {CERTIFICATE})\" {BUNDLE} || update-ca-certificates"
            );
            commands.push(["sh", "-c", &script].map(String::from).into());
        }
        commands
    }
}

/// A text for files of the guest.
struct Text {
    /// The name of the credential for the agent.
    credential: &'static str,
    /// The files to which cloud-init or the agent writes it.
    paths: &'static [&'static str],
    content: String,
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.into(), value.into())
}

fn apt_configuration(proxy: &str) -> String {
    format!("Acquire::http::Proxy \"{proxy}\";\nAcquire::https::Proxy \"{proxy}\";\n")
}

/// Returns the policy, which disables the encrypted ClientHello and adds the certificate.
///
/// Browsers send a decoy of the encrypted ClientHello to every server. The gateway cannot
/// distinguish it from a real one, which may hide any host. Chromium trusts only its own
/// certificates.
fn chromium_policy(certificate: Option<&str>) -> String {
    let mut policy = json!({ "EncryptedClientHelloEnabled": false });
    if let Some(certificate) = certificate {
        // The text between the first and the last line is base64 of the DER form (RFC 7468).
        let lines = certificate.lines().filter(|line| !line.starts_with('-'));
        policy["CACertificates"] = json!([lines.collect::<String>()]);
    }
    format!("{policy}\n")
}

fn firefox_preferences() -> String {
    "pref(\"network.dns.echconfig.enabled\", false);\n\
     pref(\"security.tls.ech.grease_probability\", 0);\n"
        .into()
}

fn firefox_policy() -> String {
    let policy = json!({ "policies": { "Certificates": { "Install": [CERTIFICATE] } } });
    format!("{policy}\n")
}

fn note() -> String {
    "This sandbox is in proxy mode: it reaches only allowlisted domains, by HTTP\n\
     and HTTPS. On the host, `sandbox proxy allow DOMAIN` adds a domain, and\n\
     `sandbox proxy blocked` shows denied targets.\n"
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

    fn value<'a>(environment: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let mut found = environment.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice");
        value
    }

    fn names(egress: &Egress<'_>) -> Vec<String> {
        let credentials = egress.credentials().into_iter();
        credentials.map(|credential| credential.name).collect()
    }

    #[test]
    fn egress_of_an_open_network_is_empty() {
        let open = Egress::default();
        assert!(open.environment("box").is_empty());
        assert!(open.credentials().is_empty());
        assert!(open.files().is_empty() && open.commands("box").is_empty());
    }

    #[test]
    fn egress_in_proxy_mode_configures_programs_and_apt() {
        let egress = Egress {
            proxy: Some("http://192.0.2.1:3128"),
            ..Egress::default()
        };
        let environment = egress.environment("box");
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            assert_eq!(value(&environment, name), Some("http://192.0.2.1:3128"));
        }
        let exceptions = value(&environment, "no_proxy").unwrap();
        assert_eq!(value(&environment, "NO_PROXY"), Some(exceptions));
        for host in [
            "localhost",
            "127.0.0.1",
            "::1",
            "host.sandbox.internal",
            "box",
        ] {
            assert!(exceptions.split(',').any(|one| one == host), "{host}");
        }
        assert_eq!(value(&environment, "SSL_CERT_FILE"), None);
        assert_eq!(
            names(&egress),
            [
                "sandbox.apt-configuration",
                "login.motd",
                "sandbox.chromium-policy",
                "sandbox.firefox-preferences"
            ]
        );
        assert_eq!(
            chromium_policy(None),
            "{\"EncryptedClientHelloEnabled\":false}\n"
        );
        assert_eq!(
            apt_configuration("http://192.0.2.1:3128"),
            "Acquire::http::Proxy \"http://192.0.2.1:3128\";\nAcquire::https::Proxy \"http://192.0.2.1:3128\";\n"
        );
        // The lines fit into a terminal of 80 columns.
        assert!(note().lines().all(|line| line.len() < 80));
    }

    #[test]
    fn egress_with_secrets_sets_placeholders_and_trust() {
        let variables = [("TOKEN".into(), "sandbox-secret-TOKEN-0".into())];
        let egress = Egress {
            variables: &variables,
            certificate: Some(PEM),
            ..Egress::default()
        };
        let environment = egress.environment("box");
        assert_eq!(value(&environment, "TOKEN"), Some("sandbox-secret-TOKEN-0"));
        assert_eq!(value(&environment, "SSL_CERT_FILE"), Some(BUNDLE));
        assert_eq!(value(&environment, "REQUESTS_CA_BUNDLE"), Some(BUNDLE));
        assert_eq!(
            value(&environment, "NODE_EXTRA_CA_CERTS"),
            Some(CERTIFICATE)
        );
        assert_eq!(value(&environment, "http_proxy"), None);
        let credentials = egress.credentials();
        assert_eq!(
            names(&egress),
            [
                "sandbox.certificate",
                "sandbox.firefox-policy",
                "sandbox.chromium-policy",
                "sandbox.firefox-preferences"
            ]
        );
        assert_eq!(credentials[0].value, PEM.as_bytes());
        assert_eq!(
            chromium_policy(Some(PEM)),
            "{\"CACertificates\":[\"MIIB\"],\"EncryptedClientHelloEnabled\":false}\n"
        );
        // Chromium's policy has three paths, each other text has one.
        assert_eq!(egress.files().len(), credentials.len() + 2);
    }
}
