//! The user's cloud-config: the guest applies it before readiness, and skips cloud-init
//! without one.

use std::fmt::Write;
use std::fs;

use crate::harness::{Check, Host, run_checks};

const CHECKS: &[Check] = &[
    ("cloud-init has finished", finished),
    ("files of the cloud-config are written", files),
    ("commands of the cloud-config have run", commands),
    ("the user of the cloud-config exists beside `dev`", users),
    ("the journal is on disk, as configured", journal),
    ("the hostname of the cloud-config is ignored", hostname),
    ("sessions and shares work", sessions),
    ("the agent's network configuration is unchanged", network),
];

/// A size above the capacity of SMBIOS strings.
const LARGE: usize = 30 << 10;

#[test]
fn cloud_config_is_applied_before_readiness() {
    let host = Host::with_environment(|environment| environment.variable("TOKEN", "value"));
    let mut config = String::from(
        "#cloud-config\n\
         hostname: stolen\n\
         users:\n\
         - default\n\
         - name: alice\n  shell: /bin/bash\n  uid: 1500\n\
         runcmd:\n\
         - [sh, -c, 'echo ran as $(id -un) > /var/tmp/ran']\n\
         - [systemctl, restart, systemd-journald]\n\
         - [journalctl, --flush]\n\
         write_files:\n\
         - path: /etc/from-config\n  content: from the config\n  permissions: '0640'\n\
         - path: /etc/systemd/journald.conf.d/disk.conf\n  content: |\n    [Journal]\n    Storage=persistent\n\
         - path: /etc/large\n  content: |\n",
    );
    for number in 0..LARGE / 32 {
        writeln!(config, "    line {number:026}").unwrap();
    }
    assert!(config.len() > LARGE);
    let file = host.root().join("cloud config.yaml");
    fs::write(&file, config).unwrap();
    // A restored guest applies the cloud-config as at a first boot.
    for mode in [&["--cold"][..], &[]] {
        eprintln!("    {mode:?}");
        let network = ["--proxy", "--secret", "TOKEN@api.example.com"];
        let cloud_init = ["--cloud-init", file.to_str().unwrap()];
        let flags = [&network[..], &cloud_init, mode].concat();
        let output = host.start(&flags);
        assert!(
            output.stderr.contains("cloud-init"),
            "no mention of cloud-init: {output}"
        );
        assert_eq!(host.info()["template"].is_null(), !mode.is_empty());
        run_checks(&host, CHECKS);
        host.stop();
    }
}

fn finished(host: &Host) {
    assert_eq!(host.guest("cloud-init status"), "status: done");
    let result = host.guest("cat /run/cloud-init/result.json");
    assert!(result.contains("\"errors\": []"), "{result}");
    assert!(result.contains("DataSourceNoCloud"), "{result}");
}

fn files(host: &Host) {
    assert_eq!(
        host.guest("sudo cat /etc/from-config; echo; stat -c '%U %a' /etc/from-config"),
        "from the config\nroot 640"
    );
    let lines = LARGE / 32;
    assert_eq!(host.guest("wc -l < /etc/large"), lines.to_string());
    assert_eq!(
        host.guest("tail -1 /etc/large"),
        format!("line {:026}", lines - 1)
    );
}

fn commands(host: &Host) {
    assert_eq!(host.guest("cat /var/tmp/ran"), "ran as root");
}

fn users(host: &Host) {
    assert_eq!(
        host.guest("id -u alice; getent passwd alice | cut -d: -f7"),
        "1500\n/bin/bash"
    );
    assert_eq!(host.guest("id -un; id -u; sudo -n id -u"), "dev\n1000\n0");
    let alice = host
        .run(["exec", "-u", "alice", "-w", "/", "--", "id", "-un"])
        .success();
    assert_eq!(alice.stdout, "alice\n");
}

fn journal(host: &Host) {
    let header = host.guest("sudo journalctl --header");
    assert!(header.contains("File path: /var/log/journal/"), "{header}");
    assert!(!header.contains("File path: /run/log/journal/"), "{header}");
}

fn hostname(host: &Host) {
    assert_eq!(
        host.guest("hostname; sudo -n cat /etc/hostname 2>/dev/null || hostname"),
        "sandbox-project\nsandbox-project"
    );
    assert_eq!(host.guest("sudo true 2>&1"), "");
}

fn sessions(host: &Host) {
    assert_eq!(
        host.guest("echo $SANDBOX_CONTAINER; touch here; ls"),
        "sandbox-project\nhere"
    );
}

fn network(host: &Host) {
    assert_eq!(
        host.guest("apt-config dump | grep -c ::Proxy; grep -c 'proxy mode' /etc/motd.d/*"),
        "2\n1"
    );
    let certificate = "/usr/local/share/ca-certificates/sandbox.crt";
    assert_eq!(
        host.guest(&format!("openssl verify {certificate}")),
        format!("{certificate}: OK")
    );
    // The agent had already added the certificate to the bundle, so the slow update of
    // the trust store did not run.
    host.guest("test ! -e /etc/ssl/certs/sandbox.pem");
    assert_eq!(
        host.guest("systemctl show-environment | grep -c '^https_proxy='"),
        "1"
    );
}

#[test]
fn start_without_cloud_config_skips_cloud_init() {
    let host = Host::cold();
    host.start(&[]);
    host.settle();
    host.guest("test ! -e /run/cloud-init/result.json; test ! -e /var/log/cloud-init.log");
    assert_eq!(
        host.guest(
            "systemctl list-units --no-legend --all 'cloud-*.service' | grep -c running || true"
        ),
        "0"
    );
    // Without `--disk`, the disk has the default size.
    let mebibytes: u64 = host
        .guest("df --output=size --block-size=1M / | tail -1 | tr -d ' '")
        .parse()
        .unwrap();
    assert!((19_000..=20_480).contains(&mebibytes), "{mebibytes} MiB");
    host.stop();
}
