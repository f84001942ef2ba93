//! The OEM strings of the SMBIOS tables, in which the host hands credentials
//! to the guest.
//!
//! Format: DMTF DSP0134, sections 6.1 (structures and their strings) and 7.12
//! (type 11). Linux shows each structure under `/sys/firmware/dmi/entries`.

/// Length of the fixed part that every structure begins with: type, length of
/// the formatted area, handle (2 bytes).
const HEADER_LENGTH: usize = 4;

/// The strings that follow the formatted area of one raw structure.
///
/// A structure that is cut short yields the strings that are complete.
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
    fn strings_end_at_an_empty_one() {
        let structure = b"\x0b\x05\x00\x0e\x02first\0second string\0\0ignored\0";
        assert_eq!(strings(structure), [&b"first"[..], &b"second string"[..]]);
    }

    #[test]
    fn damaged_structures_do_no_harm() {
        assert!(strings(b"").is_empty());
        assert!(strings(b"\x0b").is_empty());
        assert!(strings(b"\x0b\xff\x00\x0e\x02x\0\0").is_empty());
        assert!(strings(b"\x0b\x05\x00\x0e\x00\0\0").is_empty());
        assert_eq!(strings(b"\x0b\x05\x00\x0e\x02whole\0cut"), [b"whole"]);
    }
}
