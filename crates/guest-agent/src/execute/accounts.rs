//! The users and groups of the guest, from `/etc/passwd` and `/etc/group`
//! (passwd(5), group(5)): this program is static and asks no name service.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    /// The primary group and those that name the user as a member.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: PathBuf,
    pub(crate) shell: PathBuf,
}

impl User {
    /// The primary group.
    pub(crate) fn gid(&self) -> u32 {
        self.groups[0]
    }

    /// Looks a user up by name or, if there is no such name, by number; `etc`
    /// is the directory of the two files.
    pub(crate) fn find(etc: &Path, wanted: &str) -> io::Result<Option<Self>> {
        let passwd = read(&etc.join("passwd"))?;
        let Some(mut user) = find(&passwd, wanted) else {
            return Ok(None);
        };
        add_groups(&mut user, &read(&etc.join("group"))?);
        Ok(Some(user))
    }
}

/// Comments of accounts may be in any encoding.
fn read(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

fn find(passwd: &str, wanted: &str) -> Option<User> {
    let users = || passwd.lines().filter_map(user);
    users().find(|user| user.name == wanted).or_else(|| {
        let uid: u32 = wanted.parse().ok()?;
        users().find(|user| user.uid == uid)
    })
}

/// `name:password:uid:gid:comment:home:shell`; lines of another form are none.
fn user(line: &str) -> Option<User> {
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

/// `name:password:gid:member,member`.
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

/// The number of a group.
pub(crate) fn group_number(etc: &Path, name: &str) -> io::Result<Option<u32>> {
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
    fn by_name_and_by_number() {
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
        // A name may look like a number; it comes first.
        assert_eq!(find(PASSWD, "1000").unwrap().uid, 5);
        for nobody in ["", "de", "broken", "# a comment", "99", "-1"] {
            assert_eq!(find(PASSWD, nobody), None, "{nobody}");
        }
    }

    #[test]
    fn empty_fields_have_defaults() {
        let bare = find(PASSWD, "bare").unwrap();
        assert_eq!((bare.home, bare.shell), ("/".into(), "/bin/sh".into()));
    }

    #[test]
    fn groups_of_members() {
        assert_eq!(groups_of("dev"), [1001, 4, 27]);
        assert_eq!(groups_of("root"), [0]);
    }
}
