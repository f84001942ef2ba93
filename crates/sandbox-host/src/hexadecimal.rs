//! Bytes as hexadecimal digits.

use std::fmt::Write as _;

/// Returns `bytes` as lower-case hexadecimal digits, two a byte.
pub fn encode(bytes: &[u8]) -> String {
    let text = String::with_capacity(2 * bytes.len());
    bytes.iter().fold(text, |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

/// Parses exactly `2 * N` lower-case hexadecimal digits; `None` for any other text.
pub fn decode<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let is_lower_case = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 2 * N || !digits.bytes().all(is_lower_case) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_reverses_encode() {
        assert_eq!(encode(&[0x00, 0xab, 0x7f]), "00ab7f");
        assert_eq!(decode("00ab7f"), Some([0x00, 0xab, 0x7f]));
    }

    #[test]
    fn decode_rejects_other_lengths_and_characters() {
        for digits in ["", "00ab7", "00ab7f0", "00AB7F", "00ab7g", "é0ab7"] {
            assert_eq!(decode::<3>(digits), None, "{digits}");
        }
    }
}
