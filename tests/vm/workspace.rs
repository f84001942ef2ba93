//! The project's files on the host and in the guest.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use sha2::{Digest, Sha256};

use crate::harness::{Check, Host, run_checks};

const CHECKS: &[Check] = &[
    (
        "files of the guest belong to the user on the host",
        guest_to_host,
    ),
    (
        "files of the host belong to `dev` in the guest",
        host_to_guest,
    ),
    (
        "the guest sees a change on the host at the next open",
        changes_are_seen,
    ),
    ("a file that changes often is never read stale", never_stale),
    (
        "execute bits and links work in the guest",
        execute_bits_and_links,
    ),
    ("file names may contain any byte", odd_names),
    ("large files are equal on both sides", large_files),
    ("many files can be created, renamed and removed", many_files),
    (
        "a file can be locked, mapped, linked and replaced",
        file_operations,
    ),
    (
        "a read-only share refuses all writes of the guest",
        read_only_share,
    ),
    ("a writable share is writable", writable_share),
];

#[test]
fn workspace_files_match_on_host_and_in_guest() {
    let host = Host::with_project("my project, v1.0");
    let shares = host.root().join("shares");
    for share in ["read,only", "writable"] {
        fs::create_dir_all(shares.join(share)).unwrap();
        fs::write(shares.join(share).join("from-host"), "from the host\n").unwrap();
    }
    let read_only = format!("{}:/mnt/read only:ro", shares.join("read,only").display());
    let writable = format!("{}:/mnt/writable", shares.join("writable").display());
    host.start(&["--share", &read_only, "--share", &writable]);
    run_checks(&host, CHECKS);
    host.stop();
}

#[test]
fn passthrough_share_makes_real_links_and_modes_on_host() {
    let host = Host::new();
    host.start(&["--share-mode", "passthrough"]);
    host.guest(
        "echo '#!/bin/sh' > tool; chmod 755 tool; ln -s tool link; ln tool second; \
         mkdir private; chmod 700 private; mkfifo pipe; test \"$(readlink link)\" = tool",
    );
    let project = host.project();
    assert_eq!(
        fs::read_link(project.join("link")).unwrap().as_os_str(),
        "tool"
    );
    let tool = fs::metadata(project.join("tool")).unwrap();
    assert_eq!((tool.mode() & 0o7777, tool.nlink()), (0o755, 2));
    assert_eq!(tool.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(
        fs::metadata(project.join("private")).unwrap().mode() & 0o7777,
        0o700
    );
    host.stop();
}

fn guest_to_host(host: &Host) {
    host.guest(
        "echo text > made; chmod 640 made; mkdir -p dir/sub; echo deep > dir/sub/file; chmod 600 dir/sub/file",
    );
    let own = rustix::process::geteuid().as_raw();
    for (path, expected) in [
        ("made", 0o644),
        ("dir", 0o755),
        ("dir/sub", 0o755),
        ("dir/sub/file", 0o644),
    ] {
        let status = fs::metadata(host.project().join(path)).unwrap();
        assert_eq!(
            (status.uid(), status.mode() & 0o7777),
            (own, expected),
            "{path}"
        );
    }
    assert_eq!(
        fs::read_to_string(host.project().join("made")).unwrap(),
        "text\n"
    );
    // The guest still sees the modes that it set.
    assert_eq!(
        host.guest("stat -c '%U:%G %a' made dir/sub/file"),
        "dev:dev 640\ndev:dev 600"
    );
    // The host's user may remove files of the guest.
    fs::remove_dir_all(host.project().join("dir")).unwrap();
    assert_eq!(
        host.guest("test -e dir && echo still there || echo gone"),
        "gone"
    );
}

fn host_to_guest(host: &Host) {
    let project = host.project();
    fs::create_dir(project.join("from-host")).unwrap();
    for (name, mode) in [("plain", 0o644), ("tool", 0o755), ("secret", 0o600)] {
        let path = project.join("from-host").join(name);
        fs::write(&path, "#!/bin/sh\necho ran\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    assert_eq!(
        host.guest("cd from-host; stat -c '%U:%G %a %n' plain secret tool; ./tool"),
        "dev:dev 644 plain\ndev:dev 600 secret\ndev:dev 755 tool\nran"
    );
    host.guest("cd from-host; echo more >> plain; rm secret; mv tool renamed");
    assert!(
        fs::read_to_string(project.join("from-host/plain"))
            .unwrap()
            .ends_with("ran\nmore\n")
    );
    assert!(!project.join("from-host/secret").exists());
    assert!(project.join("from-host/renamed").exists());
}

fn changes_are_seen(host: &Host) {
    let path = host.project().join("changing");
    let seen = || host.guest("cat changing 2>/dev/null || echo absent");
    fs::write(&path, "first!").unwrap();
    assert_eq!(seen(), "first!");
    fs::write(&path, "second").unwrap();
    assert_eq!(seen(), "second", "overwritten by the same length");
    fs::File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b" and more")
        .unwrap();
    assert_eq!(seen(), "second and more", "appended");
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(3)
        .unwrap();
    assert_eq!(seen(), "sec", "truncated");
    let other = host.project().join("other");
    fs::write(&other, "renamed").unwrap();
    fs::rename(&other, &path).unwrap();
    assert_eq!(seen(), "renamed", "renamed over");
    fs::remove_file(&path).unwrap();
    assert_eq!(seen(), "absent", "deleted");
    fs::write(&path, "back").unwrap();
    assert_eq!(seen(), "back", "created again");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), "").unwrap();
    assert_eq!(host.guest("ls changing"), "inside", "a directory now");
}

/// The host writes a version and asks the guest, which answers with the version that it
/// reads. A stale read would answer with an older version. The reader holds the file open,
/// so that the guest's kernel has a reason to cache it.
fn never_stale(host: &Host) {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let path = host.project().join("version");
    fs::write(&path, "000").unwrap();
    let mut command = host.command([
        "exec",
        "--",
        "sh",
        "-c",
        "exec 3< version; while read -r asked; do cat version; echo; done",
    ]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ask = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for version in 1..=60 {
        let text = format!("{version:03}");
        if version % 3 == 0 {
            let new = host.project().join("version.new");
            fs::write(&new, &text).unwrap();
            fs::rename(&new, &path).unwrap();
        } else {
            // Same length, and perhaps within the same clock tick.
            fs::write(&path, &text).unwrap();
        }
        writeln!(ask, "read").unwrap();
        assert_eq!(answers.next().unwrap().unwrap(), text);
    }
    drop(ask);
    assert!(child.wait().unwrap().success());
}

fn execute_bits_and_links(host: &Host) {
    assert_eq!(
        host.guest(
            "mkdir links; cd links; printf '#!/bin/sh\\necho ran\\n' > tool; chmod +x tool; ./tool; \
             ln -s tool link; ./link; readlink link; ln -s /nowhere dangling; readlink dangling; \
             test -L dangling; test ! -e dangling; rm dangling; ls"
        ),
        "ran\nran\ntool\n/nowhere\nlink\ntool"
    );
    // The documented limits of mapped shares: no real links on the host.
    let link = fs::symlink_metadata(host.project().join("links/link")).unwrap();
    assert!(link.is_file());
    std::os::unix::fs::symlink("tool", host.project().join("links/from-host")).unwrap();
    let followed = host.exec(&["cat", "links/from-host"]);
    assert_ne!(followed.status, 0, "{followed}");
}

fn odd_names(host: &Host) {
    let names: [&[u8]; 7] = [
        b"with space",
        b"new\nline",
        b"-dash",
        b"a,b=c:d",
        b"gr\xc3\xb6\xc3\x9fe",
        b"latin1-\xe9",
        b"quote'\"`$*",
    ];
    let directory = host.project().join("odd");
    fs::create_dir(&directory).unwrap();
    for name in names {
        fs::write(directory.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    // Each file holds its own name.
    assert_eq!(
        host.guest(
            r#"cd odd; count=0; for file in ./*; do test "$(cat "$file"; echo x)" = "${file#./}x"
               cp "$file" "$file+"; count=$((count + 1)); done; echo $count"#
        ),
        "7"
    );
    for name in names {
        let copy = [name, b"+"].concat();
        assert_eq!(
            fs::read(directory.join(std::ffi::OsStr::from_bytes(&copy))).unwrap(),
            name
        );
    }
}

fn large_files(host: &Host) {
    let hash = |bytes: &[u8]| -> String {
        Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let down: Vec<u8> = (0..8u32 << 18)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    fs::write(host.project().join("down"), &down).unwrap();
    assert_eq!(host.guest("sha256sum < down | cut -d' ' -f1"), hash(&down));
    let guest_hash = host
        .guest("head -c 8M /dev/urandom > up; truncate -s 10M up; sha256sum < up | cut -d' ' -f1");
    let up = fs::read(host.project().join("up")).unwrap();
    assert_eq!((up.len(), hash(&up)), (10 << 20, guest_hash));
}

fn many_files(host: &Host) {
    assert_eq!(
        host.guest(
            "mkdir many; cd many; for number in $(seq 200); do echo $number > f$number; done; \
             mv f1 renamed; rm f2; ls | wc -l; cat f200"
        ),
        "199\n200"
    );
    let directory = host.project().join("many");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 199);
    assert_eq!(
        fs::read_to_string(directory.join("renamed")).unwrap(),
        "1\n"
    );
    host.guest("rm -r many");
    assert!(!directory.exists());
}

fn file_operations(host: &Host) {
    let script = r#"
import fcntl, mmap, os, sqlite3, tempfile
with open("operations", "w+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    file.truncate(8192)
    os.fsync(file.fileno())
    mapped = mmap.mmap(file.fileno(), 8192, mmap.MAP_PRIVATE)
    assert mapped[:4] == bytes(4)
with open("operations", "ab") as file:
    file.write(b"end")
os.utime("operations", (1, 1_000_000_000))
assert os.stat("operations").st_mtime == 1_000_000_000
assert os.stat("operations").st_size == 8195

# The same calls as git, which stores an object and replaces its index.
object = os.open("object.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
os.write(object, b"object")
os.close(object)
os.link("object.new", "object")
os.unlink("object.new")
assert open("object", "rb").read() == b"object"
assert os.stat("object").st_mode & 0o777 == 0o444
os.close(os.open("index.lock", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
try:
    os.open("index.lock", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    raise AssertionError("a lock was taken twice")
except FileExistsError:
    os.rename("index.lock", "index")

database = sqlite3.connect("database")
database.execute("create table t (x)")
database.execute("insert into t values (42)")
database.commit()
print(database.execute("select x from t").fetchone()[0])
"#;
    assert_eq!(
        host.exec(&["python3", "-c", script]).success().stdout,
        "42\n"
    );
    let status = fs::metadata(host.project().join("operations")).unwrap();
    assert_eq!((status.mtime(), status.len()), (1_000_000_000, 8195));
}

fn read_only_share(host: &Host) {
    assert_eq!(
        host.guest("cat '/mnt/read only/from-host'"),
        "from the host"
    );
    let output = host.exec(&["sh", "-c", "sudo touch '/mnt/read only/made'"]);
    assert_ne!(output.status, 0, "{output}");
    assert!(output.stderr.contains("Read-only file system"), "{output}");
    // A remount in the guest does not make the share writable.
    let remounted = host.exec(&[
        "sh",
        "-c",
        "sudo mount -o remount,rw '/mnt/read only' && sudo touch '/mnt/read only/made'",
    ]);
    assert_ne!(remounted.status, 0, "{remounted}");
    let names = fs::read_dir(host.root().join("shares/read,only")).unwrap();
    assert_eq!(names.count(), 1);
}

fn writable_share(host: &Host) {
    host.guest("cat /mnt/writable/from-host > /mnt/writable/copy");
    let copy = host.root().join("shares/writable/copy");
    assert_eq!(fs::read_to_string(copy).unwrap(), "from the host\n");
}
