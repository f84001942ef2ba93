//! The smallest 64-bit guest: page tables, a descriptor table and a counted loop, laid out as the
//! bytes of its physical memory.
//!
//! Real guests run in long mode. Real mode would give a wrong measurement, since KVM interprets it
//! on Intel processors without "unrestricted guest".

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

/// The size of guest-physical memory in bytes, from address 0.
pub(crate) const MEMORY_SIZE: usize = 0x6000;

/// The number of instructions between two exits. The loop's body has two instructions.
pub(crate) const INSTRUCTIONS_PER_ROUND: u32 = ITERATIONS * 2;

/// The port that the guest writes to at the start of each round. 0x80 is the PC's diagnostic port.
/// No device in the kernel handles it, so KVM exits.
pub(crate) const ROUND_PORT: u16 = 0x80;

const ITERATIONS: u32 = 15_000;

const PAGE_MAP_LEVEL_4: usize = 0x1000;
const PAGE_DIRECTORY_POINTERS: usize = 0x2000;
const PAGE_DIRECTORY: usize = 0x3000;
const DESCRIPTOR_TABLE: usize = 0x4000;
const CODE: usize = 0x5000;

// Page table entry bits: Intel SDM volume 3, section 4.5 "4-level paging".
const PRESENT_WRITABLE: u64 = 0b11;
const LARGE_PAGE: u64 = 1 << 7;

// Control register bits: Intel SDM volume 3, section 2.5.
const CR0_PROTECTION_ENABLE: u64 = 1;
const CR0_EXTENSION_TYPE: u64 = 1 << 4;
const CR0_NUMERIC_ERROR: u64 = 1 << 5;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;

// Bits of the EFER register: Intel SDM volume 3, section 2.2.1.
const EFER_LONG_MODE_ENABLE: u64 = 1 << 8;
const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;

/// Bit 1 of RFLAGS is reserved and always one.
const RFLAGS_RESERVED: u64 = 0b10;

const CODE_SELECTOR: u16 = 8;
const DATA_SELECTOR: u16 = 16;

/// The segment descriptors (Intel SDM volume 3, section 3.4.5): null, 64-bit code (present,
/// execute/read, accessed, long), data (present, read/write, accessed).
const DESCRIPTORS: [u64; 3] = [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// Returns the bytes of the guest's memory, from address 0.
pub(crate) fn memory() -> Vec<u8> {
    let mut memory = vec![0; MEMORY_SIZE];
    let mut put = |at: usize, bytes: &[u8]| memory[at..at + bytes.len()].copy_from_slice(bytes);
    let entry = |table: usize| (table as u64 | PRESENT_WRITABLE).to_le_bytes();

    // One page of 2 MiB maps address 0 to itself. The guest's memory is smaller.
    put(PAGE_MAP_LEVEL_4, &entry(PAGE_DIRECTORY_POINTERS));
    put(PAGE_DIRECTORY_POINTERS, &entry(PAGE_DIRECTORY));
    put(
        PAGE_DIRECTORY,
        &(PRESENT_WRITABLE | LARGE_PAGE).to_le_bytes(),
    );
    for (index, descriptor) in DESCRIPTORS.iter().enumerate() {
        put(DESCRIPTOR_TABLE + index * 8, &descriptor.to_le_bytes());
    }
    put(CODE, &code());
    memory
}

/// Returns the guest's code: endless rounds, each with an exit to the host and a counted loop.
fn code() -> Vec<u8> {
    let mut code = vec![0xe6, ROUND_PORT as u8]; // round: out 0x80, al
    code.push(0xb9); //                                    mov ecx, ITERATIONS
    code.extend(ITERATIONS.to_le_bytes());
    code.extend([0xff, 0xc9]); //                   count: dec ecx
    code.extend([0x75, 0xfc]); //                          jnz count
    code.extend([0xeb, 0xf3]); //                          jmp round
    code
}

/// Changes `special`, the registers of a new vCPU, to long mode on [`memory`].
pub(crate) fn enter_long_mode(special: &mut kvm_sregs) {
    let segment = |selector: u16, code: bool| kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        // Segment types 11 (execute/read, accessed) and 3 (read/write, accessed).
        type_: if code { 11 } else { 3 },
        present: 1,
        s: 1,
        g: 1,
        l: u8::from(code),
        db: u8::from(!code),
        ..Default::default()
    };
    special.cs = segment(CODE_SELECTOR, true);
    let data = segment(DATA_SELECTOR, false);
    special.ds = data;
    special.es = data;
    special.fs = data;
    special.gs = data;
    special.ss = data;
    special.gdt.base = DESCRIPTOR_TABLE as u64;
    special.gdt.limit = (size_of_val(&DESCRIPTORS) - 1) as u16;
    special.cr3 = PAGE_MAP_LEVEL_4 as u64;
    special.cr4 = CR4_PHYSICAL_ADDRESS_EXTENSION;
    special.cr0 = CR0_PROTECTION_ENABLE | CR0_EXTENSION_TYPE | CR0_NUMERIC_ERROR | CR0_PAGING;
    special.efer = EFER_LONG_MODE_ENABLE | EFER_LONG_MODE_ACTIVE;
}

/// Returns the general registers at the first instruction.
pub(crate) fn start_registers() -> kvm_regs {
    kvm_regs {
        rip: CODE as u64,
        rflags: RFLAGS_RESERVED,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the target of the two-byte jump at `at`.
    fn jump_target(code: &[u8], at: usize) -> isize {
        at as isize + 2 + isize::from(code[at + 1] as i8)
    }

    #[test]
    fn code_jumps_land_on_their_instructions() {
        let code = code();
        let dec = 7;
        assert_eq!(code[dec..dec + 2], [0xff, 0xc9]);
        assert_eq!(jump_target(&code, dec + 2), dec as isize);
        assert_eq!(jump_target(&code, dec + 4), 0);
        assert_eq!(code.len(), dec + 6);
    }

    #[test]
    fn memory_page_tables_map_the_code() {
        let memory = memory();
        let entry = |at: usize| {
            let bytes = memory[at..at + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        let address = |entry: u64| (entry & !0xfff) as usize;
        let level_3 = address(entry(PAGE_MAP_LEVEL_4));
        let level_2 = address(entry(level_3));
        assert_eq!(entry(level_2), PRESENT_WRITABLE | LARGE_PAGE);
        assert_eq!(memory[CODE], 0xe6);
    }
}
