//! A full host disk during a start, a run, or a build.

use std::fs;

use sandbox_test_support::Output;

use crate::harness::{Host, Running};

/// Runs a script with `sandbox` as `$0` and `SANDBOX_HOME` on a private tmpfs. The tmpfs
/// ends with the script's mount namespace.
fn on_small_disk(host: &Host, megabytes: u32, script: &str) -> Output {
    let images = fs::read_link(host.images()).unwrap();
    let prepared = format!(
        "set -eu\n\
         mount -t tmpfs -o size={megabytes}m,mode=700 none \"$SANDBOX_HOME\"\n\
         ln -s '{}' \"$SANDBOX_HOME/kvm-cache\"\n\
         {script}",
        images.display()
    );
    let mut command = host.other_program("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--mount", "sh", "-c", &prepared])
        .arg(host.program())
        .env("SANDBOX_HOME", host.state());
    Running::start(&mut command).finish()
}

#[test]
fn start_on_full_disk_reports_no_space() {
    let host = Host::cold();
    let script =
        "status=0; \"$0\" --kvm || status=$?; ls -A \"$SANDBOX_HOME/kvm-vms\"; exit $status";
    let output = on_small_disk(&host, 2, script);
    output.assert_failure(125, &["No space left on device", "hint: the disk is full"]);
    assert_eq!(output.stdout, "", "{output}");
    host.assert_nothing_left();
}

#[test]
fn running_sandbox_on_full_disk_ends_with_error() {
    let host = Host::cold();
    let script = "\"$0\" --kvm
        status=0
        \"$0\" exec -- sh -c 'head -c 200M /dev/urandom > ~/large; sync; echo written' || status=$?
        ls -A \"$SANDBOX_HOME/kvm-vms\"
        exit $status";
    let output = on_small_disk(&host, 96, script);
    output.assert_failure(125, &["the host's disk is full", "hint:"]);
    assert_eq!(output.stdout, "", "{output}");
    host.assert_nothing_left();
}

#[test]
fn image_build_on_full_disk_reports_no_space() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: an image build on a small disk needs root");
        return;
    }
    let host = Host::cold();
    let list_leftovers = "find \"$SANDBOX_HOME/kvm-cache\" -path '*/staging/*' -o -path '*/blobs/*/*' \
                -o -path '*/images/*'; exit $status";
    let too_small = format!(
        "rm \"$SANDBOX_HOME/kvm-cache\"; status=0
         \"$0\" image build debian-13-minimal || status=$?; {list_leftovers}"
    );
    // Large enough at first, full when the build stores the new system.
    let fills_up = format!(
        "rm \"$SANDBOX_HOME/kvm-cache\"; status=0
         \"$0\" image build debian-13-minimal 2> \"$HOME/log\" &
         until grep -q 'installing packages' \"$HOME/log\"; do sleep 0.2; done
         mount -o remount,size=8m \"$SANDBOX_HOME\"
         wait $! || status=$?; cat \"$HOME/log\" >&2; {list_leftovers}"
    );
    for (megabytes, script) in [(64, too_small), (1100, fills_up)] {
        let output = on_small_disk(&host, megabytes, &script);
        output.assert_failure(1, &["error: the disk is full", "hint: free at least"]);
        assert_eq!(output.stdout, "", "{output}");
        host.assert_nothing_left();
    }
}

#[test]
fn template_build_on_full_disk_ends_with_error() {
    let host = Host::cold();
    let images = fs::read_link(host.images()).unwrap();
    let own_store = format!(
        "rm \"$SANDBOX_HOME/kvm-cache\"; mkdir \"$SANDBOX_HOME/kvm-cache\"
         for part in blobs images; do ln -s '{}'/$part \"$SANDBOX_HOME/kvm-cache/$part\"; done
         status=0",
        images.display()
    );
    let list_leftovers = "find \"$SANDBOX_HOME\" -name ram -o -name '.partial-*'; exit $status";
    let too_small = format!("{own_store}\n\"$0\" template build || status=$?; {list_leftovers}");
    let output = on_small_disk(&host, 64, &too_small);
    output.assert_failure(1, &["hint:"]);
    assert_eq!(output.stdout, "", "{output}");

    // Large enough at first, full while the guest boots.
    let fills_up = format!(
        "{own_store}
         \"$0\" template build --memory 512M 2> \"$HOME/log\" &
         until [ -s \"$SANDBOX_HOME\"/building/*/console.log ]; do sleep 0.1; done
         qemu=$(cat \"$SANDBOX_HOME\"/building/*/qemu.pid); kill -STOP $qemu
         cat /dev/zero > \"$SANDBOX_HOME/filler\" 2> \"$HOME/full\" || kill -CONT $qemu
         wait $! || status=$?; cat \"$HOME/log\" >&2; rm \"$HOME/log\"; {list_leftovers}"
    );
    let output = on_small_disk(&host, 1700, &fills_up);
    let error =
        "error: could not save the guest for the template\n  caused by: the host's disk is full";
    output.assert_failure(1, &[error]);
    assert_eq!(output.stdout, "", "{output}");
    host.assert_nothing_left();
}
