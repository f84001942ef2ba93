//! Formats errors for the console and the event `failed`.

use std::error::Error;

/// Joins an error and its causes: `error: cause: cause of the cause`.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Writes a line to standard error, which is the console for init and for the
/// agent's unit. Ignores errors, since nothing else depends on the line.
pub(crate) fn log(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "sandbox: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not read `{path}`")]
    struct Outer {
        path: &'static str,
        source: std::io::Error,
    }

    #[test]
    fn chain_appends_the_causes() {
        let error = Outer {
            path: "/x",
            source: std::io::Error::other("gone"),
        };
        assert_eq!(chain(&error), "could not read `/x`: gone");
    }
}
