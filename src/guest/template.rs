//! The YAML templates in `cloud-init/`, and the values that replace their placeholders.
//!
//! A placeholder is a whole value, `${NAME}`. It is replaced after the template is parsed, so no
//! value can change the structure of the document.

use serde_json::{Map, Value};

/// Returns the document of a template of this program, with its placeholders replaced.
///
/// # Panics
/// Panics if the template is not a YAML mapping, or has a placeholder without a value. The tests
/// render every template.
pub(super) fn fill(template: &str, values: &[(&str, Value)]) -> Map<String, Value> {
    let mut document: Map<String, Value> =
        yaml_serde::from_str(template).expect("the templates of this program are YAML mappings");
    for value in document.values_mut() {
        replace(value, values);
    }
    document
}

fn replace(place: &mut Value, values: &[(&str, Value)]) {
    match place {
        Value::String(text) => {
            let name = text
                .strip_prefix("${")
                .and_then(|rest| rest.strip_suffix('}'));
            if let Some(name) = name {
                let found = values.iter().find(|(known, _)| *known == name);
                let (_, value) = found
                    .unwrap_or_else(|| unreachable!("the template has no placeholder `{name}`"));
                *place = value.clone();
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(|entry| replace(entry, values)),
        Value::Object(entries) => entries
            .values_mut()
            .for_each(|entry| replace(entry, values)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fill_replaces_whole_values_only() {
        let filled = fill(
            "a: ${x}\nb: [1, '${y}', 'no ${x}']\nc: {d: '${x}'}\n",
            &[("x", json!(["one"])), ("y", json!("${x}: {z: 1}"))],
        );
        assert_eq!(
            Value::Object(filled),
            json!({"a": ["one"], "b": [1, "${x}: {z: 1}", "no ${x}"], "c": {"d": ["one"]}})
        );
    }
}
