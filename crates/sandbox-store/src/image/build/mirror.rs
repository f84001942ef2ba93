//! The Debian mirror of a build, and the host's settings for its use.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::error::BuildError;

/// The mirror for hosts without a Debian mirror in apt's settings, and its security archive.
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";
const DEFAULT_SECURITY_MIRROR: &str = "http://deb.debian.org/debian-security";

/// Code names of releases that a host may run, and the names that move between releases.
const SUITES: [&str; 11] = [
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];
/// Suites without updates and security archives.
const ROLLING_SUITES: [&str; 2] = ["sid", "unstable"];

/// Settings of apt that decide whether a build can reach and trust the mirror.
const TAKEN_OVER_PREFIXES: [&str; 2] = ["Acquire::http::Proxy", "Acquire::https::Proxy"];
const TAKEN_OVER: [&str; 2] = ["Acquire::Check-Valid-Until", "Acquire::Check-Date"];

/// The archives a build installs from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirrors {
    /// The URL of the main archive.
    pub(super) main: String,
    /// The URL of the security archive, if one is known.
    pub(super) security: Option<String>,
}

impl Mirrors {
    /// Returns the mirror `given` by the user, or else the mirrors of the host's apt.
    pub(super) fn choose(given: Option<&str>) -> Result<Self, BuildError> {
        choose(given, &host_sources())
    }

    /// Returns the lines of sources.list(5) for `suite`.
    pub(super) fn source_lines(&self, suite: &str) -> Vec<String> {
        let mut lines = vec![format!("deb {} {suite} main", self.main)];
        if ROLLING_SUITES.contains(&suite) {
            return lines;
        }
        lines.push(format!("deb {} {suite}-updates main", self.main));
        if let Some(security) = &self.security {
            lines.push(format!("deb {security} {suite}-security main"));
        }
        lines
    }
}

/// Returns the host's apt settings that a build uses, as `KEY "VALUE"` for mmdebstrap's `--aptopt`.
/// Returns none on a host without apt.
pub(super) fn host_apt_options() -> Vec<String> {
    Command::new("apt-config")
        .arg("dump")
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| apt_options(&String::from_utf8_lossy(&output.stdout)))
        .unwrap_or_default()
}

/// An archive and a suite in apt's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uri: String,
    suite: String,
    main: bool,
    signed_by: Option<String>,
}

impl Source {
    /// Returns whether the source is an archive of Debian and its suite has `suite_suffix`. Its
    /// suite and component must be Debian's, and also its key or, without a key, its URL.
    fn is_debian(&self, suite_suffix: &str) -> bool {
        let suite = self.suite.strip_suffix(suite_suffix);
        let origin = match &self.signed_by {
            Some(key) => key.contains("debian-archive"),
            None => self.uri.contains("debian"),
        };
        self.main && origin && is_web(&self.uri) && suite.is_some_and(|s| SUITES.contains(&s))
    }
}

fn choose(given: Option<&str>, sources: &[Source]) -> Result<Mirrors, BuildError> {
    let find = |suffix| {
        sources
            .iter()
            .find(|source| source.is_debian(suffix))
            .map(|source| source.uri.trim_end_matches('/').to_owned())
    };
    if let Some(mirror) = given {
        let valid = is_web(mirror) && !mirror.contains(|c: char| c.is_whitespace() || c == '"');
        if !valid {
            return Err(BuildError::InvalidMirror {
                mirror: mirror.to_owned(),
            });
        }
    }
    let main = given
        .map(|mirror| mirror.trim_end_matches('/').to_owned())
        .or_else(|| find(""))
        .unwrap_or_else(|| DEFAULT_MIRROR.to_owned());
    let for_debian_org = || {
        let host = main.split('/').nth(2).unwrap_or_default();
        (host == "debian.org" || host.ends_with(".debian.org"))
            .then(|| DEFAULT_SECURITY_MIRROR.to_owned())
    };
    let security = find("-security").or_else(for_debian_org);
    Ok(Mirrors { main, security })
}

fn is_web(uri: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        uri.strip_prefix(scheme)
            .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
    })
}

/// Returns the sources of this host's apt. Ignores unreadable files.
fn host_sources() -> Vec<Source> {
    let mut sources =
        one_line_sources(&fs::read_to_string("/etc/apt/sources.list").unwrap_or_default());
    let mut paths: Vec<_> = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        match extension(&path) {
            "list" => sources.extend(one_line_sources(&text)),
            "sources" => sources.extend(deb822_sources(&text)),
            _ => {}
        }
    }
    sources
}

fn extension(path: &Path) -> &str {
    path.extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default()
}

/// Reads sources in the one-line format of sources.list(5).
fn one_line_sources(text: &str) -> Vec<Source> {
    text.lines().filter_map(one_line_source).collect()
}

fn one_line_source(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t', '[']) {
        return None;
    }
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="));
    let mut words = rest.split_whitespace();
    Some(Source {
        uri: words.next()?.to_owned(),
        suite: words.next()?.to_owned(),
        main: words.any(|component| component == "main"),
        signed_by: signed_by.map(str::to_owned),
    })
}

/// Reads sources in the deb822 format of sources.list(5).
fn deb822_sources(text: &str) -> Vec<Source> {
    let without_comments: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    without_comments
        .split(|line| line.trim().is_empty())
        .flat_map(stanza_sources)
        .collect()
}

fn stanza_sources(stanza: &[&str]) -> Vec<Source> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in stanza {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((key, value)) = line.split_once(':') {
            fields.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let field = |wanted: &str| {
        fields
            .iter()
            .find(|(key, _)| key == wanted)
            .map_or("", |(_, value)| value.as_str())
    };
    let has = |key, word| field(key).split_whitespace().any(|found| found == word);
    if field("enabled").eq_ignore_ascii_case("no") || !has("types", "deb") {
        return Vec::new();
    }
    let signed_by = Some(field("signed-by")).filter(|key| !key.is_empty());
    let mut sources = Vec::new();
    for uri in field("uris").split_whitespace() {
        for suite in field("suites").split_whitespace() {
            sources.push(Source {
                uri: uri.to_owned(),
                suite: suite.to_owned(),
                main: has("components", "main"),
                signed_by: signed_by.map(str::to_owned),
            });
        }
    }
    sources
}

/// Selects settings from the output of `apt-config dump`, lines of the form `KEY "VALUE";`.
fn apt_options(dump: &str) -> Vec<String> {
    dump.lines()
        .filter_map(|line| {
            let option = line.trim().strip_suffix(';')?;
            let (key, value) = option.split_once(' ')?;
            let taken_over = TAKEN_OVER.contains(&key)
                || TAKEN_OVER_PREFIXES.iter().any(|prefix| {
                    key.strip_prefix(prefix)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
                });
            (taken_over && value != "\"\"").then(|| option.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirrors(main: &str, security: Option<&str>) -> Mirrors {
        Mirrors {
            main: main.to_owned(),
            security: security.map(str::to_owned),
        }
    }

    #[test]
    fn choose_finds_mirrors_in_host_sources() {
        let deb822 = "\
Types: deb deb-src
# a comment
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main contrib
Signed-By:
 /usr/share/keyrings/debian-archive-keyring.gpg
";
        let one_line = "\
# deb http://commented.example/debian trixie main
deb-src http://source.example/debian trixie main
deb cdrom:[Debian 13]/ trixie main
deb [arch=amd64 signed-by=/usr/share/keyrings/vendor.gpg] https://apt.vendor.example/debian trixie main
deb [signed-by=/usr/share/keyrings/docker.gpg] https://download.example/linux/debian trixie stable
deb http://security.example/debian-security trixie-security main # note
deb\thttp://ftp.example/debian/ trixie main contrib
deb http://later.example/debian trixie main
";
        let ubuntu = "deb http://archive.ubuntu.com/ubuntu noble main restricted\n";
        let cases = [
            (
                deb822_sources(deb822),
                mirrors(
                    "http://mirror.example/debian",
                    Some("http://security.example/debian-security"),
                ),
            ),
            (
                one_line_sources(one_line),
                mirrors(
                    "http://ftp.example/debian",
                    Some("http://security.example/debian-security"),
                ),
            ),
            (
                one_line_sources(ubuntu),
                mirrors(DEFAULT_MIRROR, Some(DEFAULT_SECURITY_MIRROR)),
            ),
            (
                deb822_sources(&deb822.replace("Types: deb", "Enabled: no\nTypes: deb")),
                mirrors(DEFAULT_MIRROR, Some(DEFAULT_SECURITY_MIRROR)),
            ),
        ];
        for (sources, expected) in cases {
            assert_eq!(choose(None, &sources).unwrap(), expected, "{sources:?}");
        }
    }

    #[test]
    fn choose_prefers_given_mirror() {
        let cases = [
            ("https://mirror.example/debian/", None),
            (
                "http://ftp.de.debian.org/debian",
                Some(DEFAULT_SECURITY_MIRROR),
            ),
        ];
        for (given, security) in cases {
            assert_eq!(
                choose(Some(given), &[]).unwrap(),
                mirrors(given.trim_end_matches('/'), security)
            );
        }
        for wrong in [
            "",
            "debian",
            "ftp://x/debian",
            "http://",
            "http:///x",
            "http://a b",
        ] {
            assert!(choose(Some(wrong), &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn source_lines_of_rolling_suite_have_no_updates() {
        let mirrors = mirrors("http://m/debian", Some("http://m/debian-security"));
        assert_eq!(
            mirrors.source_lines("trixie"),
            [
                "deb http://m/debian trixie main",
                "deb http://m/debian trixie-updates main",
                "deb http://m/debian-security trixie-security main",
            ]
        );
        assert_eq!(
            mirrors.source_lines("sid"),
            ["deb http://m/debian sid main"]
        );
    }

    #[test]
    fn apt_options_selects_proxy_and_date_settings() {
        let dump = "\
APT \"\";
Acquire::Check-Valid-Until \"false\";
Acquire::Check-Date \"false\";
Acquire::http::Proxy \"http://127.0.0.1:3142\";
Acquire::http::Proxy::mirror.example \"DIRECT\";
Acquire::https::Proxy \"\";
Acquire::http::ProxyAutoDetect \"/usr/bin/detect\";
Acquire::Languages \"none\";
";
        assert_eq!(
            apt_options(dump),
            [
                "Acquire::Check-Valid-Until \"false\"",
                "Acquire::Check-Date \"false\"",
                "Acquire::http::Proxy \"http://127.0.0.1:3142\"",
                "Acquire::http::Proxy::mirror.example \"DIRECT\"",
            ]
        );
    }
}
