//! Runs the lines in real shells, and compares the results.

use super::*;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Output};

const SHELLS: [&str; 2] = ["sh", "bash"];

fn command(argv: &[&[u8]]) -> GuestCommand {
    GuestCommand {
        argv: argv
            .iter()
            .map(|word| OsString::from_vec(word.to_vec()))
            .collect(),
        workdir: None,
        environment: Vec::new(),
        user: "dev".into(),
    }
}

fn run(shell: &str, line: &[u8]) -> Output {
    Command::new(shell)
        .arg("-c")
        .arg(OsStr::from_bytes(line))
        .output()
        .unwrap()
}

#[test]
fn line_with_any_bytes_passes_words_unchanged() {
    let every_byte: Vec<u8> = (1..=255).collect();
    let words: Vec<&[u8]> = vec![
        b"",
        b" ",
        b"plain",
        b"two words",
        b"'",
        b"'\\''",
        b"\"",
        b"\\",
        b"\\\\n",
        b"$HOME ${HOME} $(id) `id`",
        b"*",
        b"?[a-z]",
        b"~",
        b"~root",
        b"!!",
        b"#comment",
        b"a;b&c|d>e<f",
        b"{a,b}",
        b"-n",
        b"--",
        b"A=B",
        b"line\nline\n",
        b"\n",
        b"\t\r",
        b"\xff\xfe",
        "Grüße ✓".as_bytes(),
        &every_byte,
        b"",
    ];
    let mut argv: Vec<&[u8]> = vec![b"printf", b"%s\\0"];
    argv.extend(&words);
    let line = command(&argv).line().unwrap();
    for shell in SHELLS {
        let output = run(shell, &line);
        assert!(output.status.success(), "{shell}: {output:?}");
        let mut received: Vec<&[u8]> = output.stdout.split(|&byte| byte == 0).collect();
        assert_eq!(received.pop(), Some(&b""[..]));
        assert_eq!(received, words, "{shell}");
    }
}

#[test]
fn line_with_workdir_and_environment_sets_both_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let workdir = directory.path().join("it's a \"dir\" $x\n");
    fs::create_dir(&workdir).unwrap();
    // Without `sh` in between, which would drop an invalid variable name.
    let mut command = command(&[b"env", b"-0"]);
    command.workdir = Some(workdir.clone());
    command.environment = vec![
        EnvironmentVariable::new("QUOTED".into(), "a 'b' $c\n\"d\"".into()).unwrap(),
        EnvironmentVariable::new("not-a.name".into(), "=x=".into()).unwrap(),
    ];
    let line = command.line().unwrap();
    let directory = [b"PWD=", workdir.as_os_str().as_bytes()].concat();
    for shell in SHELLS {
        let output = run(shell, &line);
        let variables: Vec<&[u8]> = output.stdout.split(|&byte| byte == 0).collect();
        for expected in [&directory[..], b"QUOTED=a 'b' $c\n\"d\"", b"not-a.name==x="] {
            assert!(variables.contains(&expected), "{shell}: {output:?}");
        }
    }
}

#[test]
fn line_returns_status_and_signal_of_command() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("a=b");
    fs::write(&program, "#!/bin/sh\nprintf '%s' \"$1\"; exit 7\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, executable).unwrap();
    let program = program.as_os_str().as_bytes();
    let cases: &[(&[&[u8]], i32, &str)] = &[
        (&[b"true"], 0, ""),
        (&[b"sh", b"-c", b"exit 3"], 3, ""),
        (&[b"no-such-program"], 127, ""),
        (&[b""], 127, ""),
        (&[b"-program"], 127, ""),
        (&[b"/etc/passwd"], 126, ""),
        (&[program, b"x y"], 7, "x y"),
    ];
    for shell in SHELLS {
        for (argv, status, stdout) in cases {
            let output = run(shell, &command(argv).line().unwrap());
            assert_eq!(
                output.status.code(),
                Some(*status),
                "{shell} {argv:?} {output:?}"
            );
            assert_eq!(output.stdout, stdout.as_bytes(), "{shell} {argv:?}");
        }
        let killed = run(
            shell,
            &command(&[b"sh", b"-c", b"kill -9 $$"]).line().unwrap(),
        );
        let signal = std::os::unix::process::ExitStatusExt::signal(&killed.status);
        assert_eq!(signal, Some(9), "{shell}");
    }
}

#[test]
fn line_with_missing_workdir_names_it() {
    for workdir in ["/no/such 'dir'", "-", "relative"] {
        let mut command = command(&[b"true"]);
        command.workdir = Some(workdir.into());
        for shell in SHELLS {
            let output = run(shell, &command.line().unwrap());
            assert_eq!(output.status.code(), Some(NOT_STARTED.into()), "{shell}");
            assert_eq!(
                String::from_utf8_lossy(&output.stderr),
                format!("sandbox: could not enter the directory `{workdir}` in the sandbox\n"),
            );
        }
    }
}

#[test]
fn line_with_unknown_user_names_it_and_logs_in_as_root() {
    let mut command = command(&[b"id", b"-un"]);
    assert_eq!(command.login_user(), "dev");
    command.user = "root".into();
    assert_eq!(command.login_user(), "root");
    command.user = "www-data".into();
    assert_eq!(command.login_user(), "root");
    command.user = "no such 'user'".into();
    for shell in SHELLS {
        let output = run(shell, &command.line().unwrap());
        assert_eq!(output.status.code(), Some(NOT_STARTED.into()), "{output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "sandbox: user `no such 'user'` not found in the sandbox\n",
        );
    }
}

#[test]
fn line_with_invalid_command_is_refused() {
    assert!(matches!(
        command(&[]).line(),
        Err(SshError::Command(CommandError::Empty))
    ));
    assert!(matches!(
        command(&[b"a\0b"]).line(),
        Err(SshError::Command(CommandError::NullByte { .. }))
    ));
    let longest = vec![b'x'; LINE_LIMIT - "exec env -- 'true' ''".len()];
    let line = command(&[b"true", &longest]).line().unwrap();
    assert!(run("sh", &line).status.success());
    let longer = [&longest[..], b"x"].concat();
    assert!(matches!(
        command(&[b"true", &longer]).line(),
        Err(SshError::CommandTooLong { .. })
    ));
}

#[test]
fn login_shell_with_missing_workdir_starts_in_home() {
    let line = login_shell(std::path::Path::new("/no/such"));
    let output = Command::new("bash")
        .arg("-c")
        .arg(OsStr::from_bytes(&line))
        .env("SHELL", "/bin/echo")
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"-l\n");
    assert!(
        output
            .stderr
            .starts_with(b"sandbox: could not enter the directory `/no/such`")
    );
    let line = login_shell(std::path::Path::new("/tmp"));
    let output = run("bash", &[&line[..], b" -c pwd"].concat());
    assert_eq!(output.stdout, b"/tmp\n");
}
