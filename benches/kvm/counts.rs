//! Counts of the bed's kernel.

use super::Bed;

/// What is counted: the kinds of exits, their sum, and the system calls of two processes. MMIO is
/// access to memory-mapped registers. A window is an exit as soon as the guest can take an
/// interrupt.
pub(crate) const KINDS: [&str; 11] = [
    "page faults",
    "MMIO",
    "port",
    "halts",
    "interrupts",
    "windows",
    "MSR",
    "others",
    "all exits",
    "system calls of QEMU",
    "of the supervisor",
];

/// The counts of each kind in [`KINDS`].
pub(crate) type Counts = [f64; 11];

/// The codes of SVM's exits (Linux `arch/x86/include/uapi/asm/svm.h`) and their kinds.
const CODES: [(u32, usize); 7] = [
    (0x400, 0),
    (0x7b, 2),
    (0x78, 3),
    (0x60, 4),
    (0x61, 4),
    (0x64, 5),
    (0x7c, 6),
];
const MEMORY_MAPPED: usize = 1;
const OTHERS: usize = 7;
const ALL: usize = 8;
const QEMU: usize = 9;
const SUPERVISOR: usize = 10;

/// The events of the kernel's tracing, and the field by which each is counted.
const EVENTS: [(&str, &str); 3] = [
    ("kvm/kvm_exit", "exit_reason"),
    ("kvm/kvm_mmio", "type"),
    ("raw_syscalls/sys_enter", "common_pid"),
];

/// Prints the threads of QEMU and of the supervisor, a process a line. Prints nothing if the
/// sandbox has ended.
const THREADS: &str = r#"
cd /bed/home/kvm-vms/sandbox-project 2> /dev/null || exit 0
supervisor=$(python3 -c 'import json; print(json.load(open("sandbox.json"))["supervisor"]["pid"])')
for process in $(cat qemu.pid) $supervisor; do echo $(ls /proc/$process/task); done
"#;

/// Runs the script as the bed's user, and returns the counts meanwhile, divided by `times`.
///
/// The kernel counts in histograms (`Documentation/trace/histogram.rst`) without a record of each
/// event. Threads that have ended are not counted.
pub(crate) fn count(bed: &Bed, script: &str, times: u32) -> Counts {
    let events = "cd /sys/kernel/tracing/events";
    let begin: String = EVENTS
        .iter()
        .map(|(event, key)| {
            format!(
                "echo '!hist:keys={key}' >> {event}/trigger 2> /dev/null || true\n\
                 echo 'hist:keys={key}' > {event}/trigger\n"
            )
        })
        .collect();
    bed.root(&format!("{events}\n{begin}"));
    bed.ok(script);
    let text = bed.root(&format!(
        "{events}\n\
         for event in kvm/kvm_exit kvm/kvm_mmio raw_syscalls/sys_enter; do\n\
             cat $event/hist; echo =\n\
         done\n{THREADS}"
    ));
    let parts: Vec<&str> = text.split("\n=\n").collect();
    let [exits, accesses, calls, ref threads @ ..] = parts[..] else {
        panic!("{text}");
    };
    let mut counts = [0.0; 11];
    for (code, hits) in hits(exits) {
        let known = CODES.iter().find(|(known, _)| *known == code);
        counts[known.map_or(OTHERS, |(_, kind)| *kind)] += hits;
        counts[ALL] += hits;
    }
    // Each access to a memory-mapped register is a page fault first. A read has two records, of
    // which type 0 is the one without a value (Linux `arch/x86/kvm/trace.h`).
    let accesses: f64 = hits(accesses)
        .filter(|(kind, _)| *kind != 0)
        .map(|(_, hits)| hits)
        .fold(0.0, |sum, hits| sum + hits);
    counts[MEMORY_MAPPED] = accesses.min(counts[0]);
    counts[0] -= counts[MEMORY_MAPPED];
    let threads = threads.concat();
    for (kind, threads) in [QEMU, SUPERVISOR].into_iter().zip(threads.lines()) {
        let own: Vec<u32> = threads
            .split_ascii_whitespace()
            .filter_map(|thread| thread.parse().ok())
            .collect();
        let calls = hits(calls).filter(|(thread, _)| own.contains(thread));
        counts[kind] = calls.map(|(_, hits)| hits).sum();
    }
    counts.map(|count| count / f64::from(times))
}

/// Parses the lines `{ KEY: CODE } hitcount: COUNT` of a histogram.
fn hits(text: &str) -> impl Iterator<Item = (u32, f64)> {
    text.lines().filter_map(|line| {
        let (key, count) = line.strip_prefix('{')?.split_once('}')?;
        let code = key.split_once(':')?.1.trim().parse().ok()?;
        let count = count.trim().strip_prefix("hitcount:")?.trim();
        Some((code, count.parse().ok()?))
    })
}
