//! The OEM strings of the SMBIOS tables, which carry the host's credentials.
//!
//! Format: DMTF DSP0134, sections 6.1 (structures and their strings) and 7.12
//! (type 11). Linux lists the structures in `/sys/firmware/dmi/entries` (kernel
//! documentation, `ABI/testing/sysfs-firmware-dmi-entries`).

/// The length of the header of a structure: type (1), length of the formatted
/// area (1), handle (2).
const HEADER_LENGTH: usize = 4;

/// Returns the strings that follow the formatted area of a raw structure. Drops
/// an incomplete string at the end.
pub(crate) fn strings(structure: &[u8]) -> Vec<&[u8]> {
    let Some(&formatted_length) = structure.get(1) else {
        return Vec::new();
    };
    let formatted_length = usize::from(formatted_length).max(HEADER_LENGTH);
    let mut rest = structure.get(formatted_length..).unwrap_or_default();
    let mut strings = Vec::new();
    while let Some(end) = rest.iter().position(|&byte| byte == 0) {
        if end == 0 {
            break;
        }
        strings.push(&rest[..end]);
        rest = &rest[end + 1..];
    }
    strings
}

#[cfg(test)]
mod tests {
    use super::strings;

    #[test]
    fn strings_end_at_an_empty_string() {
        let structure = b"\x0b\x05\x00\x0e\x02first\0second string\0\0ignored\0";
        assert_eq!(strings(structure), [&b"first"[..], &b"second string"[..]]);
    }

    #[test]
    fn strings_of_a_truncated_structure_are_the_complete_ones() {
        assert!(strings(b"").is_empty());
        assert!(strings(b"\x0b").is_empty());
        assert!(strings(b"\x0b\xff\x00\x0e\x02x\0\0").is_empty());
        assert!(strings(b"\x0b\x05\x00\x0e\x00\0\0").is_empty());
        assert_eq!(strings(b"\x0b\x05\x00\x0e\x02whole\0cut"), [b"whole"]);
    }
}
