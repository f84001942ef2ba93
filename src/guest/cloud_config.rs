//! The cloud-config of the seed: the generated part, with the user's merged in. Keys are those of
//! cloud-init's module reference.

use sandbox_host::hint::Hint;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::template;

/// The values of the generated cloud-config.
#[derive(Debug, Clone)]
pub(crate) struct Generated<'a> {
    /// The guest's hostname.
    pub hostname: &'a str,
    /// The lines of `authorized_keys` for `dev`.
    pub authorized_keys: &'a [String],
    /// The guest's SSH host key, private and public, in OpenSSH's text forms.
    pub host_key: (&'a str, &'a str),
    /// The environment variables of every session.
    pub environment: &'a [(String, String)],
    /// The mounts as rows of fstab(5): source, mount point, type, options.
    pub mounts: &'a [[String; 4]],
    /// Additional files.
    pub files: &'a [WriteFile],
    /// The commands that run before the user's, as words.
    pub commands: &'a [Vec<String>],
}

/// A file for the module `write_files`. It belongs to root, and all users may read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct WriteFile {
    path: &'static str,
    content: String,
}

impl WriteFile {
    pub(super) fn new(path: &'static str, content: impl Into<String>) -> Self {
        let content = content.into();
        Self { path, content }
    }
}

/// An invalid cloud-config.
#[derive(Debug, thiserror::Error)]
pub enum CloudConfigError {
    /// The file is user data of another format.
    #[error("the first line of a cloud-config must be `#cloud-config`, not `{found}`")]
    NotCloudConfig {
        /// The first line, shortened.
        found: String,
    },
    /// The file is not YAML.
    #[error("the cloud-config is not valid YAML")]
    Yaml(#[source] yaml_serde::Error),
    /// The YAML document is not a mapping.
    #[error("the cloud-config is not a mapping of keys to values")]
    NotMapping,
}

impl CloudConfigError {
    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::NotCloudConfig { .. } => {
                "put a script into `runcmd:` of a cloud-config; see https://cloudinit.readthedocs.io/en/latest/explanation/format.html".into()
            }
            Self::Yaml(_) | Self::NotMapping => {
                "check the file with `cloud-init schema --config-file FILE`".into()
            }
        })
    }
}

/// Keys that are ignored in the user's cloud-config: the host sets the sandbox's identity and
/// access.
const PROTECTED: [&str; 7] = [
    "hostname",
    "fqdn",
    "prefer_fqdn_over_hostname",
    "preserve_hostname",
    "ssh_keys",
    "ssh_deletekeys",
    "create_hostname_file",
];

/// Keys with generated lists, to which the user's entries are appended.
const LISTS: [&str; 4] = ["users", "write_files", "mounts", "runcmd"];

/// Parses a user's cloud-config.
pub(crate) fn parse(text: &str) -> Result<Map<String, Value>, CloudConfigError> {
    let first = text.lines().next().unwrap_or_default().trim_end();
    if first != "#cloud-config" {
        return Err(CloudConfigError::NotCloudConfig {
            found: first
                .chars()
                .take(40)
                .filter(|character| !character.is_control())
                .collect(),
        });
    }
    match yaml_serde::from_str(text).map_err(CloudConfigError::Yaml)? {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(CloudConfigError::NotMapping),
    }
}

/// Returns the whole cloud-config as text.
///
/// Appends the user's lists to the generated ones. Otherwise the user's value wins, except for the
/// hostname, the host key and the user `dev`.
pub(crate) fn render(generated: &Generated<'_>, user: Option<&Map<String, Value>>) -> String {
    let mut config = generate(generated);
    if let Some(user) = user {
        merge(&mut config, user);
    }
    format!("#cloud-config\n{}", to_yaml(&config))
}

/// Returns the parts of a user's cloud-config that [`render`] ignores, in words for a message.
pub(crate) fn ignored_parts(user: &Map<String, Value>) -> Vec<String> {
    user.iter()
        .filter_map(|(key, value)| match value {
            _ if PROTECTED.contains(&key.as_str()) => Some(format!("`{key}`")),
            Value::Array(entries) if key == "users" && entries.iter().any(names_dev) => {
                Some("the user `dev`".into())
            }
            Value::Array(_) => None,
            _ if LISTS.contains(&key.as_str()) => Some(format!("`{key}` (not a list)")),
            _ => None,
        })
        .collect()
}

fn generate(generated: &Generated<'_>) -> Map<String, Value> {
    let environment: String = generated
        .environment
        .iter()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect();
    let mounts: Vec<Value> = generated
        .mounts
        .iter()
        .map(|[what, mount_point, kind, options]| {
            json!([what, mount_point, kind, options, "0", "0"])
        })
        .collect();
    let mut files = vec![json!({
        "path": "/etc/environment",
        "content": environment,
        "append": true,
    })];
    files.extend(generated.files.iter().map(|file| json!(file)));
    let mut config = template::fill(
        include_str!("../../cloud-init/user-data.yaml"),
        &[
            ("hostname", json!(generated.hostname)),
            ("host_key_private", json!(generated.host_key.0)),
            ("host_key_public", json!(generated.host_key.1)),
            ("dev_id", json!(sandbox_spec::guest::DEV_ID)),
            ("authorized_keys", json!(generated.authorized_keys)),
            ("files", json!(files)),
            ("mounts", json!(mounts)),
            ("commands", json!(generated.commands)),
        ],
    );
    if generated.commands.is_empty() {
        config.remove("runcmd");
    }
    config
}

/// Returns cloud-init's meta-data. A new `machine_id` is a new instance for cloud-init.
pub(crate) fn meta_data(machine_id: &str, hostname: &str) -> String {
    let document = template::fill(
        include_str!("../../cloud-init/meta-data.yaml"),
        &[
            ("machine_id", json!(machine_id)),
            ("hostname", json!(hostname)),
        ],
    );
    to_yaml(&document)
}

fn to_yaml(document: &Map<String, Value>) -> String {
    yaml_serde::to_string(document)
        .expect("strings, lists and maps with string keys have a YAML form")
}

fn merge(config: &mut Map<String, Value>, user: &Map<String, Value>) {
    for (key, value) in user {
        if PROTECTED.contains(&key.as_str()) {
            continue;
        }
        match (config.get_mut(key), value) {
            (Some(Value::Array(ours)), Value::Array(theirs)) => {
                let taken = theirs
                    .iter()
                    .filter(|entry| key != "users" || !names_dev(entry));
                ours.extend(taken.cloned());
            }
            (_, Value::Array(_)) => {
                config.insert(key.clone(), value.clone());
            }
            // Only a list can extend a generated list.
            _ if LISTS.contains(&key.as_str()) => {}
            _ => {
                config.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Returns whether an entry of `users` is `dev`, as a name or as a mapping.
fn names_dev(entry: &Value) -> bool {
    entry == "dev" || entry.get("name").is_some_and(|name| name == "dev")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(user: Option<&str>) -> Value {
        let keys = ["ssh-ed25519 AAAA me".to_string()];
        let environment = [("SANDBOX_CONTAINER".to_string(), "box".to_string())];
        let mounts = [["workspace", "/home/dev/workspace", "9p", "trans=virtio"].map(String::from)];
        let generated = Generated {
            hostname: "box",
            authorized_keys: &keys,
            host_key: ("PRIVATE\nKEY\n", "ssh-ed25519 BBBB"),
            environment: &environment,
            mounts: &mounts,
            files: &[WriteFile::new("/etc/ours", "content")],
            commands: &[vec!["true".into()]],
        };
        let user = user.map(|text| parse(text).unwrap());
        let text = render(&generated, user.as_ref());
        assert!(text.starts_with("#cloud-config\n"));
        yaml_serde::from_str(&text).unwrap()
    }

    #[test]
    fn cloud_config_contains_generated_values() {
        let config = rendered(None);
        assert_eq!(config["hostname"], "box");
        assert_eq!(config["users"][0]["name"], "dev");
        assert_eq!(
            config["users"][0]["ssh_authorized_keys"][0],
            "ssh-ed25519 AAAA me"
        );
        assert_eq!(config["ssh_keys"]["ed25519_private"], "PRIVATE\nKEY\n");
        assert_eq!(
            config["write_files"][0]["content"],
            "SANDBOX_CONTAINER=box\n"
        );
        assert_eq!(config["mounts"][0][1], "/home/dev/workspace");
        assert_eq!(config["write_files"][1]["path"], "/etc/ours");
        assert_eq!(config["runcmd"], json!([["true"]]));
    }

    #[test]
    fn meta_data_names_instance_and_hostname() {
        let text = meta_data("0123456789abcdef0123456789abcdef", "box");
        let value: Value = yaml_serde::from_str(&text).unwrap();
        assert_eq!(
            value,
            json!({"instance-id": "0123456789abcdef0123456789abcdef", "local-hostname": "box"})
        );
        // An id of digits alone is still a string.
        let text = meta_data("01234567890123456789012345678901", "box");
        let value: Value = yaml_serde::from_str(&text).unwrap();
        assert!(value["instance-id"].is_string(), "{text}");
    }

    #[test]
    fn cloud_config_appends_lists_and_adds_other_keys() {
        let config = rendered(Some(
            "#cloud-config\npackages: [cowsay]\nwrite_files:\n- {path: /a, content: b}\nusers: [default, {name: eve}]\nruncmd: [theirs]\ntimezone: Europe/Berlin\n",
        ));
        assert_eq!(config["packages"][0], "cowsay");
        assert_eq!(config["write_files"].as_array().unwrap().len(), 3);
        assert_eq!(config["write_files"][2]["path"], "/a");
        assert_eq!(config["runcmd"], json!([["true"], "theirs"]));
        assert_eq!(config["users"][1], "default");
        assert_eq!(config["users"][2]["name"], "eve");
        assert_eq!(config["timezone"], "Europe/Berlin");
    }

    #[test]
    fn cloud_config_ignores_hostname_host_key_and_dev() {
        let config = rendered(Some(
            "#cloud-config\nhostname: evil\nfqdn: evil.example\nssh_deletekeys: true\nusers: [dev, {name: dev, sudo: false}]\nmounts: nonsense\n",
        ));
        assert_eq!(config["hostname"], "box");
        assert!(config.get("fqdn").is_none());
        assert_eq!(config["ssh_deletekeys"], false);
        assert_eq!(config["users"].as_array().unwrap().len(), 1);
        assert_eq!(config["users"][0]["sudo"], "ALL=(ALL) NOPASSWD:ALL");
        assert!(config["mounts"].is_array());
    }

    #[test]
    fn ignored_parts_names_each_part() {
        let ignored =
            |text: &str| ignored_parts(&parse(&format!("#cloud-config\n{text}")).unwrap());
        assert_eq!(ignored("packages: [jq]\nusers: [eve]\nmounts: []"), [""; 0]);
        assert_eq!(ignored("hostname: a\nfqdn: b"), ["`fqdn`", "`hostname`"]);
        assert_eq!(ignored("users: [eve, {name: dev}]"), ["the user `dev`"]);
        assert_eq!(ignored("runcmd: reboot"), ["`runcmd` (not a list)"]);
    }

    #[test]
    fn parse_rejects_other_user_data() {
        for (text, message) in [
            ("#!/bin/sh\necho", "not `#!/bin/sh`"),
            ("", "not ``"),
            ("#cloud-config\n- a\n", "not a mapping"),
            ("#cloud-config\na: [\n", "not valid YAML"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.hint().is_some());
        }
        assert!(parse("#cloud-config\n").unwrap().is_empty());
    }
}
