//! KVM, as users with hardware have it. The tests run in an emulated machine whose
//! processor has SVM, so KVM works there. Its times mean nothing, its behaviour does.

use std::path::Path;
use std::time::Duration;

use sandbox_test_support::{BedDisk, KvmBed, Output, RunCommands};

use crate::PROGRAM;
use crate::harness::{Check, Host, IMAGE, eventually_or_report, image_store, run_checks};

type Bed = KvmBed<Host>;

/// How long a command in the bed may take. A template takes two minutes there on an idle host.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

impl RunCommands for Host {
    fn run_command(&self, words: &[&str]) -> Output {
        self.spawn(words).finish_within(PATIENCE)
    }
}

/// In this order: a check may use what an earlier one has left, such as the template.
const CHECKS: &[Check<Bed>] = &[
    ("closed /dev/kvm is reported with its fix", closed_device),
    ("an access list opens /dev/kvm", access_list),
    ("the group opens /dev/kvm", group),
    (
        "a cached verdict does not hide a closed /dev/kvm",
        cached_verdict,
    ),
    ("--accel decides", accelerators),
    ("a cold start runs on KVM", cold_start),
    ("KVM cannot be nested once more", not_nested),
    ("a template is built and restored", template),
    ("another processor ignores the template", other_processor),
    ("exec carries streams, status and terminal", sessions),
    ("the workspace is one directory on both sides", workspace),
    ("memory that the guest frees goes back", memory),
    ("a killed supervisor ends QEMU", killed_supervisor),
    ("the guest can power itself off", poweroff),
    ("the allowlist holds, and a secret stays outside", allowlist),
    ("KVM that vanishes during a start is reported", vanished),
    ("too little memory is reported", too_little_memory),
    ("an internal error of KVM is reported", internal_error),
];

#[test]
fn kvm_runs_sandboxes_in_an_emulated_host() {
    let store = image_store();
    let disk = BedDisk {
        program: Path::new(PROGRAM),
        store,
        image: IMAGE,
        cache: store.parent().unwrap(),
    };
    let host = Host::with_environment(|environment| environment.with_bed_disk(&disk));
    let bed = Bed::start(host);
    run_checks(&bed, CHECKS);
    bed.environment().stop();
}

#[track_caller]
fn assert_nothing_left(bed: &Bed) {
    eventually_or_report("the end of the sandboxes in the bed", || {
        let left = bed.leftovers();
        left.is_empty().then_some(()).ok_or(left)
    });
}

/// Opens `/dev/kvm` to its group only, as udev does.
const CLOSED: &str = "setfacl --remove-all /dev/kvm; chown root:kvm /dev/kvm; chmod 0660 /dev/kvm";

fn closed_device(bed: &Bed) {
    bed.root(CLOSED);
    let doctor = bed.plain("sandbox doctor || true").success();
    for text in [
        "you may not open `/dev/kvm` (owner `root`, group `kvm`, mode 0660)",
        "sudo usermod -aG kvm $USER",
    ] {
        assert!(doctor.stdout.contains(text), "{doctor}");
    }
    let plan = bed.plain("sandbox --kvm --dry-run").success();
    assert!(plan.stdout.contains(", tcg"), "{plan}");
    assert!(plan.stderr.contains("runs in software emulation"), "{plan}");
    let refused = bed.plain("sandbox run --accel kvm -- true");
    refused.assert_failure(
        125,
        &["could not use KVM", "usermod -aG kvm", "--accel tcg"],
    );
    // A user of the group needs nothing.
    let doctor = bed.user("member", "SANDBOX_HOME=~/state sandbox doctor || true");
    assert!(
        doctor.stdout.contains("runs guest code in hardware"),
        "{doctor}"
    );
}

fn access_list(bed: &Bed) {
    bed.root("setfacl --modify u:plain:rw /dev/kvm");
    let doctor = bed.ok("sandbox doctor || true");
    assert!(doctor.contains("runs guest code in hardware"), "{doctor}");
}

fn group(bed: &Bed) {
    bed.root(&format!("{CLOSED}; usermod --append --groups kvm plain"));
    let doctor = bed.ok("sandbox doctor || true");
    assert!(doctor.contains("runs guest code in hardware"), "{doctor}");
    // A login from before has the old groups.
    let doctor = bed.root(
        "setpriv --reuid plain --regid plain --clear-groups env HOME=/home/plain \
         SANDBOX_HOME=/bed/home /bed/sandbox doctor || true",
    );
    assert!(doctor.contains("log in again"), "{doctor}");
}

fn cached_verdict(bed: &Bed) {
    let plan = |expected: &str| {
        let plan = bed.ok("sandbox --kvm --dry-run");
        assert!(plan.contains(expected), "{plan}");
    };
    // A look-up caches nothing. `true` fails in a start without an image, after the probe.
    bed.plain("sandbox run --image absent -- true");
    assert_eq!(
        bed.root("ls /bed/home/kvm-verdict.json"),
        "/bed/home/kvm-verdict.json"
    );
    plan(", kvm");
    bed.root("chmod 0600 /dev/kvm");
    plan(", tcg");
    bed.root(CLOSED);
    plan(", kvm");
}

fn accelerators(bed: &Bed) {
    for (choice, expected) in [("kvm", ", kvm"), ("auto", ", kvm"), ("tcg", ", tcg")] {
        let plan = bed.ok(&format!("sandbox --kvm --dry-run --accel {choice}"));
        assert!(plan.contains(expected), "{choice}: {plan}");
    }
}

fn cold_start(bed: &Bed) {
    let seen = bed.ok("sandbox run --cold --accel kvm -- \
         sh -c 'systemd-detect-virt; grep -c -w svm /proc/cpuinfo; ls /dev/kvm 2>&1' || true");
    assert_eq!(
        seen,
        "kvm\n0\nls: cannot access '/dev/kvm': No such file or directory"
    );
    assert_nothing_left(bed);
}

fn not_nested(bed: &Bed) {
    let refused = bed.plain("sandbox run --nested-virtualization -- true");
    refused.assert_failure(
        125,
        &["nested virtualization is off", "modprobe kvm_amd nested=1"],
    );
    let doctor = bed.ok("sandbox doctor || true");
    assert!(doctor.contains("does not allow it inside a VM"), "{doctor}");
}

fn template(bed: &Bed) {
    bed.ok("sandbox template build");
    bed.ok("sandbox --kvm --quiet < /dev/null");
    let record = bed.record();
    assert!(record["template"].is_string(), "{record}");
    assert_eq!(record["accelerator"], "kvm");
    assert_eq!(record["nested_virtualization"], false);
    bed.ok("grep 'mapped the working set' /bed/home/kvm-vms/sandbox-project/supervisor.log");
    bed.ok("sandbox stop --quiet");
    damaged_working_set(bed);
}

/// A start does without a working set that it cannot use. The sandbox runs afterwards.
fn damaged_working_set(bed: &Bed) {
    bed.ok(
        "file=$(ls /bed/home/kvm-cache/templates/*/working-set.json)\n\
         mv $file intact.json\n\
         echo '{\"read\":[[0,99999999]],\"written\":[]}' > $file\n\
         sandbox --kvm --quiet < /dev/null\n\
         mv intact.json $file",
    );
    let record = bed.record();
    assert!(record["template"].is_string(), "{record}");
    let log = bed.ok("cat /bed/home/kvm-vms/sandbox-project/supervisor.log");
    for text in ["could not map the working set", "page number is too large"] {
        assert!(log.contains(text), "{log}");
    }
}

fn other_processor(bed: &Bed) {
    let uses_template = || {
        let plan = bed.ok("sandbox --kvm --dry-run --name another");
        plan.contains("\ntemplate ")
    };
    assert!(uses_template());
    bed.root(
        "sed 's/ avx2 / /' /proc/cpuinfo > /run/cpuinfo; mount --bind /run/cpuinfo /proc/cpuinfo",
    );
    assert!(!uses_template());
    bed.root("umount /proc/cpuinfo");
    assert!(uses_template());
}

fn sessions(bed: &Bed) {
    let output =
        bed.plain("printf 'in\\n' | sandbox exec -- sh -c 'cat; echo error >&2; id -un; exit 7'");
    assert_eq!(
        (output.status, output.stdout.as_str()),
        (7, "in\ndev\n"),
        "{output}"
    );
    assert!(output.stderr.contains("error"), "{output}");
    let seen = bed.ok(
        "script --quiet --command 'stty rows 31 cols 97; sandbox exec -t -- stty size' /dev/null",
    );
    // script(1) may echo the end of its own input after it.
    assert!(seen.contains("31 97"), "{seen:?}");
}

fn workspace(bed: &Bed) {
    let seen = bed.ok("echo host > from-host\n\
         sandbox exec -- sh -c 'cat from-host; echo guest > from-guest; chmod +x from-guest'\n\
         cat from-guest\n\
         mv from-host moved\n\
         sandbox exec -- cat moved");
    assert_eq!(seen, "host\nguest\nhost");
}

fn memory(bed: &Bed) {
    let pid = &bed.record()["qemu"]["pid"];
    // In MiB.
    let resident = || -> u64 {
        let status = bed.root(&format!("cat /proc/{pid}/status"));
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.unwrap().parse::<u64>().unwrap() / 1024
    };
    let wait_for = |what: &str, reached: &dyn Fn(u64) -> bool| {
        let mut reached_at = 0;
        eventually_or_report(what, || {
            reached_at = resident();
            reached(reached_at).then_some(()).ok_or(reached_at)
        });
        reached_at
    };
    let before = resident();
    bed.ok("sandbox exec -- sudo systemd-run --quiet --unit=hog \
         python3 -c 'x = b\"x\" * (500 << 20); import time; time.sleep(1000)'");
    let peak = wait_for("the memory to be taken", &|now| now > before + 300);
    bed.ok("sandbox exec -- sudo systemctl stop hog");
    wait_for("the memory to go back", &|now| now + 150 < peak);
}

fn killed_supervisor(bed: &Bed) {
    let supervisor = &bed.record()["supervisor"]["pid"];
    bed.root(&format!("kill -KILL {supervisor}"));
    let gone = bed.plain("sandbox exec -- true");
    gone.assert_failure(125, &["sandbox-project"]);
    bed.ok("sandbox stop --quiet");
    assert_nothing_left(bed);
}

fn poweroff(bed: &Bed) {
    let output = bed.plain("sandbox run -- sh -c 'sudo systemctl poweroff; sleep 1000'");
    output.assert_failure(125, &["powered itself off"]);
    assert_nothing_left(bed);
}

/// Prints whether the server knows the token. The gateway hides a secret that a server
/// echoes.
const FETCH: &str = r#"
import os, sys, urllib.request
request = urllib.request.Request("https://%s.test/" % sys.argv[1])
request.add_header("Authorization", os.environ["TOKEN"])
print(urllib.request.urlopen(request).read().decode())
"#;

fn allowlist(bed: &Bed) {
    bed.ok("sandbox proxy allow allowed.test");
    let script = format!(
        "cat > fetch.py << 'END'{FETCH}END\n\
         TOKEN=the-real-value sandbox --kvm --quiet --proxy --secret TOKEN@allowed.test < /dev/null\n\
         sandbox exec -- printenv TOKEN\n\
         sandbox exec -- python3 fetch.py allowed\n\
         sandbox exec -- python3 fetch.py denied 2>&1 || echo failed"
    );
    let seen = bed.ok(&script);
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines[0].starts_with("sandbox-secret-TOKEN-"), "{seen}");
    assert_eq!(lines[1], "known", "{seen}");
    assert_eq!(lines.last(), Some(&"failed"), "{seen}");
    assert!(seen.contains("403"), "{seen}");
    bed.ok("sandbox stop --quiet");
    assert_nothing_left(bed);
}

/// A QEMU that waits before it starts a machine. Questions for its version are answered.
const WAITING_QEMU: &str = r#"#!/bin/sh
case "$*" in *-pidfile*)
    echo > /tmp/at-start
    while [ ! -e /tmp/go ]; do sleep 0.1; done;;
esac
exec qemu-system-x86_64 "$@"
"#;

fn vanished(bed: &Bed) {
    bed.root(&format!(
        "cat > /bed/waiting-qemu << 'END'\n{WAITING_QEMU}END\nchmod a+x /bed/waiting-qemu"
    ));
    let output = std::thread::scope(|scope| {
        let start = scope.spawn(|| bed.plain("SANDBOX_QEMU=/bed/waiting-qemu sandbox run -- true"));
        bed.root(
            "for attempt in $(seq 600); do [ -e /tmp/at-start ] && break; sleep 0.1; done\n\
             modprobe --remove kvm_amd; echo > /tmp/go",
        );
        start.join().unwrap()
    });
    bed.root("modprobe kvm_amd; udevadm settle; rm /tmp/at-start /tmp/go");
    output.assert_failure(
        125,
        &["could not use KVM", "modprobe kvm_amd", "--accel tcg"],
    );
    assert_nothing_left(bed);
    // The template is not to blame.
    let plan = bed.ok("sandbox --kvm --dry-run");
    assert!(plan.contains("\ntemplate "), "{plan}");
}

fn too_little_memory(bed: &Bed) {
    // The kernel then refuses memory that it does not have, and does not kill for it later.
    let before =
        bed.root("cat /proc/sys/vm/overcommit_memory; echo 2 > /proc/sys/vm/overcommit_memory");
    let output = bed.plain("sandbox run --memory 5G -- true");
    bed.root(&format!("echo {before} > /proc/sys/vm/overcommit_memory"));
    output.assert_failure(125, &["Cannot allocate memory", "--memory"]);
    assert_nothing_left(bed);
}

/// Writes a kernel that jumps into the registers of the I/O APIC. KVM cannot execute code
/// there. The file is ELF with a note for PVH (QEMU `hw/i386/x86-common.c`).
const BROKEN_KERNEL: &str = r#"
import struct
address = 0x100000
code = bytes.fromhex("b80000c0feffe0")  # mov eax, 0xfec00000; jmp eax
note = struct.pack("<III4sQ", 4, 8, 18, b"Xen\0", address)
header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, address, 64, 0, 0, 64, 56, 2, 0, 0, 0)
load = struct.pack("<IIQQQQQQ", 1, 7, 0x1000, address, address, len(code), len(code), 0x1000)
notes = struct.pack("<IIQQQQQQ", 4, 4, 0x2000, 0, 0, len(note), len(note), 4)
file = bytearray(0x2000 + len(note))
file[0:64], file[64:120], file[120:176] = header, load, notes
file[0x1000:0x1000 + len(code)], file[0x2000:] = code, note
open("/bed/broken-kernel", "wb").write(file)
"#;

fn internal_error(bed: &Bed) {
    bed.root(&format!("python3 - << 'END'{BROKEN_KERNEL}END\n"));
    bed.root(
        "cat > /bed/broken-qemu << 'END'\n\
         #!/bin/bash\n\
         echo boot >> /tmp/boots\n\
         words=()\n\
         while [ $# -gt 0 ]; do\n\
             words+=(\"$1\")\n\
             if [ \"$1\" = -kernel ]; then words+=(/bed/broken-kernel); shift; fi\n\
             shift\n\
         done\n\
         exec qemu-system-x86_64 \"${words[@]}\"\n\
         END\n\
         chmod a+x /bed/broken-qemu; rm -f /tmp/boots",
    );
    let output = bed.plain("SANDBOX_QEMU=/bed/broken-qemu sandbox run --cold -- true");
    output.assert_failure(
        125,
        &[
            "internal error",
            "starting it again",
            "| KVM internal error",
        ],
    );
    // The program's search for QEMU's version and features runs it, too.
    let boots = bed.root("cat /tmp/boots");
    assert!(boots.lines().count() >= 2, "{boots}");
    assert_nothing_left(bed);
}
