//! From the first `sandbox --kvm` to `sandbox stop`.

use crate::harness::Host;

#[test]
fn the_first_call_starts_a_machine_and_the_next_one_joins_it() {
    let host = Host::new();
    let first = host.start(&[]);
    assert!(
        first.stderr.contains("`sandbox-project` is ready"),
        "{first}"
    );
    let boot_id = host.guest("cat /proc/sys/kernel/random/boot_id");
    let second = host.start(&[]);
    assert!(
        second.stderr.contains("`sandbox-project` runs already"),
        "{second}"
    );
    assert_eq!(host.guest("cat /proc/sys/kernel/random/boot_id"), boot_id);
    host.stop();
}
