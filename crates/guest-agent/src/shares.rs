//! Mounts the shares of the seed.
//!
//! The seed contains a mount unit for each share, so that systemd knows its
//! description and options. The agent mounts them itself: it is faster than
//! mount(8) and systemd, and the systemd of a restored guest has never seen the
//! units.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::credentials::Credentials;
use crate::files::{self, Owner, WriteError};
use crate::mountinfo;

/// The prefix of credentials that contain a unit (systemd-debug-generator(8)).
const UNIT_PREFIX: &str = "systemd.extra-unit.";
const MOUNT_SUFFIX: &str = ".mount";

/// The directory below `/run` to which systemd-debug-generator(8) writes these
/// units.
const UNIT_DIRECTORY: &str = "systemd/generator.early";

/// The drop-in directory of the agent's unit.
const DROP_INS: &str = "sandbox-agent.service.d";

/// A share that could not be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShareError {
    /// The unit lacks a line.
    #[error("missing `{key}=` in the mount unit `{unit}`")]
    Unit { unit: String, key: &'static str },
    /// The units or the list of mounts could not be read.
    #[error("could not read `{path}`")]
    Read { path: PathBuf, source: io::Error },
    /// The mount point does not exist and could not be created.
    #[error("could not create the mount point `{path}`")]
    MountPoint { path: PathBuf, source: io::Error },
    /// The kernel refused the mount.
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
    /// The mount point. It is the first field, so that a share sorts before the
    /// shares below it.
    mount_point: PathBuf,
    /// The mount tag.
    source: String,
    /// The type of the file system.
    file_system: String,
    /// The options, as for `-o` of mount(8).
    options: String,
}

/// Returns the shares of a seed, each before the shares below it.
pub(crate) fn from_seed(credentials: &Credentials) -> Result<Vec<Share>, ShareError> {
    let mut shares = Vec::new();
    for (unit, text) in units(credentials) {
        shares.push(Share::parse(unit, &String::from_utf8_lossy(text))?);
    }
    shares.sort();
    Ok(shares)
}

/// Writes the mount units of a seed and a drop-in by which the agent's unit
/// names them, so that systemd loads them at its start.
///
/// The generator writes the same units later: it is masked until the sandbox is
/// ready. A mount without a unit would get dependencies from systemd, and these
/// load nearly all units of Debian.
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

/// Mounts the shares of the units that [`write_units`] has written.
pub(crate) fn mount_from_units(run: &Path) -> Result<(), ShareError> {
    let shares = from_units(&run.join(UNIT_DIRECTORY))?;
    // After a restart of the agent, some may already be mounted.
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

/// Returns the shares of the units in a directory.
fn from_units(directory: &Path) -> Result<Vec<Share>, ShareError> {
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

/// Returns name and content of the mount units in a seed.
fn units(credentials: &Credentials) -> impl Iterator<Item = (&str, &[u8])> {
    credentials.iter().filter_map(|(name, value)| {
        let unit = name.strip_prefix(UNIT_PREFIX)?;
        unit.ends_with(MOUNT_SUFFIX).then_some((unit, value))
    })
}

impl Share {
    /// Parses the section `[Mount]` of a unit file from the host
    /// (systemd.mount(5)). The host writes no quotes and doubles each percent
    /// sign (systemd.unit(5)).
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
            file_system: value("Type")?,
            options: value("Options")?,
        })
    }

    /// Creates a missing mount point and mounts the share.
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
            &self.file_system,
            flags,
            data.as_c_str(),
        )
        .map_err(failed)
    }
}

/// Splits options like mount(8): generic options become flags, those of the file
/// system remain text.
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
    fn parse_reads_the_mount_section() {
        assert_eq!(
            Share::parse("x.mount", UNIT).unwrap(),
            Share {
                mount_point: "/srv/100%h of it".into(),
                source: "share1".into(),
                file_system: "9p".into(),
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
    fn from_seed_sorts_shares_and_ignores_other_units() {
        let unit = |path: &str| UNIT.replace("/srv/100%%h of it", path);
        let credentials = Credentials::from([
            ("systemd.extra-unit.a.mount", unit("/srv/inner").as_str()),
            ("systemd.extra-unit.b.mount", unit("/srv").as_str()),
            ("systemd.extra-unit.c.service", "[Service]"),
            ("sandbox.hostname", "x.mount"),
        ]);
        let points: Vec<_> = from_seed(&credentials)
            .unwrap()
            .into_iter()
            .map(|share| share.mount_point)
            .collect();
        assert_eq!(points, [PathBuf::from("/srv"), "/srv/inner".into()]);
    }

    #[test]
    fn write_units_writes_the_shares_that_from_units_returns() {
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
        assert_eq!(
            from_units(&directory).unwrap(),
            from_seed(&credentials).unwrap()
        );
        let drop_in = directory.join(DROP_INS).join("10-shares.conf");
        assert_eq!(
            fs::read_to_string(drop_in).unwrap(),
            "[Unit]\nBefore=srv-inner.mount srv.mount\n"
        );
        fs::remove_dir_all(&run).unwrap();
        assert_eq!(from_units(&directory).unwrap(), []);
    }

    #[test]
    fn flags_and_data_separates_generic_options() {
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
