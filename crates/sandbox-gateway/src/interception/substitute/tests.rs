//! Replaced, misdirected and invalid placeholders.

use hyper::Request;

use super::*;

const VALUE: &str = "hunter2-hunter2";

fn secret(name: &str, host: &str) -> SecretSpec {
    spec(name, host, VALUE)
}

fn spec(name: &str, host: &str, value: &str) -> SecretSpec {
    let digits = "0123456789abcdef".repeat(2);
    let spec = serde_json::json!({
        "name": name,
        "hosts": [host],
        "placeholder": format!("sandbox-secret-{name}-{digits}"),
        "value": value,
    });
    serde_json::from_value(spec).unwrap()
}

fn request(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn own() -> DomainName {
    "api.example".parse().unwrap()
}

#[test]
fn substitute_replaces_all_occurrences_in_all_headers() {
    let secrets = Secrets::new(vec![secret("A", "api.example")]).unwrap();
    let placeholder = secrets.0[0].placeholder.clone();
    let twice = format!("{placeholder}, x{placeholder}y");
    let mut parts = request(
        "/",
        &[
            ("x-one", &twice),
            ("authorization", &format!("Bearer {placeholder}")),
        ],
    );
    let inserted = secrets.substitute(&mut parts, &own()).unwrap();
    assert_eq!(parts.headers["x-one"], format!("{VALUE}, x{VALUE}y"));
    assert_eq!(parts.headers["authorization"], format!("Bearer {VALUE}"));
    assert!(parts.headers["authorization"].is_sensitive());
    assert_eq!(inserted.len(), 2);
}

#[test]
fn substitute_replaces_in_basic_credentials() {
    let secrets = Secrets::new(vec![secret("A", "api.example")]).unwrap();
    let credentials = STANDARD.encode(format!("user:{}", secrets.0[0].placeholder));
    let mut parts = request("/", &[("Authorization", &format!("basic  {credentials}"))]);
    let inserted = secrets.substitute(&mut parts, &own()).unwrap();
    let expected = STANDARD.encode(format!("user:{VALUE}"));
    assert_eq!(parts.headers["authorization"], format!("Basic {expected}"));
    assert!(
        inserted
            .iter()
            .any(|bytes| ***bytes == *expected.as_bytes())
    );
}

#[test]
fn request_without_placeholders_is_unchanged() {
    let secrets = Secrets::new(vec![secret("A", "api.example")]).unwrap();
    let mut parts = request("/", &[("authorization", "Basic dXNlcjpwYXNz"), ("x", "y")]);
    let before = parts.headers.clone();
    assert!(secrets.substitute(&mut parts, &own()).unwrap().is_empty());
    assert_eq!(parts.headers, before);
}

#[test]
fn placeholders_for_other_hosts_are_found() {
    let secrets = Secrets::new(vec![secret("A", "api.example"), secret("B", "b.example")]).unwrap();
    let foreign = secrets.0[1].placeholder.clone();
    let basic = format!("Basic {}", STANDARD.encode(format!("{foreign}:")));
    let uri = format!("/path?token={foreign}");
    for (uri, headers) in [
        (uri.as_str(), vec![]),
        ("/", vec![("x-any", foreign.as_str())]),
        ("/", vec![("authorization", basic.as_str())]),
    ] {
        let mut parts = request(uri, &headers);
        let misdirected = secrets.substitute(&mut parts, &own()).unwrap_err();
        assert_eq!(
            misdirected,
            MisdirectedPlaceholder {
                secret: "B".into(),
                own_host: false
            }
        );
        let misdirected = secrets.refuse_in_plaintext(&parts, &"b.example".parse().unwrap());
        assert_eq!(
            misdirected,
            Err(MisdirectedPlaceholder {
                secret: "B".into(),
                own_host: true
            })
        );
    }
}

#[test]
fn invalid_secrets_are_rejected() {
    for value in ["", "x\r\nHost: b", "x\n", "\u{7f}"] {
        let error = Secrets::new(vec![spec("A", "a.example", value)]).unwrap_err();
        assert!(
            matches!(error, InterceptionError::InvalidValue(_)),
            "{value:?}"
        );
    }
    for placeholder in ["", "x", "sandbox-secret-A-0123"] {
        let mut short = secret("A", "a.example");
        short.placeholder = placeholder.into();
        let error = Secrets::new(vec![short]).unwrap_err();
        assert!(
            matches!(error, InterceptionError::InvalidPlaceholder(_)),
            "{placeholder}"
        );
    }
}

#[test]
fn debug_output_has_no_value() {
    let secrets = Secrets::new(vec![secret("A", "a.example")]).unwrap();
    let shown = format!("{secrets:?}");
    assert!(
        shown.contains("a.example") && !shown.contains(VALUE),
        "{shown}"
    );
}

#[test]
fn duplicate_names_are_rejected() {
    let twice = vec![secret("A", "a.example"), secret("A", "b.example")];
    assert!(matches!(
        Secrets::new(twice),
        Err(InterceptionError::DuplicateName(_))
    ));
}
