//! The forms of secrets, their values, and the absence of values in texts.

use super::*;

fn environment(name: &str) -> Option<OsString> {
    match name {
        "API_TOKEN" => Some("s3cr3t".into()),
        "EMPTY" => Some("".into()),
        "LINES" => Some("a\nX-Evil: b".into()),
        "LONG" => Some("x".repeat(LONGEST + 1).into()),
        _ => None,
    }
}

#[test]
fn secret_of_variable_hides_its_value() {
    let request = SecretRequest::of_variable("API_TOKEN@api.example.com,.example.org").unwrap();
    let secret = request.resolve(environment).unwrap();
    assert_eq!(secret.value.expose(), "s3cr3t");
    assert_eq!(secret.hosts.len(), 2);
    assert!(secret.placeholder.starts_with("sandbox-secret-API_TOKEN-"));
    assert_ne!(
        secret.placeholder,
        request.resolve(environment).unwrap().placeholder
    );
    assert!(!format!("{secret:?}").contains("s3cr3t"));
    let summary = serde_json::to_string(&secret.summary()).unwrap();
    assert!(!summary.contains("s3cr3t"));
}

#[test]
fn secret_of_file_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a=b@c");
    std::fs::write(&path, "from a file\r\n").unwrap();
    let text = format!("T={}@a.example", path.display());
    let request = SecretRequest::of_file(&text).unwrap();
    assert_eq!(request.source, SecretSource::File(path.clone()));
    let secret = request.resolve(environment).unwrap();
    assert_eq!(secret.value.expose(), "from a file");
    std::fs::write(&path, "x".repeat(LONGEST + 10)).unwrap();
    let error = request.resolve(environment).unwrap_err();
    assert!(matches!(error, SecretError::Value(_)));
    std::fs::remove_file(&path).unwrap();
    let error = request.resolve(environment).unwrap_err();
    assert!(matches!(error, SecretError::NoFile { .. }));
}

#[test]
fn secret_without_form_or_value_is_refused() {
    for text in [
        "TOKEN",
        "@a.example",
        "1A@a.example",
        "A-B@a.example",
        "A@",
        "A@a b",
        "A@*",
        "A@10.0.0.1",
        "A@^(a|b)$",
        "A@a.example,",
    ] {
        let error = SecretRequest::of_variable(text).unwrap_err();
        assert!(error.hint().is_some(), "{text}");
    }
    for text in ["TOKEN@a.example", "T=@a.example", "T=/a", "=/a@a.example"] {
        assert!(SecretRequest::of_file(text).is_err(), "{text}");
    }
    for name in ["EMPTY", "LINES", "LONG", "ABSENT"] {
        let request = SecretRequest::of_variable(&format!("{name}@a.example")).unwrap();
        let error = request.resolve(environment).unwrap_err();
        assert!(!error.to_string().contains("Evil"), "{error}");
    }
}
