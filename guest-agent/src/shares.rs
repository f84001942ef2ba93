//! The host's directories that the seed wants mounted.
//!
//! The seed describes them as mount units for systemd, which so knows them by
//! description and options. They are mounted here, without systemd and mount(8):
//! a start need not wait for those, and a restored guest's systemd has never
//! seen the units.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::credentials::Credentials;

/// Credentials of this name are units (systemd-debug-generator(8)).
const UNIT_PREFIX: &str = "systemd.extra-unit.";
const MOUNT_SUFFIX: &str = ".mount";

/// Why a share is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShareError {
    /// The credential lacks a line.
    #[error("the mount unit `{unit}` has no `{key}=`")]
    Unit { unit: String, key: &'static str },
    /// There is no directory to mount it on.
    #[error("cannot make the mount point `{path}`")]
    MountPoint { path: PathBuf, source: io::Error },
    /// The kernel refused.
    #[error("cannot mount the share `{source_name}` at `{path}`")]
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
    for (name, value) in credentials.iter() {
        if let Some(unit) = name.strip_prefix(UNIT_PREFIX)
            && unit.ends_with(MOUNT_SUFFIX)
        {
            shares.push(Share::parse(unit, &String::from_utf8_lossy(value))?);
        }
    }
    shares.sort();
    Ok(shares)
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
            "the mount unit `x.mount` has no `Where=`"
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
