//! Removes escape sequences and control characters from untrusted text, for output on a terminal.

use std::iter::Peekable;
use std::str::Chars;

/// The maximum length of an escape sequence, in characters. The bound keeps an unfinished sequence
/// from hiding the rest of a text.
const LONGEST_SEQUENCE: usize = 256;

/// Returns `bytes` as text without escape sequences and control characters, except for tab and line
/// feed.
///
/// Invalid UTF-8 becomes U+FFFD. A carriage return without a line feed starts a new line.
/// Characters that change the direction of writing are removed. Sequences follow ECMA-48, sections
/// 5.4 (control sequences) and 5.6 (control strings).
pub fn sanitize(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut characters = text.chars().peekable();
    let mut clean = String::with_capacity(text.len());
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_escape(&mut characters),
            '\u{9b}' => skip_control_sequence(&mut characters),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => {
                skip_control_string(&mut characters);
            }
            '\r' => {
                while characters.next_if_eq(&'\r').is_some() {}
                if !matches!(characters.peek(), None | Some('\n')) {
                    clean.push('\n');
                }
            }
            '\t' | '\n' => clean.push(character),
            _ if character.is_control() || is_direction_mark(character) => {}
            _ => clean.push(character),
        }
    }
    clean
}

/// Sanitizes `bytes` to one line of at most `longest` characters, for use inside a message.
pub fn sanitize_line(bytes: &[u8], longest: usize) -> String {
    let clean = sanitize(&bytes[..bytes.len().min(longest.saturating_mul(8))]);
    let mut line: String = clean
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(longest)
        .collect();
    if clean.chars().count() > longest {
        line.push('…');
    }
    line
}

/// Returns whether the character is an embedding, override, isolate or mark (Unicode Standard Annex
/// 9, section 2).
fn is_direction_mark(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

fn skip_escape(characters: &mut Peekable<Chars<'_>>) {
    match characters.peek() {
        Some('[') => {
            characters.next();
            skip_control_sequence(characters);
        }
        Some('P' | 'X' | ']' | '^' | '_') => {
            characters.next();
            skip_control_string(characters);
        }
        _ => {
            while characters.next_if(|c| matches!(c, ' '..='/')).is_some() {}
            characters.next_if(|c| matches!(c, '0'..='~'));
        }
    }
}

fn skip_control_sequence(characters: &mut Peekable<Chars<'_>>) {
    for _ in 0..LONGEST_SEQUENCE {
        if characters.next_if(|c| matches!(c, ' '..='?')).is_none() {
            break;
        }
    }
    characters.next_if(|c| matches!(c, '@'..='~'));
}

/// Skips to the end of a control string: BEL, ST, or the end of its line if it is malformed.
fn skip_control_string(characters: &mut Peekable<Chars<'_>>) {
    for _ in 0..LONGEST_SEQUENCE {
        match characters.next_if(|c| !matches!(c, '\n' | '\r')) {
            None | Some('\u{7}' | '\u{9c}') => return,
            Some('\u{1b}') => {
                characters.next_if_eq(&'\\');
                return;
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sanitize_removes_sequences_of_terminals() {
        let cases: &[(&[u8], &str)] = &[
            (b"plain text\n", "plain text\n"),
            (b"\x1b[0;1;31mred\x1b[0m", "red"),
            (b"\x1b[?25l\x1b[2J\x1b[Hhome", "home"),
            (b"\x1b]0;title\x07after", "after"),
            (b"\x1b]8;;http://x\x1b\\link", "link"),
            (b"\x1bPq#0;2\x1b\\sixel", "sixel"),
            (b"\x1b]52;c;never ended\nnext line", "\nnext line"),
            (b"\x1b(B\x1bc\x1b=reset", "reset"),
            (b"a\r\nb\r\r\nc\rd\r", "a\nb\nc\nd"),
            (b"bell\x07 back\x08 nul\0 del\x7f", "bell back nul del"),
            (b"tab\there", "tab\there"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            ("\u{9b}31mc1 \u{9d}0;t\u{9c}!".as_bytes(), "c1 !"),
            ("\u{202e}gpj.exe".as_bytes(), "gpj.exe"),
            ("[  OK  ] Größe ✓".as_bytes(), "[  OK  ] Größe ✓"),
            (b"cut \x1b[", "cut "),
            (b"cut \x1b", "cut "),
        ];
        for (input, expected) in cases {
            assert_eq!(sanitize(input), *expected, "{input:?}");
        }
    }

    #[test]
    fn sanitize_leaves_no_control_character() {
        let mut input = Vec::new();
        for first in 0..=255u8 {
            for second in [b'[', b']', b'm', 0x1b, 0x9b, b'\n'] {
                input.extend([0x1b, first, second]);
            }
        }
        assert!(
            sanitize(&input)
                .chars()
                .all(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        );
    }

    #[test]
    fn sanitize_line_shortens_to_one_line() {
        assert_eq!(
            sanitize_line(b"two\nlines\t\x1b[1mhere", 40),
            "two lines here"
        );
        assert_eq!(sanitize_line(b"abcdef", 3), "abc…");
    }
}
