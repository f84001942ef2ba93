//! How failures are put into words for the console and the `failed` event.

use std::error::Error;

/// Joins an error and its causes: `outer: cause: cause of the cause`.
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
/// units. A console that cannot be written to is not worth failing for.
pub(crate) fn say(text: &str) {
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
    fn causes_follow_their_effect() {
        let error = Outer {
            path: "/x",
            source: std::io::Error::other("gone"),
        };
        assert_eq!(chain(&error), "could not read `/x`: gone");
    }
}
