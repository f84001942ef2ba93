//! Rendering of hints for the command line.

use sandbox_host::hint::{Hint, Part};

/// Renders a hint. The setting `memory` becomes `--memory`, a command begins with `sandbox`.
pub(crate) fn worded_hint(hint: &Hint) -> String {
    hint.parts().iter().map(worded_part).collect()
}

fn worded_part(part: &Part) -> String {
    match part {
        Part::Text(text) => text.clone(),
        Part::Setting { name, value: None } => format!("`--{name}`"),
        Part::Setting {
            name,
            value: Some(value),
        } => format!("`--{name} {value}`"),
        // `Part` is non-exhaustive. The library renders the other kinds.
        part => Hint::from_parts([part.clone()]).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worded_hint_renders_settings_as_options() {
        let hint = Hint::text("give at least ")
            .setting("disk", "2G")
            .then(", see ")
            .setting_name("memory")
            .then(", or ")
            .command("prune");
        assert_eq!(
            worded_hint(&hint),
            "give at least `--disk 2G`, see `--memory`, or `sandbox prune`"
        );
    }
}
