//! `sandbox proxy ask`, at a terminal.

use super::World;
use super::proxy::reaches;
use super::world::OTHER;
use crate::harness::{Host, Terminal, eventually};

/// Answers the question about each denied name. Expects a guest in proxy mode.
pub(super) fn decide_each_name_once(world: &World, host: &Host) {
    let names = ["earlier", "always", "once", "deny"].map(|name| format!("{name}.test"));
    for name in &names {
        world.servers.zone().set(name, &[OTHER]);
    }
    let [earlier, always, once, deny] = names.each_ref().map(String::as_str);

    // The command also asks about names that were denied before it started.
    assert_eq!(reaches(host, earlier), "403");
    let mut terminal = Terminal::open(&host.command(["proxy", "ask"]));
    terminal.expect("waiting for denied domains");
    let question =
        |name: &str| format!("`{name}` was denied (asked by HTTP): allow it [o]nce, [a]lways");
    let mut answer = |name: &str, answers: &[&str]| {
        for text in answers {
            terminal.expect(&question(name));
            terminal.send(&format!("{text}\r"));
        }
    };
    answer(earlier, &["deny"]);
    assert_eq!(reaches(host, always), "403");
    // An invalid answer repeats the question.
    answer(always, &["yes", "always"]);
    assert_eq!(reaches(host, once), "403");
    answer(once, &["once"]);
    assert_eq!(reaches(host, deny), "403");
    // An empty answer denies.
    answer(deny, &[""]);
    for name in [always, once] {
        eventually("an allowed name to be reachable", || {
            (reaches(host, name) == "200").then_some(())
        });
    }
    // No question is repeated: the next one is about the next name.
    for name in [earlier, deny] {
        assert_eq!(reaches(host, name), "403");
    }
    assert_eq!(reaches(host, "last.test"), "403");
    answer("last.test", &["q"]);
    let shown = terminal.text();
    assert_eq!(terminal.finish(), 0, "{shown}");
    for (name, times) in [(earlier, 1), (always, 2), (once, 1), (deny, 1)] {
        assert_eq!(shown.matches(&question(name)).count(), times, "{shown}");
    }
    let message = format!("allowed `{once}` until the sandbox stops");
    assert!(shown.contains(&message), "{shown}");
    assert!(
        shown.contains(&format!("allowed `{always}`\r\n")),
        "{shown}"
    );

    // Only `always` is on the allowlist, and both allowed names stay reachable.
    let list = host.run(["proxy", "list"]).success();
    assert!(list.stdout.contains(always), "{list}");
    for name in [earlier, once, deny, "last.test"] {
        assert!(!list.stdout.contains(name), "{list}");
    }
    assert_eq!(reaches(host, always), "200");
    assert_eq!(reaches(host, once), "200");

    // Without a terminal, the command fails.
    let output = host.run(["proxy", "ask"]);
    assert_eq!(output.status, 1, "{output}");
    assert!(
        output.stderr.contains("could not ask: not a terminal"),
        "{output}"
    );
}
