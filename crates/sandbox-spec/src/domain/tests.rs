//! Host names, and patterns that match them.

use super::*;

fn name(text: &str) -> DomainName {
    text.parse().unwrap()
}

#[test]
fn domain_name_parses_to_its_canonical_form() {
    for (text, expected) in [
        ("example.com", "example.com"),
        ("EXAMPLE.Com.", "example.com"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.EXAMPLE", "xn--bcher-kva.example"),
        ("faß.de", "xn--fa-hia.de"),
        ("ｅｘａｍｐｌｅ。com", "example.com"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("r3---sn-x.example", "r3---sn-x.example"),
        ("localhost", "localhost"),
        ("4.pool.ntp.org", "4.pool.ntp.org"),
    ] {
        assert_eq!(name(text).as_str(), expected);
    }
    let long = format!("{}.com", ["a".repeat(63).as_str(); 3].join("."));
    assert_eq!(name(&long).as_str(), long);
}

#[test]
fn domain_name_of_another_form_is_refused() {
    let long_label = "a".repeat(64);
    let long_name = ["a".repeat(63).as_str(); 4].join(".");
    let huge = "ü".repeat(5000);
    for text in [
        "",
        ".",
        "..",
        "example..com",
        ".com",
        "example.com..",
        "a b",
        "a\0b",
        "a/b",
        "a@b",
        "user@example.com",
        "example.com:80",
        "[::1]",
        "xn--\u{7f}",
        "xn--a-ecp.ru",
        "*.com",
        &long_label,
        &long_name,
        &huge,
    ] {
        assert!(
            matches!(text.parse::<DomainName>(), Err(DomainError::Form(_))),
            "{text:?}"
        );
    }
}

#[test]
fn address_in_any_notation_is_not_a_domain_name() {
    for text in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7F000001",
        "1.2.3.4.",
        "foo.0",
        "１２７.0.0.1",
        "a.0x",
    ] {
        assert!(
            matches!(text.parse::<DomainName>(), Err(DomainError::Address(_))),
            "{text:?}"
        );
    }
}

#[test]
fn domain_pattern_matches_whole_labels() {
    for (pattern, inside, outside) in [
        (
            "example.com",
            &["example.com"][..],
            &[
                "www.example.com",
                "example.com.evil.org",
                "xexample.com",
                "com",
            ][..],
        ),
        (
            "*.example.com",
            &["www.example.com", "a.b.example.com"],
            &["example.com", "wwwexample.com", "example.com.evil.org"],
        ),
        (
            ".example.com",
            &["example.com", "www.example.com", "a.b.example.com"],
            &["notexample.com", "example.com.evil.org", "example.org"],
        ),
        (
            "*.Bücher.example",
            &["www.xn--bcher-kva.example"],
            &["bucher.example"],
        ),
    ] {
        let pattern: DomainPattern = pattern.parse().unwrap();
        for text in inside {
            assert!(pattern.matches(&name(text)), "{pattern} {text}");
        }
        for text in outside {
            assert!(!pattern.matches(&name(text)), "{pattern} {text}");
        }
    }
}

#[test]
fn domain_pattern_parses_its_own_text() {
    for text in [
        "example.com",
        "*.example.com",
        ".example.com",
        r"^(a|b)\.example\.com$",
    ] {
        let pattern: DomainPattern = text.parse().unwrap();
        assert_eq!(pattern.to_string(), text);
        let json = serde_json::to_string(&pattern).unwrap();
        assert_eq!(
            serde_json::from_str::<DomainPattern>(&json).unwrap(),
            pattern
        );
    }
}

#[test]
fn star_inside_a_domain_pattern_is_refused() {
    for text in ["*", "a.*.com", "*example.com", "*.*.com", ".*.com"] {
        let error = text.parse::<DomainPattern>().unwrap_err();
        assert!(matches!(error, DomainError::Wildcard(_)), "{text} {error}");
        assert!(error.hint().is_some());
    }
    for text in ["*.", "..com", "", "^x", "x$", "10.0.0.1", ".10"] {
        assert!(text.parse::<DomainPattern>().is_err(), "{text}");
    }
}
