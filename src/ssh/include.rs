//! Checks whether the user's `~/.ssh/config` includes a file, by the rules of ssh_config(5).

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Returns whether `configuration`, the content of `~/.ssh/config`, includes `file` for every host.
///
/// An `Include` below `Host` or `Match` counts only if that block applies to all hosts. The search
/// does not read included files.
pub(super) fn includes(configuration: &[u8], home: &Path, file: &Path) -> bool {
    let mut for_all_hosts = true;
    for line in configuration.split(|&byte| byte == b'\n') {
        let words = words(line);
        let Some((keyword, arguments)) = words.split_first() else {
            continue;
        };
        if keyword.eq_ignore_ascii_case(b"host") {
            for_all_hosts = arguments.iter().any(|pattern| pattern == b"*")
                && !arguments.iter().any(|pattern| pattern.starts_with(b"!"));
        } else if keyword.eq_ignore_ascii_case(b"match") {
            for_all_hosts = matches!(arguments, [all] if all.eq_ignore_ascii_case(b"all"));
        } else if keyword.eq_ignore_ascii_case(b"include")
            && for_all_hosts
            && arguments
                .iter()
                .any(|pattern| glob(&absolute(pattern, home), file.as_os_str().as_bytes()))
        {
            return true;
        }
    }
    false
}

/// Splits a line into words. Blanks separate words, and one `=` can follow the keyword.
///
/// Words can have single or double quotes, and `\` before a quote or backslash. `#` begins a
/// comment.
fn words(line: &[u8]) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = line.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let separates = byte.is_ascii_whitespace() || (byte == b'=' && words.is_empty()) || {
            byte == b'=' && words.len() == 1 && word.is_none()
        };
        match byte {
            b'\\' if matches!(bytes.peek(), Some(b'"' | b'\'' | b'\\')) => {
                word.get_or_insert_default().extend(bytes.next());
            }
            _ if quote == Some(byte) => quote = None,
            b'"' | b'\'' if quote.is_none() => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            _ if quote.is_none() && separates => words.extend(word.take()),
            b'#' if quote.is_none() && word.is_none() => break,
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

/// Returns a pattern of the user's configuration file as an absolute one.
///
/// `~` is the home directory. A relative pattern starts in `~/.ssh`.
fn absolute(pattern: &[u8], home: &Path) -> Vec<u8> {
    let home = home.as_os_str().as_bytes();
    match pattern {
        [b'/', ..] => pattern.to_vec(),
        [b'~', b'/', rest @ ..] => [home, b"/", rest].concat(),
        _ => [home, b"/.ssh/", pattern].concat(),
    }
}

/// Returns whether the pattern matches (glob(7)). `*` and `?` match neither `/` nor a leading dot.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let mut patterns = pattern
        .split(|&byte| byte == b'/')
        .filter(|part| !part.is_empty());
    let mut texts = text
        .split(|&byte| byte == b'/')
        .filter(|part| !part.is_empty());
    loop {
        match (patterns.next(), texts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(text)) => {
                let hidden = text.starts_with(b".") && !pattern.starts_with(b".");
                if hidden || !component(pattern, text) {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

fn component(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            component(rest, text) || (!text.is_empty() && component(pattern, &text[1..]))
        }
        ([b'?', rest @ ..], [_, text @ ..]) => component(rest, text),
        ([b'[', rest @ ..], [byte, text @ ..]) if class(rest, *byte).is_some() => {
            class(rest, *byte).is_some_and(|(matched, rest)| matched && component(rest, text))
        }
        ([first, rest @ ..], [byte, text @ ..]) => first == byte && component(rest, text),
        _ => false,
    }
}

/// Parses a class after its `[`. Returns whether it contains `byte`, and the pattern after its `]`.
///
/// Returns `None` without a `]`. The bracket then matches itself.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, members) = match pattern {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, pattern),
    };
    // A `]` at the start is a member.
    let end = 1 + members
        .get(1..)?
        .iter()
        .position(|&member| member == b']')?;
    let mut rest = &members[..end];
    let mut found = false;
    while let [first, others @ ..] = rest {
        (found, rest) = match others {
            [b'-', last, others @ ..] => (found || (*first..=*last).contains(&byte), others),
            _ => (found || *first == byte, others),
        };
    }
    Some((found != negated, &members[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_follows_rules_of_ssh() {
        let cases: &[(&str, bool)] = &[
            ("", false),
            ("Include config.d/*", true),
            ("include config.d/*.conf", true),
            ("INCLUDE=config.d/*", true),
            ("Include = config.d/*", true),
            ("\tInclude \"config.d/*\"  # mine", true),
            ("Include '~/.ssh/config.d/alias-*.conf'", true),
            ("Include ~/.ssh/config.d/*.conf", true),
            ("Include /home/u/.ssh/config.d/*", true),
            ("Include other.conf /etc/x config.d/*", true),
            ("Include */*", true),
            ("Include config.d/alias-[a-c]ox.conf", true),
            ("Include config.d/alias-[!b]ox.conf", false),
            ("Include config.d/alias-bo?.conf", true),
            ("# Include config.d/*", false),
            ("Include # config.d/*", false),
            ("Include config.d", false),
            ("Include config.d/*.txt", false),
            ("Include *", false),
            ("Include /home/u/*/config.d/*", false),
            ("Include ~/config.d/*", false),
            ("Host work\n  Include config.d/*", false),
            ("Host *\n  Include config.d/*", true),
            ("Host * !box\n  Include config.d/*", false),
            ("Host work\n  Port 1\nMatch all\nInclude config.d/*", true),
            ("Match user me\nInclude config.d/*", false),
            ("Include config.d/*\nHost work", true),
            ("Include config.d/*\r\nHost work\r\n", true),
            ("IncludeX config.d/*", false),
        ];
        for (configuration, expected) in cases {
            let found = includes(
                configuration.as_bytes(),
                Path::new("/home/u"),
                Path::new("/home/u/.ssh/config.d/alias-box.conf"),
            );
            assert_eq!(found, *expected, "{configuration:?}");
        }
    }
}
