//! `sandbox --kvm --dry-run`: the plan, for every flag that changes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sandbox_test_support::TestEnvironment;

use crate::transcript::{Session, assert_snapshot, with_qemu};

/// Returns the plan that a dry run prints.
fn plan(environment: &TestEnvironment, line: &str) -> String {
    let mut words = shell_words::split(line).unwrap();
    words.insert(0, "--dry-run".into());
    let output = environment.run(words).success();
    assert!(!output.stdout.contains("PRIVATE KEY"), "{}", output.stdout);
    output.stdout
}

/// Returns the lines that differ between two plans.
fn difference(before: &str, after: &str) -> String {
    let mut text = String::new();
    for (sign, lines, others) in [("-", before, after), ("+", after, before)] {
        for line in lines.lines() {
            if !others.lines().any(|other| other == line) {
                text.push_str(&format!("{sign} {line}\n"));
            }
        }
    }
    text
}

#[test]
fn dry_run_without_flags_prints_reproducible_plan() {
    let environment = with_qemu("10.0.2");
    let mut session = Session::new();
    session.run(&environment, "--kvm --dry-run");
    session.assert_snapshot("dry_run_without_flags_prints_reproducible_plan");
    assert_eq!(
        plan(&environment, ""),
        plan(&environment, "--kvm"),
        "the plan differs without the default `--kvm`, or between two runs"
    );
}

#[test]
fn dry_run_with_each_flag_changes_plan() {
    let environment = with_qemu("10.0.2");
    let data = environment.root().join("data");
    fs::create_dir(&data).unwrap();
    let small = environment.project().join("small.yaml");
    fs::write(&small, "#cloud-config\npackages: [jq]\n").unwrap();
    let large = environment.project().join("large.yaml");
    let content = "x".repeat(100_000);
    fs::write(
        &large,
        format!("#cloud-config\nwrite_files: [{{path: /x, content: {content}}}]\n"),
    )
    .unwrap();
    let plain = plan(&environment, "");
    let data = data.display();
    let mut text = String::new();
    for line in [
        "--cpus 1",
        "--memory 512M",
        "--memory 1073741824",
        "--disk 8G",
        "--name other",
        "--image debian-13-minimal",
        "--accel tcg",
        "--nested-virtualization",
        "--ready-timeout 90s",
        &format!("--share {data}:/data"),
        &format!("--share {data}:/data:ro"),
        &format!("--share {data}:/data --share {data}:/mnt/two:ro"),
        "--share-mode mapped",
        "--share-mode passthrough",
        "--cloud-init small.yaml",
        "--cloud-init large.yaml",
        "--quiet",
        "--no-progress",
    ] {
        let difference = difference(&plain, &plan(&environment, line));
        text.push_str(&format!("# {line}\n{difference}\n"));
    }
    assert_snapshot("dry_run_with_each_flag_changes_plan", &text);
}

#[test]
fn dry_run_with_each_variable_and_key_changes_plan() {
    let plain = plan(&with_qemu("10.0.2"), "");
    let plain = without_root(&plain);
    let mut text = String::new();
    for (name, value) in [
        ("SANDBOX_CPUS", "1"),
        ("SANDBOX_MEMORY", "512M"),
        ("SANDBOX_DISK", "8G"),
        ("SANDBOX_NAME", "other"),
        ("SANDBOX_IMAGE", "debian-13-minimal"),
        ("SANDBOX_READY_TIMEOUT", "90s"),
        ("SANDBOX_SHARE_MODE", "passthrough"),
        ("SANDBOX_CLOUD_INIT", "small.yaml"),
        ("SANDBOX_HOME", "/nowhere/state"),
        ("XDG_CACHE_HOME", "/nowhere/cache"),
    ] {
        let environment = with_qemu("10.0.2").variable(name, value);
        fs::write(
            environment.project().join("small.yaml"),
            "#cloud-config\npackages: [jq]\n",
        )
        .unwrap();
        let difference = difference(&plain, &without_root(&plan(&environment, "")));
        text.push_str(&format!("# {name}={value}\n{difference}\n"));
    }
    let environment = with_qemu("10.0.2");
    write_configuration(
        &environment,
        "cpus = 1\nmemory = \"1G\"\ndisk = \"8G\"\nimage = \"debian-13-minimal\"\naccel = \"tcg\"\n\
         shares = [\"~:/data:ro\"]\nshare-mode = \"passthrough\"\nready-timeout = \"3m\"\n",
    );
    // `~` is shared here, so the state must lie elsewhere.
    let environment = environment.variable("SANDBOX_HOME", "/nowhere/state");
    let difference = difference(&plain, &without_root(&plan(&environment, "")));
    text.push_str(&format!("# config.toml\n{difference}\n"));
    assert_snapshot("dry_run_with_each_variable_and_key_changes_plan", &text);
}

#[test]
fn flag_overrides_variable_and_variable_overrides_file() {
    let environment = with_qemu("10.0.2").variable("SANDBOX_MEMORY", "512M");
    write_configuration(&environment, "memory = \"1G\"\ndisk = \"8G\"\n");
    let from_variable = plan(&environment, "");
    assert!(
        from_variable.contains("512M memory, 8G disk"),
        "{from_variable}"
    );
    let from_flag = plan(&environment, "--memory 768M");
    assert!(from_flag.contains("768M memory, 8G disk"), "{from_flag}");
}

#[test]
fn configuration_file_with_error_is_named() {
    let environment = with_qemu("10.0.2");
    let mut session = Session::new();
    for content in [
        "memory = \"2X\"\n",
        "memry = \"2G\"\n",
        "cpus = \"two\"\n",
        "memory =\n",
        "accel = \"hvf\"\n",
        "shares = [\"/tmp\"]\n",
    ] {
        write_configuration(&environment, content);
        let output = environment.run(["--dry-run"]);
        session.add(
            &format!("config.toml: {}; sandbox --dry-run", content.trim()),
            &output,
        );
    }
    write_configuration(&environment, "\u{0}");
    fs::write(configuration(&environment), [0xff, 0xfe]).unwrap();
    let output = environment.run(["list"]);
    session.add("config.toml: bytes; sandbox list", &output);
    session.assert_snapshot("configuration_file_with_error_is_named");
}

#[test]
fn cloud_config_with_invalid_content_is_reported() {
    let environment = with_qemu("10.0.2");
    let mut session = Session::new();
    for (name, content) in [
        ("script", "#!/bin/sh\necho hello\n"),
        ("list", "#cloud-config\n- a\n- b\n"),
        ("broken", "#cloud-config\npackages: [jq\n"),
        ("empty", ""),
        ("hostname", "#cloud-config\nhostname: other\n"),
        (
            "users",
            "#cloud-config\nusers: [{name: dev, shell: /bin/false}]\n",
        ),
        ("no-header", "packages: [jq]\n"),
    ] {
        fs::write(environment.project().join(name), content).unwrap();
        let output = environment.run(["--dry-run", "--cloud-init", name]);
        let answer = match output.status {
            0 => format!("status: 0\n{}", output.stderr),
            _ => output.to_string(),
        };
        let line = format!("sandbox --dry-run --cloud-init {name}");
        session.add_text(&line, &format!("{}\n{answer}", content.trim_end()));
    }
    fs::write(
        environment.project().join("huge"),
        format!("#cloud-config\nx: {}\n", "y".repeat(20 << 20)),
    )
    .unwrap();
    fs::write(environment.project().join("bytes"), [0xff, 0xfe]).unwrap();
    session.run(&environment, "--dry-run --cloud-init huge");
    session.run(&environment, "--dry-run --cloud-init bytes");
    session.run(&environment, "--dry-run --cloud-init missing");
    session.run(&environment, "--dry-run --cloud-init /tmp");
    session.assert_snapshot("cloud_config_with_invalid_content_is_reported");
}

#[test]
fn impossible_share_is_refused() {
    let environment = with_qemu("10.0.2");
    fs::write(environment.project().join("file"), "").unwrap();
    let mut session = Session::new();
    for share in [
        "/nowhere:/data",
        "file:/data",
        "/:/data",
        "~:/data",
        "/tmp:/home/dev/workspace",
    ] {
        session.run(&environment, &format!("--dry-run --share {share}"));
    }
    session.run(
        &environment,
        "--dry-run --share /usr:/data --share /bin:/data",
    );
    session.assert_snapshot("impossible_share_is_refused");
}

#[test]
fn dry_run_with_unknown_image_is_refused() {
    let environment = with_qemu("10.0.2");
    let mut session = Session::new();
    session.run(&environment, "--dry-run --image nope");
    session.assert_snapshot("dry_run_with_unknown_image_is_refused");
}

#[test]
fn dry_run_changes_no_file() {
    // `auto` also probes the acceleration of this host.
    let environment = with_qemu("10.0.2").variable("SANDBOX_ACCEL", "auto");
    fs::create_dir_all(environment.home().join(".ssh/config.d")).unwrap();
    let before = listing(environment.root());
    plan(&environment, "");
    assert_eq!(listing(environment.root()), before);
}

#[test]
fn accelerator_choice_follows_kvm_availability() {
    let environment = with_qemu("10.0.2");
    let doctor = environment.run(["doctor", "--json"]).stdout;
    let findings: serde_json::Value = serde_json::from_str(&doctor).unwrap();
    let finding = findings
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["check"] == "kvm")
        .unwrap();
    let required = environment.run(["--dry-run", "--accel", "kvm"]);
    let chosen = environment.run(["--dry-run", "--accel", "auto"]).success();
    if finding["outcome"] == "ok" {
        assert!(required.success().stdout.contains("-accel kvm"));
        assert!(chosen.stdout.contains("-accel kvm"));
        assert!(!chosen.stderr.contains("emulation"), "{}", chosen.stderr);
    } else {
        assert_eq!(required.status, 125, "{required}");
        assert!(required.stderr.starts_with("error: could not use KVM: "));
        assert!(required.stderr.contains("hint: "), "{required}");
        assert!(required.stderr.contains("`--accel tcg`"), "{required}");
        assert_eq!(required.stdout, "");
        assert!(chosen.stdout.contains("-accel 'tcg,"), "{chosen}");
        let warning = chosen.stderr.lines().next().unwrap();
        let expected = "warning: the VM runs in software emulation, many times slower: ";
        assert!(warning.starts_with(expected), "{warning}");
    }
}

#[test]
fn sockets_with_long_home_move_to_runtime_directory() {
    let environment = with_qemu("10.0.2");
    let long = environment.home().join("long".repeat(25));
    let environment = environment.variable("SANDBOX_HOME", &long);
    let text = plan(&environment, "");
    let sockets: Vec<&str> = text
        .split(['\'', ',', ' ', '\n'])
        .filter_map(|word| word.strip_prefix("path="))
        .filter(|path| path.ends_with(".sock"))
        .collect();
    assert_eq!(sockets.len(), 4, "{text}");
    for socket in sockets {
        assert!(
            Path::new(socket).starts_with(environment.runtime()),
            "{socket}"
        );
        assert!(socket.len() <= 107, "{socket}");
    }
    assert!(text.contains(&format!("file.filename={}", long.display())));
}

#[test]
fn workspace_with_special_characters_is_quoted_in_plan() {
    let environment = with_qemu("10.0.2");
    let workspace = environment.root().join("a,b 'c' $(d) =e");
    fs::create_dir(&workspace).unwrap();
    let output = sandbox_test_support::Output::of(
        environment.command(["--dry-run"]).current_dir(&workspace),
    )
    .success();
    let (_, command_line) = output.stdout.split_once("\n\n").unwrap();
    let words = shell_words::split(&command_line.replace("\\\n", "")).unwrap();
    // QEMU doubles a comma in a value.
    let expected = format!(
        "path={}",
        workspace.display().to_string().replace(',', ",,")
    );
    assert!(
        words.iter().any(|word| word.contains(&expected)),
        "{words:?}"
    );
    assert!(
        output
            .stdout
            .contains("sandbox    sandbox-a_b__c____d___e\n"),
        "{output}"
    );
}

fn configuration(environment: &TestEnvironment) -> PathBuf {
    environment.home().join(".config/sandbox/config.toml")
}

fn write_configuration(environment: &TestEnvironment, content: &str) {
    let path = configuration(environment);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Returns the plan with the root directory of its environment replaced.
fn without_root(plan: &str) -> String {
    let (start, _) = plan.split_once("/tmp/sandbox-test-").unwrap();
    let begin = start.len();
    let root = &plan[begin..begin + "/tmp/sandbox-test-XXXXXX".len()];
    plan.replace(root, "[ROOT]")
}

/// Returns every path below a directory, with its content.
fn listing(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(listing(&path));
            all.insert(path, Vec::new());
        } else {
            let content = fs::read(&path).unwrap();
            all.insert(path, content);
        }
    }
    all
}
