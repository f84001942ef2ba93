//! The cold start with all its steps, and without each of them.

use bench_report::{Better, Row, Unit};

use super::counts::{KINDS, count};
use super::support::Result;
use super::{Bed, cell};

/// The number of kinds that are exits, the first ones.
const EXITS: usize = 9;

/// A step, and the bash words that undo it in QEMU's command line.
const STEPS: [(&str, &str); 8] = [
    ("all steps", r#""$@""#),
    (
        "PVH: Debian's compressed kernel, by the BIOS",
        r#""${@/*\/blobs\/*/$(ls /boot/vmlinuz-*)}""#,
    ),
    (
        "the trimmed machine: all of q35",
        r#""${@/,usb=off*graphics=off/}""#,
    ),
    ("no HPET", r#""${@/,hpet=off/}""#),
    ("no keyboard controller", r#""${@/,i8042=off/}""#),
    ("no vAPIC", r#""${@/vapic=off/vapic=on}""#),
    (
        "memory by bytes: ERMS and FSRM off, as in emulation",
        r#""${@/#host,/host,erms=off,fsrm=off,}""#,
    ),
    (
        "q35: microvm with PCI",
        r#""${@/#q35,usb=off*graphics=off/microvm,pcie=on}""#,
    ),
];

/// Counts the exits of `sandbox run --cold -- true`, and prints them as a table.
pub(crate) fn measure(bed: &Bed, runs: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let header = KINDS[..EXITS].join(" | ");
    println!("\n| Exits of a cold `run -- true`, median (min–max), without | {header} |");
    println!("|---{}|", "|---".repeat(EXITS));
    for (index, (name, words)) in STEPS.into_iter().enumerate() {
        let program = format!("/bed/step-{index}");
        bed.root(&format!(
            "cat > {program} << 'END'\n\
             #!/bin/bash\n\
             exec qemu-system-x86_64 {words}\n\
             END\n\
             chmod a+x {program}"
        ));
        // A guest that does not boot in ten times its usual time never does.
        let script = format!(
            "SANDBOX_QEMU={program} sandbox run -q --cold --ready-timeout 10m -- true \
             || echo > /bed/home/failed"
        );
        let mut samples = vec![Vec::new(); EXITS];
        for run in 1..=runs {
            eprintln!("run {run} of {runs}: {name}");
            let counts = count(bed, &script, 1);
            if bed.root("rm /bed/home/failed 2> /dev/null && echo failed || true") == "failed" {
                break;
            }
            for (samples, count) in samples.iter_mut().zip(counts) {
                samples.push(count);
            }
        }
        if samples[0].len() < runs {
            println!("| {name} | does not boot |{}", " |".repeat(EXITS - 1));
            continue;
        }
        let cells: Vec<String> = samples.iter().cloned().map(cell).collect();
        println!("| {name} | {} |", cells.join(" | "));
        for (kind, samples) in KINDS.iter().zip(samples) {
            rows.push(Row::new(
                format!("{name}: {kind}"),
                Unit::Count,
                Better::Lower,
                samples,
            )?);
        }
    }
    Ok(rows)
}
