//! The variables that every process of the sandbox sees.
//!
//! Two readers need them: PAM (`pam_env`, `/etc/environment`) for logins, and
//! systemd (`DefaultEnvironment=`) for services.

/// The lines of the credential that are assignments; empty lines and comments
/// are dropped.
pub(crate) fn assignments(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim_end)
        .filter(|line| !line.starts_with('#') && line.split_once('=').is_some_and(named))
}

fn named((name, _): (&str, &str)) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || character == '_')
}

/// What is appended to `/etc/environment`.
pub(crate) fn pam_lines(text: &str) -> String {
    assignments(text).flat_map(|line| [line, "\n"]).collect()
}

/// A drop-in for `/run/systemd/system.conf.d`, quoted as `systemd-system.conf`
/// wants it: C escapes in double quotes, and `%` begins a specifier.
pub(crate) fn systemd_drop_in(text: &str) -> String {
    let mut drop_in = String::from("[Manager]\nDefaultEnvironment=");
    for line in assignments(text) {
        drop_in.push('"');
        for character in line.chars() {
            match character {
                '"' | '\\' => drop_in.extend(['\\', character]),
                '%' => drop_in.push_str("%%"),
                plain => drop_in.push(plain),
            }
        }
        drop_in.push_str("\" ");
    }
    drop_in.push('\n');
    drop_in
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "SANDBOX_CONTAINER=a b\n# comment\n\nnot an assignment\nA_1=\"50%\\\"\n1A=x\n";

    #[test]
    fn for_pam() {
        assert_eq!(pam_lines(TEXT), "SANDBOX_CONTAINER=a b\nA_1=\"50%\\\"\n");
    }

    #[test]
    fn for_systemd() {
        assert_eq!(
            systemd_drop_in(TEXT),
            "[Manager]\nDefaultEnvironment=\"SANDBOX_CONTAINER=a b\" \"A_1=\\\"50%%\\\\\\\"\" \n"
        );
    }
}
