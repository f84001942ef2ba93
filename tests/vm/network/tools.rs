//! curl, git, pip and npm in proxy mode. With the variables of the sandbox alone, they
//! reach allowed names, and they fail at once for other names.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sandbox_test_support::Output;
use serde_json::json;
use sha2::{Digest, Sha512};

use super::World;
use super::client::logged;
use super::servers::Seen;
use super::world::MIRROR;
use crate::harness::{Check, Host, Tools, run_checks};

/// Makes each program trust the authority of the test, by its own variable.
const TRUST: &str = "authority=$PWD/authority.pem\n\
     export CURL_CA_BUNDLE=$authority GIT_SSL_CAINFO=$authority\n\
     export PIP_CERT=$authority NODE_EXTRA_CA_CERTS=$authority\n";

/// The content that the mirror serves in every format.
const WORD: &str = "from the mirror";

const CHECKS: &[Check] = &[
    ("curl fetches from allowed names only", curl),
    (
        "curl without the proxy fetches from allowed names only",
        curl_without_proxy,
    ),
    ("git clones from allowed names only", git),
    ("pip installs from allowed names only", pip),
    ("npm installs from allowed names only", npm),
];

#[test]
fn curl_git_pip_and_npm_in_proxy_mode_reach_only_allowed_names() {
    // Before the world: in a user namespace, the programs could not be fetched.
    let tools = Tools::get();
    let Some(world) = World::new() else { return };
    world.servers.zone().set("mirror.test", &[MIRROR]);
    world.servers.zone().set("denied.test", &[MIRROR]);
    let host = world.host();
    host.run(["proxy", "allow", "mirror.test"]).success();
    World::start(&host, &["--proxy", "--share", &tools.share()]);
    tools.install(&host);
    serve(&world, &host);
    run_checks(&host, CHECKS);
    assert_all_used_the_gateway(&world, &host);
    host.stop();
}

/// Runs a shell script in the guest. A script that hangs is ended with status 124.
#[track_caller]
fn sh(host: &Host, script: &str) -> Output {
    let script = format!("{TRUST}{script}");
    host.exec(&["timeout", "200", "sh", "-euc", &script])
}

/// Asserts that the script fails with this status and prints this reason.
#[track_caller]
fn assert_refused(host: &Host, script: &str, status: i32, reason: &str) {
    let output = sh(host, script);
    assert_eq!(output.status, status, "{output}");
    assert!(output.stderr.contains(reason), "{output}");
}

fn curl(host: &Host) {
    let output = sh(host, "curl -sS https://mirror.test/word").success();
    assert_eq!(output.stdout, WORD);
    let output = sh(host, "curl -sS http://mirror.test/word").success();
    assert_eq!(output.stdout, WORD);
    assert_refused(
        host,
        "curl -sS https://denied.test/word",
        56,
        "tunnel failed, response 403",
    );
    let output = sh(host, "curl -sS http://denied.test/word").success();
    assert!(output.stdout.contains("sandbox proxy allow"), "{output}");
}

fn curl_without_proxy(host: &Host) {
    let curl = "curl -sS --noproxy '*'";
    let output = sh(host, &format!("{curl} https://mirror.test/word")).success();
    assert_eq!(output.stdout, WORD);
    assert_refused(
        host,
        &format!("{curl} https://denied.test/word"),
        6,
        "resolve",
    );
    // The same with a known address.
    let known = format!("{curl} --resolve denied.test:443:{MIRROR}");
    assert_refused(
        host,
        &format!("{known} https://denied.test/word"),
        35,
        "alert",
    );
}

fn git(host: &Host) {
    let clone = |name: &str| {
        format!(
            "cd \"$(mktemp -d)\"\n\
             git clone -q https://{name}/repository.git\n\
             cat repository/word"
        )
    };
    let output = sh(host, &clone("mirror.test")).success();
    assert_eq!(output.stdout, WORD);
    assert_refused(
        host,
        &clone("denied.test"),
        128,
        "tunnel failed, response 403",
    );
}

fn pip(host: &Host) {
    let install = |name: &str| {
        format!(
            "target=$(mktemp -d)\n\
             python3 -m pip install --quiet --index-url https://{name}/simple/ \
             --no-cache-dir --break-system-packages --disable-pip-version-check --retries 1 \
             --target \"$target\" sandbox-test-wheel\n\
             cat \"$target\"/sandbox_test_wheel.py"
        )
    };
    let output = sh(host, &install("mirror.test")).success();
    assert_eq!(output.stdout, WORD);
    assert_refused(host, &install("denied.test"), 1, "403 Forbidden");
}

fn npm(host: &Host) {
    let install = |name: &str| {
        format!(
            "cd \"$(mktemp -d)\"\n\
             npm install --registry https://{name}/npm/ --no-audit --no-fund \
             --no-update-notifier sandbox-test-module >&2\n\
             cat node_modules/sandbox-test-module/index.js"
        )
    };
    let output = sh(host, &install("mirror.test")).success();
    assert_eq!(output.stdout, WORD);
    assert_refused(host, &install("denied.test"), 1, "E403");
}

/// Makes a wheel with one module. The arguments are the path and the module's content.
const MAKE_WHEEL: &str = r"
import sys, zipfile
path, word = sys.argv[1:]
information = 'sandbox_test_wheel-1.dist-info'
files = {
    'sandbox_test_wheel.py': word,
    f'{information}/METADATA': 'Metadata-Version: 2.1\nName: sandbox-test-wheel\nVersion: 1\n',
    f'{information}/WHEEL': 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
}
files[f'{information}/RECORD'] = ''.join(f'{name},,\n' for name in files)
with zipfile.ZipFile(path, 'w') as wheel:
    for name, text in files.items():
        wheel.writestr(name, text)
";

/// Builds a git repository, a wheel and an npm module in the guest, and serves them.
fn serve(world: &World, host: &Host) {
    host.guest(&format!(
        "project=$PWD\n\
         cd \"$(mktemp -d)\"\n\
         git init -q -b main repository\n\
         printf '{WORD}' > repository/word\n\
         git -C repository add word\n\
         git -C repository -c user.name=test -c user.email=test@example.com commit -q -m 'A word'\n\
         git clone -q --bare repository repository.git\n\
         git -C repository.git update-server-info\n\
         cp -r repository.git \"$project\"\n\
         mkdir package\n\
         printf '{WORD}' > package/index.js\n\
         printf '{{\"name\": \"sandbox-test-module\", \"version\": \"1.0.0\"}}' > package/package.json\n\
         tar -czf \"$project/module.tgz\" package"
    ));
    host.exec(&["python3", "-c", MAKE_WHEEL, "wheel.whl", WORD])
        .success();
    let made = |name: &str| fs::read(host.project().join(name)).unwrap();

    let servers = &world.servers;
    servers.add_file("/word", WORD.into());
    serve_tree(
        world,
        &host.project().join("repository.git"),
        "/repository.git",
    );
    let wheel = "sandbox_test_wheel-1-py3-none-any.whl";
    let index = format!("<!DOCTYPE html><a href=\"/wheels/{wheel}\">{wheel}</a>");
    servers.add_file("/simple/sandbox-test-wheel/", index.into());
    servers.add_file(&format!("/wheels/{wheel}"), made("wheel.whl"));
    let module = made("module.tgz");
    let integrity = format!("sha512-{}", STANDARD.encode(Sha512::digest(&module)));
    let described = json!({
        "name": "sandbox-test-module",
        "dist-tags": {"latest": "1.0.0"},
        "versions": {"1.0.0": {
            "name": "sandbox-test-module",
            "version": "1.0.0",
            "dist": {
                "tarball": "https://mirror.test/npm/module.tgz",
                "integrity": integrity,
            },
        }},
    });
    servers.add_file(
        "/npm/sandbox-test-module",
        described.to_string().into_bytes(),
    );
    servers.add_file("/npm/module.tgz", module);
}

/// Serves all files below a directory.
fn serve_tree(world: &World, directory: &Path, path: &str) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = format!("{path}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            serve_tree(world, &entry.path(), &path);
        } else {
            world
                .servers
                .add_file(&path, fs::read(entry.path()).unwrap());
        }
    }
}

/// Asserts that each program reached the mirror under the allowed name and by the expected
/// path, and that no program reached the denied name.
fn assert_all_used_the_gateway(world: &World, host: &Host) {
    let seen = world.servers.seen();
    let is_for = |seen: &Seen, name: &str| {
        // HTTP/2 has the name in the URI only.
        seen.headers.contains(&format!("host: {name}\n"))
            || seen.uri.starts_with(&format!("https://{name}/"))
    };
    for (program, path) in [
        ("curl/", "/word"),
        ("git/", "/repository.git/info/refs"),
        ("pip/", "/simple/sandbox-test-wheel/"),
        ("pip/", "/wheels/"),
        ("npm/", "/npm/sandbox-test-module"),
        ("npm/", "/npm/module.tgz"),
    ] {
        let found = seen.iter().any(|seen| {
            seen.headers.contains(&format!("user-agent: {program}"))
                && seen.uri.contains(path)
                && seen.at.port() == 443
                && is_for(seen, "mirror.test")
        });
        assert!(found, "{program} {path}: {seen:#?}");
    }
    for seen in &seen {
        assert!(is_for(seen, "mirror.test"), "{seen:?}");
    }
    let logged = logged(host);
    let tunnels = |name: &str, asked: &str, verdict: &str| {
        let found = logged.iter().filter(|entry| {
            entry["name"] == name && entry["asked"] == asked && entry["verdict"] == verdict
        });
        found.count()
    };
    // At least one per program. The check of curl without the proxy adds one by SNI.
    assert!(
        tunnels("mirror.test", "connect", "allowed") >= 4,
        "{logged:#?}"
    );
    assert_eq!(tunnels("mirror.test", "sni", "allowed"), 1, "{logged:#?}");
    assert!(
        tunnels("denied.test", "connect", "denied") >= 4,
        "{logged:#?}"
    );
    assert_eq!(tunnels("denied.test", "sni", "denied"), 1, "{logged:#?}");
}
