//! The format, edits and the default allowlist.

use std::os::unix::fs::PermissionsExt;

use super::*;
use sandbox_spec::domain::{DomainName, DomainPattern};

fn name(text: &str) -> DomainName {
    text.parse().unwrap()
}

fn pattern(text: &str) -> DomainPattern {
    text.parse().unwrap()
}

fn found(list: &AllowList, text: &str) -> Option<String> {
    list.find(&name(text)).map(ToString::to_string)
}

#[test]
fn allowlist_parses_entries_comments_and_expressions() {
    let list = AllowList::parse(
        "# a comment\n\nexample.com # beside\n  *.example.org  \r\n.Bücher.example\n\
         ^(.*\\.)?old\\.example$\n^api[0-9]+\\.example\\.net$\n",
    );
    assert_eq!(list.faults(), []);
    assert_eq!(list.patterns().len(), 5);
    for (text, expected) in [
        ("example.com", Some("example.com")),
        ("www.example.com", None),
        ("example.org", None),
        ("a.b.example.org", Some("*.example.org")),
        ("xn--bcher-kva.example", Some(".xn--bcher-kva.example")),
        ("www.bücher.example", Some(".xn--bcher-kva.example")),
        ("old.example", Some(".old.example")),
        ("very.old.example", Some(".old.example")),
        ("bold.example", None),
        ("api7.example.net", Some(r"^api[0-9]+\.example\.net$")),
        ("api7.example.net.evil.org", None),
        ("example", None),
    ] {
        assert_eq!(found(&list, text).as_deref(), expected, "{text}");
    }
}

#[test]
fn invalid_lines_are_reported_and_allow_no_name() {
    let list = AllowList::parse("a.example\n*\nb..example\n10.0.0.1\n^(c$\nhttps://d.example\n");
    let lines: Vec<_> = list.faults().iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6]);
    assert_eq!(list.patterns(), [pattern("a.example")]);
    for text in ["b.example", "c", "d.example", "x.example"] {
        assert_eq!(found(&list, text), None);
    }
}

#[test]
fn huge_allowlist_is_truncated() {
    let text: String = (0..60_000)
        .map(|number| format!("h{number}.example\n"))
        .collect();
    let list = AllowList::parse(&text);
    assert_eq!(list.patterns().len(), 50_000);
    assert_eq!(found(&list, "h59999.example"), None);
    let text: String = (0..600)
        .map(|number| format!("^(a|b){number}$\n"))
        .collect();
    assert_eq!(AllowList::parse(&text).patterns().len(), 500);
}

#[test]
fn default_allowlist_is_valid_and_marks_upload_hosts() {
    let list = AllowList::parse(DEFAULT);
    assert_eq!(list.faults(), []);
    let mut seen = std::collections::HashSet::new();
    for entry in list.patterns() {
        assert!(seen.insert(entry.to_string()), "{entry} is a duplicate");
        assert!(!matches!(entry, DomainPattern::Expression(_)));
    }
    for text in [
        "github.com",
        "registry.npmjs.org",
        "files.pythonhosted.org",
        "ghcr.io",
    ] {
        let line = DEFAULT.lines().find(|line| line.starts_with(text)).unwrap();
        assert!(line.contains(OPEN_TO_UPLOADS), "{line}");
    }
    for text in [
        "deb.debian.org",
        "index.crates.io",
        "api.anthropic.com",
        "proxy.golang.org",
    ] {
        assert!(list.find(&name(text)).is_some(), "{text}");
    }
}

#[test]
fn edits_keep_other_lines() {
    let directory = tempfile::tempdir().unwrap();
    let file = ListFile::in_directory(&directory.path().join("new"));
    assert!(file.create_if_absent().unwrap());
    assert!(!file.create_if_absent().unwrap());
    std::fs::write(file.path(), "# mine\na.example # why\n.b.example\nbad line").unwrap();
    let added = file
        .add(&["c.example", "www.b.example", "*.b.example", "c.example"].map(pattern))
        .unwrap();
    let by = |text: &str, by: &str| Added::Already {
        pattern: pattern(text),
        by: pattern(by),
    };
    assert_eq!(
        added,
        [
            Added::New {
                pattern: pattern("c.example")
            },
            by("www.b.example", ".b.example"),
            by("*.b.example", ".b.example"),
            by("c.example", "c.example"),
        ]
    );
    let text = std::fs::read_to_string(file.path()).unwrap();
    assert_eq!(
        text,
        "# mine\na.example # why\n.b.example\nbad line\nc.example\n"
    );
    let removed = file
        .remove(&["a.example", "www.b.example", "d.example"].map(pattern))
        .unwrap();
    assert_eq!(
        removed,
        [
            Removed::Gone {
                pattern: pattern("a.example")
            },
            Removed::StillAllowed {
                pattern: pattern("www.b.example"),
                by: pattern(".b.example"),
            },
            Removed::NotListed {
                pattern: pattern("d.example")
            },
        ]
    );
    let text = std::fs::read_to_string(file.path()).unwrap();
    assert_eq!(text, "# mine\n.b.example\nbad line\nc.example\n");
    let (entries, faults) = file.entries().unwrap();
    assert_eq!((entries.len(), faults.len(), faults[0].line), (2, 1, 3));
    let mode = std::fs::metadata(file.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    file.reset().unwrap();
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), DEFAULT);
}

#[test]
fn edit_of_missing_file_starts_from_default() {
    let directory = tempfile::tempdir().unwrap();
    let file = ListFile::in_directory(directory.path());
    let (entries, _) = file.entries().unwrap();
    let marked = entries.iter().filter(|entry| {
        entry
            .comment
            .as_deref()
            .is_some_and(|it| it.starts_with(OPEN_TO_UPLOADS))
    });
    assert!(marked.count() > 10);
    file.add(&[pattern("new.example")]).unwrap();
    let text = std::fs::read_to_string(file.path()).unwrap();
    assert_eq!(text, format!("{DEFAULT}new.example\n"));
}

#[test]
fn concurrent_edits_lose_no_entry() {
    let directory = tempfile::tempdir().unwrap();
    let file = ListFile::in_directory(directory.path());
    std::thread::scope(|scope| {
        for number in 0..8 {
            let file = &file;
            scope.spawn(move || file.add(&[pattern(&format!("h{number}.example"))]).unwrap());
        }
    });
    let text = std::fs::read_to_string(file.path()).unwrap();
    for number in 0..8 {
        assert!(text.contains(&format!("h{number}.example\n")));
    }
}
