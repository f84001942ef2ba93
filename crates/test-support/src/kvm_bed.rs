//! The bed: a sandbox with `--nested-virtualization` that is itself a host with KVM.

mod disk;

use serde_json::Value;

pub use self::disk::BedDisk;
use crate::{Output, TestEnvironment};

/// The variables of a login in the bed, as words for env(1).
const VARIABLES: [&str; 9] = [
    "PATH=/bed:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "LANG=C.UTF-8",
    "SANDBOX_HOME=/bed/home",
    "SANDBOX_IMAGE=debian-13-minimal",
    "SANDBOX_CPUS=1",
    "SANDBOX_MEMORY=1G",
    "SANDBOX_TEMPLATES=manual",
    "SANDBOX_READY_TIMEOUT=25m",
    "SSL_CERT_FILE=/bed/server/authority",
];

/// Makes the guest a host: QEMU, two users, a network with a server.
///
/// `/usr` gets the files of the packages as a lower layer, since unpacking them in an
/// emulation takes minutes. udev may have loaded the module already, with
/// nesting.
const PREPARE: &str = r#"
mkdir /bed
mount /dev/vdb /bed
mount -t overlay -o lowerdir=/bed/packages/usr:/usr overlay /usr
# udev, which gives /dev/kvm its group, starts after readiness.
systemctl start systemd-udevd
echo 'options kvm_amd nested=0' > /etc/modprobe.d/kvm.conf
udevadm trigger --settle --subsystem-match=cpu
modprobe --remove kvm_amd
modprobe kvm_amd
udevadm settle
useradd --create-home plain
useradd --create-home --groups kvm member
chown -R plain: /bed/home

mkdir /bed/server
cd /bed/server
request() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 2 "$@" \
        2>> openssl.log
}
request -subj /CN=authority -keyout authority.key -out authority
request -subj /CN=allowed.test -addext subjectAltName=DNS:allowed.test,DNS:denied.test \
    -addext basicConstraints=critical,CA:FALSE -CA authority -CAkey authority.key \
    -keyout key -out certificate
chmod a+rx . && chmod a+r authority
cat > server.py << 'END'
import http.server, ssl
class Judge(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        known = self.headers.get("Authorization") == "the-real-value"
        self.wfile.write(b"known" if known else b"unknown")
server = http.server.ThreadingHTTPServer(("198.51.100.7", 443), Judge)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("certificate", "key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
END
ip netns add outside
ip link add inside type veth peer name outside netns outside
ip addr add 198.51.100.1/24 dev inside
ip link set inside up
ip -n outside addr add 198.51.100.7/24 dev outside
ip -n outside link set outside up
echo '198.51.100.7 allowed.test denied.test' >> /etc/hosts
systemd-run --quiet --unit=server --working-directory=/bed/server \
    ip netns exec outside python3 server.py
"#;

/// Changes the command line of a QEMU that boots a kernel: gives the machine the disk, and a
/// periodic timer. QEMU's SVM sometimes loses an interrupt of the timer. A kernel that sets the timer
/// once for each event then sleeps until another device interrupts, for minutes.
const BED_MACHINE: &str = r#"
case "$*" in *-kernel*)
    previous=
    for word; do
        shift
        if [ "$previous" = -append ]; then word="$word nohz=off highres=off"; fi
        set -- "$@" "$word"
        previous=$word
    done
    set -- "$@" -device virtio-blk-pci,drive=bed \
        -drive file=DISK,format=raw,if=none,id=bed,cache=unsafe ;;
esac
"#;

/// Runs commands of the program under test.
pub trait RunCommands {
    /// Runs `sandbox WORDS…` to its end.
    fn run_command(&self, words: &[&str]) -> Output;
}

impl RunCommands for TestEnvironment {
    fn run_command(&self, words: &[&str]) -> Output {
        self.run(words)
    }
}

impl TestEnvironment {
    /// Gives the machines that boot in this environment the disk of a [`KvmBed`].
    pub fn with_bed_disk(self, disk: &BedDisk<'_>) -> Self {
        let path = disk.create(self.root());
        self.qemu_after(&BED_MACHINE.replace("DISK", &path.display().to_string()))
    }
}

/// A host with KVM, in an emulated machine.
pub struct KvmBed<Environment> {
    environment: Environment,
}

impl<Environment: RunCommands> KvmBed<Environment> {
    /// Starts the bed, cold: a template would serve one start. `environment` comes from
    /// [`TestEnvironment::with_bed_disk`].
    pub fn start(environment: Environment) -> Self {
        // One processor is as fast for one guest at a time. With two, a guest in the bed
        // once faulted forever at an address outside of its memory, in 35 starts.
        let machine = ["--memory", "6G", "--cpus", "1", "--accel", "tcg"];
        let words = ["--kvm", "--cold", "--nested-virtualization"];
        let words = [&words[..], &machine].concat();
        environment.run_command(&words).success();
        let bed = Self { environment };
        bed.root(PREPARE);
        bed
    }

    /// Returns the environment in which the bed is a sandbox.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Runs a shell script as the bed's root, which must succeed. Returns its stdout
    /// without the last newline.
    #[track_caller]
    pub fn root(&self, script: &str) -> String {
        let words = ["exec", "--user", "root", "--", "sh", "-euc", script];
        let output = self.environment.run_command(&words).success();
        output.stdout.trim_end_matches('\n').to_owned()
    }

    /// Runs a shell script as the user `plain` in a new login, in the user's project.
    pub fn plain(&self, script: &str) -> Output {
        self.user("plain", script)
    }

    /// Like [`Self::plain`]; the script must succeed. Returns its stdout without the last
    /// newline.
    #[track_caller]
    pub fn ok(&self, script: &str) -> String {
        let output = self.plain(script).success();
        output.stdout.trim_end_matches('\n').to_owned()
    }

    /// Like [`Self::plain`], as another user.
    pub fn user(&self, user: &str, script: &str) -> Output {
        let home = format!("HOME=/home/{user}");
        let script = format!("mkdir -p ~/project; cd ~/project\n{script}");
        let login = ["exec", "--user", "root", "--", "runuser", "-u", user, "--"];
        let words: Vec<&str> = login
            .into_iter()
            .chain(["env", "-i", &home])
            .chain(VARIABLES)
            .chain(["sh", "-euc", &script])
            .collect();
        self.environment.run_command(&words)
    }

    /// Returns `sandbox info --json` of the user's sandbox.
    #[track_caller]
    pub fn record(&self) -> Value {
        serde_json::from_str(&self.ok("sandbox info --json")).unwrap()
    }

    /// Returns the processes and the state of sandboxes in the bed, as lines.
    pub fn leftovers(&self) -> String {
        self.root(
            "pgrep --list-full 'qemu|sandbox' | grep -v guest-agent || true\n\
             ls /bed/home/kvm-vms 2> /dev/null || true",
        )
    }
}
