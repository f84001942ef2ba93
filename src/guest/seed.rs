//! The seed: all credentials of one start. docs/guest-contract.md lists their names and their
//! readers.

use super::cloud_config;
use super::credential::Credential;
use super::egress::Egress;

/// A mount of the guest, as a systemd unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountUnit {
    /// The unit's name, `home-dev-workspace.mount`.
    pub name: String,
    /// The unit file.
    pub content: String,
}

/// The input of a seed.
#[derive(Debug, Clone)]
pub(crate) struct SeedInput<'a> {
    /// The sandbox's name: hostname, and `SANDBOX_CONTAINER`.
    pub name: &'a str,
    /// The guest's machine-id, 32 lower-case hexadecimal digits.
    pub machine_id: &'a str,
    /// The guest's SSH host key, private and public, in OpenSSH's text forms.
    pub host_key: (&'a str, &'a str),
    /// Lines of `authorized_keys`.
    pub authorized_keys: &'a [String],
    /// The guest's address with its prefix length, its gateway, its DNS server.
    pub network: &'a str,
    /// The shares' mount units.
    pub mount_units: &'a [MountUnit],
    /// The same mounts as rows of fstab(5), for the cloud-config.
    pub mounts: &'a [[String; 4]],
    /// The user's cloud-config.
    pub cloud_config: Option<&'a serde_json::Map<String, serde_json::Value>>,
    /// The guest's settings for its network.
    pub egress: Egress<'a>,
}

/// Returns the credentials of one start.
pub(crate) fn credentials(input: &SeedInput<'_>) -> Vec<Credential> {
    let mut environment = vec![("SANDBOX_CONTAINER".to_string(), input.name.to_string())];
    environment.extend(input.egress.environment(input.name));
    let environment_lines: String = environment
        .iter()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect();
    let mut authorized_keys = input.authorized_keys.join("\n");
    authorized_keys.push('\n');
    let mut credentials = vec![
        Credential::new("sandbox.hostname", input.name),
        Credential::new("system.machine_id", input.machine_id),
        Credential::new("sandbox.environment", environment_lines),
        Credential::new("sandbox.ssh-host-key", input.host_key.0),
        Credential::new("sandbox.authorized-keys", authorized_keys),
        Credential::new("sandbox.network", input.network),
    ];
    credentials.extend(input.egress.credentials());
    for unit in input.mount_units {
        credentials.push(Credential::new(
            format!("systemd.extra-unit.{}", unit.name),
            unit.content.as_str(),
        ));
    }
    if !input.mount_units.is_empty() {
        let names: Vec<&str> = input
            .mount_units
            .iter()
            .map(|unit| unit.name.as_str())
            .collect();
        let names = names.join(" ");
        credentials.push(Credential::new(
            "systemd.unit-dropin.sandbox.target",
            format!("[Unit]\nWants={names}\nAfter={names}\n"),
        ));
    }
    let generated = cloud_config::Generated {
        hostname: input.name,
        authorized_keys: input.authorized_keys,
        host_key: input.host_key,
        environment: &environment,
        mounts: input.mounts,
        files: &input.egress.files(),
        commands: &input.egress.commands(input.name),
    };
    credentials.push(Credential::new(
        "cloud-init.user-data",
        cloud_config::render(&generated, input.cloud_config),
    ));
    credentials.push(Credential::new(
        "cloud-init.meta-data",
        cloud_config::meta_data(input.machine_id, input.name),
    ));
    if input.cloud_config.is_some() {
        credentials.push(Credential::new("sandbox.cloud-init", "run"));
    }
    credentials
}

/// Returns the credentials of a template's guest, which all sandboxes have in common.
pub(crate) fn template_credentials(network: &str) -> Vec<Credential> {
    vec![Credential::new("sandbox.network", network)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> SeedInput<'static> {
        SeedInput {
            name: "sandbox-box",
            machine_id: "0123456789abcdef0123456789abcdef",
            host_key: ("PRIVATE", "PUBLIC"),
            authorized_keys: &[],
            network: "10.0.2.15/24 10.0.2.2 10.0.2.3",
            mount_units: &[],
            mounts: &[],
            cloud_config: None,
            egress: Egress::default(),
        }
    }

    fn value(seed: &[Credential], name: &str) -> String {
        let found = seed.iter().find(|credential| credential.name == name);
        String::from_utf8(found.unwrap().value.clone()).unwrap()
    }

    fn names(input: &SeedInput<'_>) -> Vec<String> {
        credentials(input)
            .into_iter()
            .map(|credential| credential.name)
            .collect()
    }

    #[test]
    fn seed_runs_cloud_init_only_for_a_users_config() {
        assert!(!names(&input()).contains(&"sandbox.cloud-init".to_string()));
        let config = serde_json::Map::new();
        let with = SeedInput {
            cloud_config: Some(&config),
            ..input()
        };
        assert!(names(&with).contains(&"sandbox.cloud-init".to_string()));
    }

    #[test]
    fn seed_makes_the_target_wait_for_each_share() {
        let units = [
            MountUnit {
                name: "a.mount".into(),
                content: "A".into(),
            },
            MountUnit {
                name: "b.mount".into(),
                content: "B".into(),
            },
        ];
        let seed = credentials(&SeedInput {
            mount_units: &units,
            ..input()
        });
        assert_eq!(value(&seed, "systemd.extra-unit.b.mount"), "B");
        assert_eq!(
            value(&seed, "systemd.unit-dropin.sandbox.target"),
            "[Unit]\nWants=a.mount b.mount\nAfter=a.mount b.mount\n"
        );
    }

    #[test]
    fn cloud_config_repeats_the_agents_network_settings() {
        let variables = [("TOKEN".to_string(), "placeholder-of-TOKEN".to_string())];
        let seed = credentials(&SeedInput {
            egress: Egress {
                proxy: Some("http://192.0.2.1:3128"),
                variables: &variables,
                certificate: Some("CERTIFICATE\nMIIB\n"),
            },
            ..input()
        });
        let environment = value(&seed, "sandbox.environment");
        for line in [
            "SANDBOX_CONTAINER=sandbox-box\n",
            "https_proxy=http://192.0.2.1:3128\n",
            "TOKEN=placeholder-of-TOKEN\n",
        ] {
            assert!(environment.contains(line), "{environment}");
        }
        let user_data: serde_json::Value =
            yaml_serde::from_str(&value(&seed, "cloud-init.user-data")).unwrap();
        let files = user_data["write_files"].as_array().unwrap();
        let contents: Vec<&str> = files
            .iter()
            .map(|file| file["content"].as_str().unwrap())
            .collect();
        for credential in [
            "sandbox.environment",
            "sandbox.apt-configuration",
            "login.motd",
            "sandbox.certificate",
        ] {
            assert!(
                contents.contains(&&*value(&seed, credential)),
                "{contents:?}"
            );
        }
        assert_eq!(user_data["runcmd"][0][0], "systemctl");
        assert_eq!(user_data["runcmd"][1][0], "sh");
    }
}
