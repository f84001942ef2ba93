//! The guest's users and groups, from `/etc/passwd` and `/etc/group`
//! (passwd(5), group(5)). This program is static and uses no name service.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    /// The primary group first, then all groups that list the user as a member.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: PathBuf,
    pub(crate) shell: PathBuf,
}

impl User {
    /// Returns the primary group.
    pub(crate) fn gid(&self) -> u32 {
        self.groups[0]
    }

    /// Finds a user by name, or by number if no user has that name. `etc` is
    /// the directory of the two files.
    pub(crate) fn find(etc: &Path, wanted: &str) -> io::Result<Option<Self>> {
        let passwd = read(&etc.join("passwd"))?;
        let Some(mut user) = find(&passwd, wanted) else {
            return Ok(None);
        };
        add_groups(&mut user, &read(&etc.join("group"))?);
        Ok(Some(user))
    }
}

/// Reads a file whose comment fields may have any encoding.
fn read(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

fn find(passwd: &str, wanted: &str) -> Option<User> {
    let users = || passwd.lines().filter_map(parse_user);
    users().find(|user| user.name == wanted).or_else(|| {
        let uid: u32 = wanted.parse().ok()?;
        users().find(|user| user.uid == uid)
    })
}

/// Parses `name:password:uid:gid:comment:home:shell`. Returns `None` for any
/// other line.
fn parse_user(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1).filter(|home| !home.is_empty());
    let shell = fields.next().filter(|shell| !shell.is_empty());
    Some(User {
        name,
        uid,
        groups: vec![gid],
        home: home.unwrap_or("/").into(),
        shell: shell.unwrap_or("/bin/sh").into(),
    })
}

/// Adds the groups whose line `name:password:gid:member,member` lists the user.
fn add_groups(user: &mut User, group: &str) {
    for line in group.lines() {
        let mut fields = line.split(':').skip(2);
        let (Some(gid), Some(members)) = (fields.next(), fields.next()) else {
            continue;
        };
        let Ok(gid) = gid.parse() else { continue };
        if members.split(',').any(|member| member == user.name) && !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
}

/// Finds the number of a group by its name.
pub(crate) fn find_group(etc: &Path, name: &str) -> io::Result<Option<u32>> {
    Ok(read(&etc.join("group"))?.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/bash
broken:x:zero:0
# a comment
dev:x:1000:1001:,,,:/home/dev:/bin/zsh
bare:x:7:8:::
1000:x:5:5::/five:/bin/sh
";
    const GROUP: &str = "\
root:x:0:
adm:x:4:syslog,dev
sudo:x:27:dev
developers:x:29:dev2,adev
dev:x:1001:dev
broken:x:y:dev
";

    fn groups_of(name: &str) -> Vec<u32> {
        let mut user = find(PASSWD, name).unwrap();
        add_groups(&mut user, GROUP);
        user.groups
    }

    #[test]
    fn find_matches_names_before_numbers() {
        assert_eq!(
            find(PASSWD, "dev"),
            Some(User {
                name: "dev".into(),
                uid: 1000,
                groups: vec![1001],
                home: "/home/dev".into(),
                shell: "/bin/zsh".into(),
            })
        );
        assert_eq!(find(PASSWD, "0").unwrap().name, "root");
        // The user named `1000`, not the one with that number.
        assert_eq!(find(PASSWD, "1000").unwrap().uid, 5);
        for nobody in ["", "de", "broken", "# a comment", "99", "-1"] {
            assert_eq!(find(PASSWD, nobody), None, "{nobody}");
        }
    }

    #[test]
    fn find_fills_empty_fields_with_defaults() {
        let bare = find(PASSWD, "bare").unwrap();
        assert_eq!((bare.home, bare.shell), ("/".into(), "/bin/sh".into()));
    }

    #[test]
    fn add_groups_adds_groups_with_the_user_as_member() {
        assert_eq!(groups_of("dev"), [1001, 4, 27]);
        assert_eq!(groups_of("root"), [0]);
    }
}
