//! The environment variables of every process in the sandbox.
//!
//! Two programs read them: pam_env(8) (`/etc/environment`) for logins, and
//! systemd (`DefaultEnvironment=`, systemd-system.conf(5)) for services.

/// Returns the lines of the credential that are assignments. Drops comments and
/// all other lines.
pub(crate) fn assignments(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim_end)
        .filter(|line| !line.starts_with('#') && line.split_once('=').is_some_and(has_valid_name))
}

fn has_valid_name((name, _): (&str, &str)) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || character == '_')
}

/// Returns the lines for `/etc/environment`.
pub(crate) fn pam_lines(text: &str) -> String {
    assignments(text).flat_map(|line| [line, "\n"]).collect()
}

/// Returns a drop-in for `/run/systemd/system.conf.d`. Values are in double
/// quotes with C escapes, and `%%` stands for `%` (systemd.syntax(7),
/// systemd.unit(5), "Specifiers").
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
    fn pam_lines_are_the_assignments() {
        assert_eq!(pam_lines(TEXT), "SANDBOX_CONTAINER=a b\nA_1=\"50%\\\"\n");
    }

    #[test]
    fn systemd_drop_in_escapes_quotes_and_percent_signs() {
        assert_eq!(
            systemd_drop_in(TEXT),
            "[Manager]\nDefaultEnvironment=\"SANDBOX_CONTAINER=a b\" \"A_1=\\\"50%%\\\\\\\"\" \n"
        );
    }
}
