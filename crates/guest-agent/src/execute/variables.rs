//! The environment of a session: the variables of a login, and those that the
//! host adds.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::accounts::User;

/// The guest directories that a session depends on. Tests replace them.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// `/etc`.
    pub(crate) etc: std::path::PathBuf,
    /// `/run/user`.
    pub(crate) runtime: std::path::PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            etc: "/etc".into(),
            runtime: "/run/user".into(),
        }
    }
}

/// Names and values of variables.
pub(crate) type Variables = BTreeMap<OsString, OsString>;

/// Returns the login environment of `user`.
pub(crate) fn for_user(user: &User, places: &Places) -> Variables {
    let mut variables = Variables::new();
    for file in ["locale.conf", "environment"] {
        // Both files are optional (locale.conf(5), environment(5)).
        let text = fs::read(places.etc.join(file)).unwrap_or_default();
        variables.extend(assignments(&text));
    }
    let home = user.home.as_os_str();
    let mut path = home.to_owned();
    path.push("/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let name = OsStr::new(&user.name);
    for (key, value) in [
        ("HOME", home),
        ("USER", name),
        ("LOGNAME", name),
        ("SHELL", user.shell.as_os_str()),
    ] {
        variables.insert(key.into(), value.into());
    }
    // `/etc/environment` may set `PATH`.
    variables.entry("PATH".into()).or_insert(path);
    variables.extend(user_manager_variables(
        &places.runtime.join(user.uid.to_string()),
    ));
    variables
}

/// Returns the variables that lead to the user's systemd and D-Bus, if they run
/// (pam_systemd(8)).
fn user_manager_variables(runtime: &Path) -> Variables {
    let mut variables = Variables::new();
    if runtime.is_dir() {
        variables.insert("XDG_RUNTIME_DIR".into(), runtime.into());
        let bus = runtime.join("bus");
        if bus.exists() {
            let mut address = OsString::from("unix:path=");
            address.push(bus);
            variables.insert("DBUS_SESSION_BUS_ADDRESS".into(), address);
        }
    }
    variables
}

/// Parses lines `NAME=VALUE` like pam_env(8): drops `export` before the name
/// and quotes around the value.
fn assignments(text: &[u8]) -> impl Iterator<Item = (OsString, OsString)> {
    text.split(|&byte| byte == b'\n').filter_map(|line| {
        let line = line.trim_ascii();
        let line = line.strip_prefix(b"export ").unwrap_or(line);
        let equals = line.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (&line[..equals], unquoted(&line[equals + 1..]));
        let is_name = !name.is_empty()
            && name
                .iter()
                .all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_');
        is_name.then(|| (to_os(name), to_os(value)))
    })
}

fn unquoted(value: &[u8]) -> &[u8] {
    let value = match value {
        [b'"' | b'\'', rest @ ..] => rest,
        _ => return value,
    };
    match value {
        [rest @ .., b'"' | b'\''] => rest,
        _ => value,
    }
}

fn to_os(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}

/// Adds variables that the host asks for.
///
/// # Errors
/// The name of a variable whose name or value is invalid.
pub(crate) fn add(
    variables: &mut Variables,
    added: Vec<(Vec<u8>, Vec<u8>)>,
) -> Result<(), OsString> {
    for (name, value) in added {
        let is_valid = !name.is_empty() && !name.contains(&b'=') && !name.contains(&0);
        let name = OsString::from_vec(name);
        if !is_valid || value.contains(&0) {
            return Err(name);
        }
        variables.insert(name, OsString::from_vec(value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> User {
        User {
            name: "dev".into(),
            uid: 1000,
            groups: vec![1000],
            home: "/home/dev".into(),
            shell: "/bin/bash".into(),
        }
    }

    fn text(variables: &Variables) -> Vec<String> {
        variables
            .iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect()
    }

    #[test]
    fn for_user_returns_the_variables_of_a_login() {
        let root = std::env::temp_dir().join(format!("guest-variables-{}", std::process::id()));
        let places = Places {
            etc: root.join("etc"),
            runtime: root.join("run"),
        };
        let bare = text(&for_user(&user(), &places));
        assert_eq!(
            bare,
            [
                "HOME=/home/dev",
                "LOGNAME=dev",
                "PATH=/home/dev/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "SHELL=/bin/bash",
                "USER=dev",
            ]
        );
        fs::create_dir_all(places.runtime.join("1000")).unwrap();
        fs::write(places.runtime.join("1000/bus"), "").unwrap();
        fs::create_dir_all(&places.etc).unwrap();
        fs::write(places.etc.join("locale.conf"), "LANG=C.UTF-8\n").unwrap();
        fs::write(places.etc.join("environment"), "A=1\nHOME=/x\nPATH=/only\n").unwrap();
        let runtime = places.runtime.join("1000");
        assert_eq!(
            text(&for_user(&user(), &places)),
            [
                "A=1".to_owned(),
                format!(
                    "DBUS_SESSION_BUS_ADDRESS=unix:path={}/bus",
                    runtime.display()
                ),
                "HOME=/home/dev".to_owned(),
                "LANG=C.UTF-8".to_owned(),
                "LOGNAME=dev".to_owned(),
                "PATH=/only".to_owned(),
                "SHELL=/bin/bash".to_owned(),
                "USER=dev".to_owned(),
                format!("XDG_RUNTIME_DIR={}", runtime.display()),
            ]
        );
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn assignments_drop_export_quotes_and_invalid_lines() {
        let file =
            b"A=a b\n export B=\"c d\" \nC='e'\nD=\"\n# E=1\nF G=1\n=1\nH=\nI=x=\"y\"\nJ=\xff\n";
        let read: Vec<_> = assignments(file)
            .map(|(name, value)| (name.into_vec(), value.into_vec()))
            .collect();
        let expected: [(&[u8], &[u8]); 7] = [
            (b"A", b"a b"),
            (b"B", b"c d"),
            (b"C", b"e"),
            (b"D", b""),
            (b"H", b""),
            (b"I", b"x=\"y\""),
            (b"J", b"\xff"),
        ];
        let expected = expected.map(|(name, value)| (name.to_vec(), value.to_vec()));
        assert_eq!(read, expected);
    }

    #[test]
    fn add_refuses_invalid_names_and_values() {
        let add_one = |name: &[u8], value: &[u8]| {
            add(&mut Variables::new(), vec![(name.to_vec(), value.to_vec())])
        };
        assert_eq!(add_one(b"A", b"=\n"), Ok(()));
        for (name, value) in [
            (&b""[..], &b"x"[..]),
            (b"A=", b""),
            (b"A\0", b""),
            (b"A", b"\0"),
        ] {
            let invalid = OsString::from_vec(name.to_vec());
            assert_eq!(add_one(name, value), Err(invalid));
        }
    }
}
