//! What the guest is told of its network: the variables, files and the note by
//! which its programs find the proxy, trust the gateway and take placeholders
//! for secrets. Nothing here restricts the guest; the gateway does.

use serde_json::json;

use super::cloud_config::WriteFile;
use super::credential::Credential;

/// Where the certificate lies in the guest: update-ca-certificates(8) takes it
/// from there whenever it makes [`BUNDLE`] anew, and Firefox by its policy.
const CERTIFICATE: &str = "/usr/local/share/ca-certificates/sandbox.crt";

/// All certificates that Debian trusts, the gateway's among them. OpenSSL,
/// GnuTLS, curl and git read it by themselves.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The part of apt's configuration (apt.conf(5)) that names the proxy.
const APT_CONFIGURATION: &str = "/etc/apt/apt.conf.d/95-sandbox";

/// Where systemd's `provision.conf` (tmpfiles.d(5)) puts `login.motd`, and
/// pam_motd(8) finds it.
const NOTE: &str = "/etc/motd.d/50-provision.conf";

/// Where Chromium, Chrome, and Chrome for Testing, which Playwright and Puppeteer
/// bring along, look for policies (policy_paths.cc of Chromium).
const CHROMIUM_POLICIES: [&str; 3] = [
    "/etc/chromium/policies/managed/sandbox.json",
    "/etc/opt/chrome/policies/managed/sandbox.json",
    "/etc/opt/chrome_for_testing/policies/managed/sandbox.json",
];

/// Preferences that Debian's Firefox reads besides its own.
const FIREFOX_PREFERENCES: &str = "/etc/firefox-esr/sandbox.js";

/// Firefox's policies.
const FIREFOX_POLICY: &str = "/etc/firefox/policies/policies.json";

/// The guest's own names and addresses and those of the gateway: nothing that
/// a proxy outside of the guest should be asked for.
const NOT_BY_PROXY: &str =
    "localhost,127.0.0.1,::1,10.0.2.15,10.0.2.2,10.0.2.3,host.sandbox.internal";

/// The guest's settings for its network.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Egress<'a> {
    /// The URL of the proxy, if nothing but listed domains can be reached.
    pub proxy: Option<&'a str>,
    /// Variables with placeholders of secrets.
    pub variables: &'a [(String, String)],
    /// The certificate of the sandbox's own authority, PEM (RFC 7468), if
    /// there are secrets.
    pub certificate: Option<&'a str>,
}

impl Egress<'_> {
    /// Variables of every session and service, in an order in which later ones
    /// may replace earlier ones. `hostname` is the guest's.
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
            // For what brings certificates of its own along.
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

    /// What cloud-init runs where no agent has done it, before any command of
    /// the user's. Making the bundle takes half a minute in emulation, so it
    /// is made only if the certificate, told by its first line, is not in it.
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

/// A text that the guest finds in files.
struct Text {
    /// What the agent knows it by.
    credential: &'static str,
    /// Where cloud-init writes it, as the agent does.
    paths: &'static [&'static str],
    content: String,
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.into(), value.into())
}

fn apt_configuration(proxy: &str) -> String {
    format!("Acquire::http::Proxy \"{proxy}\";\nAcquire::https::Proxy \"{proxy}\";\n")
}

/// Browsers send a decoy of the encrypted ClientHello to every server, which
/// cannot be told from a real one, behind which any host may hide. And Chromium
/// trusts its own certificates only.
fn chromium_policy(certificate: Option<&str>) -> String {
    let mut policy = json!({ "EncryptedClientHelloEnabled": false });
    if let Some(certificate) = certificate {
        // The text between the lines of RFC 7468 is base64 of the DER form.
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
    "This sandbox is in proxy mode: only listed domains can be reached, by HTTP\n\
     and HTTPS. On the host, `sandbox proxy allow DOMAIN` opens another one, and\n\
     `sandbox proxy blocked` shows what was refused.\n"
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
        // A terminal of the usual width shows it as it is.
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
        // Each text is where the agent writes it, in as many places.
        assert_eq!(egress.files().len(), credentials.len() + 2);
    }
}
