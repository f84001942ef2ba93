//! Counts of the bed's kernel.

use super::Bed;

/// The kinds of exits, the last of which is their sum. MMIO is access to memory-mapped registers. A
/// window is an exit as soon as the guest can take an interrupt.
pub(crate) const KINDS: [&str; 9] = [
    "page faults",
    "MMIO",
    "port",
    "halts",
    "interrupts",
    "windows",
    "MSR",
    "others",
    "all",
];

/// The exits of each kind in [`KINDS`].
pub(crate) type Counts = [f64; 9];

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

/// Runs the script as the bed's user, and returns the exits meanwhile, divided by `times`.
///
/// The kernel counts them in a histogram (`Documentation/trace/histogram.rst`) without a record of
/// each.
pub(crate) fn exits(bed: &Bed, script: &str, times: u32) -> Counts {
    let events = "cd /sys/kernel/tracing/events/kvm";
    bed.root(&format!(
        "{events}\n\
         for one in kvm_exit:exit_reason kvm_mmio:type; do\n\
             event=${{one%:*}}; key=${{one#*:}}\n\
             echo \"!hist:keys=$key\" >> $event/trigger 2> /dev/null || true\n\
             echo \"hist:keys=$key\" > $event/trigger\n\
         done"
    ));
    bed.ok(script);
    let text = bed.root(&format!(
        "{events}; cat kvm_exit/hist; echo =; cat kvm_mmio/hist"
    ));
    let (exits, accesses) = text.split_once("\n=\n").expect("the separator");
    let mut counts = [0.0; 9];
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
        .sum();
    counts[MEMORY_MAPPED] = accesses.min(counts[0]);
    counts[0] -= counts[MEMORY_MAPPED];
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
