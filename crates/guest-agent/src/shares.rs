//! The host's directories that the seed wants mounted.
//!
//! The seed describes them as mount units for systemd, which so knows them by
//! description and options. They are mounted here, by the agent, without mount(8)
//! and systemd: a start need not wait for those, and a restored guest's systemd
//! has never seen the units.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::credentials::Credentials;
use crate::files::{self, Owner, WriteError};
use crate::mountinfo;

/// Credentials of this name are units (systemd-debug-generator(8)).
const UNIT_PREFIX: &str = "systemd.extra-unit.";
const MOUNT_SUFFIX: &str = ".mount";

/// Where systemd-debug-generator(8) writes such units, below `/run`.
const UNIT_DIRECTORY: &str = "systemd/generator.early";

/// What the agent's unit is completed by.
const DROP_INS: &str = "sandbox-agent.service.d";

/// Why a share is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShareError {
    /// The credential lacks a line.
    #[error("missing `{key}=` in the mount unit `{unit}`")]
    Unit { unit: String, key: &'static str },
    /// What tells of shares cannot be read.
    #[error("could not read `{path}`")]
    Read { path: PathBuf, source: io::Error },
    /// There is no directory to mount it on.
    #[error("could not create the mount point `{path}`")]
    MountPoint { path: PathBuf, source: io::Error },
    /// The kernel refused.
    #[error("could not mount the share `{source_name}` at `{path}`")]
    Mount {
        source_name: String,
        path: PathBuf,
        source: Errno,
    },
}

/// One share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share {
    /// Where; first, since what is mounted below another comes after it.
    mount_point: PathBuf,
    /// Its mount tag.
    source: String,
    /// The type of file system.
    kind: String,
    /// Options in the order of mount(8)'s `-o`.
    options: String,
}

/// The shares of a seed, outer ones before those that lie in them.
pub(crate) fn of(credentials: &Credentials) -> Result<Vec<Share>, ShareError> {
    let mut shares = Vec::new();
    for (unit, text) in units(credentials) {
        shares.push(Share::parse(unit, &String::from_utf8_lossy(text))?);
    }
    shares.sort();
    Ok(shares)
}

/// Writes the mount units of a seed to where the generator, which is masked
/// until the sandbox is ready, will write the same, and makes the agent's unit
/// mention them, so that systemd knows them from its start. To a mount without
/// a unit, it would give dependencies by which nearly all units of Debian are
/// loaded.
pub(crate) fn write_units(
    credentials: &Credentials,
    run: &Path,
    owner: Owner,
) -> Result<(), WriteError> {
    let units: Vec<_> = units(credentials).collect();
    if units.is_empty() {
        return Ok(());
    }
    let directory = run.join(UNIT_DIRECTORY);
    let drop_ins = directory.join(DROP_INS);
    files::make_directory(&directory, 0o755, owner)?;
    files::make_directory(&drop_ins, 0o755, owner)?;
    for (name, text) in &units {
        files::write(&directory.join(name), text, 0o644, owner)?;
    }
    let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
    let text = format!("[Unit]\nBefore={}\n", names.join(" "));
    files::write(
        &drop_ins.join("10-shares.conf"),
        text.as_bytes(),
        0o644,
        owner,
    )
}

/// Mounts the shares whose units [`write_units`] wrote.
pub(crate) fn mount_written(run: &Path) -> Result<(), ShareError> {
    let shares = written(&run.join(UNIT_DIRECTORY))?;
    // An agent that systemd has restarted finds some mounted.
    let mounted = mountinfo::read().map_err(|source| ShareError::Read {
        path: mountinfo::PATH.into(),
        source,
    })?;
    for share in shares {
        if !mounted
            .iter()
            .any(|mount| share.mount_point == *mount.point)
        {
            share.mount()?;
        }
    }
    Ok(())
}

/// The shares whose units lie in a directory.
fn written(directory: &Path) -> Result<Vec<Share>, ShareError> {
    let read = |source| ShareError::Read {
        path: directory.to_owned(),
        source,
    };
    let mut shares = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(shares),
        entries => entries.map_err(read)?,
    };
    for entry in entries {
        let entry = entry.map_err(read)?;
        let unit = entry.file_name().to_string_lossy().into_owned();
        if unit.ends_with(MOUNT_SUFFIX) {
            let text = fs::read_to_string(entry.path()).map_err(read)?;
            shares.push(Share::parse(&unit, &text)?);
        }
    }
    shares.sort();
    Ok(shares)
}

/// The mount units of a seed: name and content.
fn units(credentials: &Credentials) -> impl Iterator<Item = (&str, &[u8])> {
    credentials.iter().filter_map(|(name, value)| {
        let unit = name.strip_prefix(UNIT_PREFIX)?;
        unit.ends_with(MOUNT_SUFFIX).then_some((unit, value))
    })
}

impl Share {
    /// Reads the section `[Mount]` of a unit file, as the host writes it:
    /// without quotes, each percent sign doubled (systemd.unit(5)).
    fn parse(unit: &str, text: &str) -> Result<Self, ShareError> {
        let value = |key: &'static str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .find(|(name, _)| name.trim() == key)
                .map(|(_, value)| value.trim().replace("%%", "%"))
                .ok_or_else(|| ShareError::Unit {
                    unit: unit.to_owned(),
                    key,
                })
        };
        Ok(Self {
            mount_point: value("Where")?.into(),
            source: value("What")?,
            kind: value("Type")?,
            options: value("Options")?,
        })
    }

    /// Makes the mount point, if need be, and mounts the share.
    pub(crate) fn mount(&self) -> Result<(), ShareError> {
        let path = || self.mount_point.clone();
        fs::create_dir_all(&self.mount_point).map_err(|source| ShareError::MountPoint {
            path: path(),
            source,
        })?;
        let failed = |source| ShareError::Mount {
            source_name: self.source.clone(),
            path: path(),
            source,
        };
        let (flags, data) = flags_and_data(&self.options);
        let data = CString::new(data).map_err(|_| failed(Errno::INVAL))?;
        rustix::mount::mount(
            &self.source,
            &self.mount_point,
            &self.kind,
            flags,
            data.as_c_str(),
        )
        .map_err(failed)
    }
}

/// Takes apart what mount(8) takes apart: options of every file system become
/// flags, the file system's own remain.
fn flags_and_data(options: &str) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => flags |= MountFlags::RDONLY,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "noatime" => flags |= MountFlags::NOATIME,
            "rw" | "defaults" => {}
            own => data.push(own),
        }
    }
    (flags, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "\
[Unit]
Description=What=else

[Mount]
What=share1
Where=/srv/100%%h of it
Type=9p
Options=trans=virtio,msize=512000,ro
";

    #[test]
    fn units_become_shares() {
        assert_eq!(
            Share::parse("x.mount", UNIT).unwrap(),
            Share {
                mount_point: "/srv/100%h of it".into(),
                source: "share1".into(),
                kind: "9p".into(),
                options: "trans=virtio,msize=512000,ro".into(),
            }
        );
        let error = Share::parse("x.mount", "[Mount]\nWhat=a\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "missing `Where=` in the mount unit `x.mount`"
        );
    }

    #[test]
    fn outer_shares_come_first_and_other_units_are_none() {
        let unit = |path: &str| UNIT.replace("/srv/100%%h of it", path);
        let credentials = Credentials::from([
            ("systemd.extra-unit.a.mount", unit("/srv/inner").as_str()),
            ("systemd.extra-unit.b.mount", unit("/srv").as_str()),
            ("systemd.extra-unit.c.service", "[Service]"),
            ("sandbox.hostname", "x.mount"),
        ]);
        let points: Vec<_> = of(&credentials)
            .unwrap()
            .into_iter()
            .map(|share| share.mount_point)
            .collect();
        assert_eq!(points, [PathBuf::from("/srv"), "/srv/inner".into()]);
    }

    #[test]
    fn what_is_written_for_systemd_is_what_is_mounted_later() {
        let run = std::env::temp_dir().join(format!("shares-{}", std::process::id()));
        let unit = |path: &str| UNIT.replace("/srv/100%%h of it", path);
        let credentials = Credentials::from([
            (
                "systemd.extra-unit.srv-inner.mount",
                unit("/srv/inner").as_str(),
            ),
            ("systemd.extra-unit.srv.mount", unit("/srv").as_str()),
            ("systemd.extra-unit.c.service", "[Service]"),
        ]);
        let me = Owner(rustix::process::getuid().as_raw());
        write_units(&credentials, &run, me).unwrap();
        let directory = run.join(UNIT_DIRECTORY);
        assert_eq!(written(&directory).unwrap(), of(&credentials).unwrap());
        let drop_in = directory.join(DROP_INS).join("10-shares.conf");
        assert_eq!(
            fs::read_to_string(drop_in).unwrap(),
            "[Unit]\nBefore=srv-inner.mount srv.mount\n"
        );
        fs::remove_dir_all(&run).unwrap();
        assert_eq!(written(&directory).unwrap(), []);
    }

    #[test]
    fn options_of_the_kernel_and_of_the_file_system() {
        assert_eq!(
            flags_and_data("trans=virtio,ro,cache=mmap,directio,nosuid"),
            (
                MountFlags::RDONLY | MountFlags::NOSUID,
                "trans=virtio,cache=mmap,directio".to_owned()
            )
        );
        assert_eq!(flags_and_data("rw"), (MountFlags::empty(), String::new()));
    }
}
