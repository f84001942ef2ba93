//! The load order of kernel modules (`modules.dep` of depmod(8)).

use std::collections::{BTreeMap, BTreeSet};

/// Returns the files of the modules `wanted` and of their dependencies, relative to
/// `/usr/lib/modules/<release>`. Dependencies come first. Modules that are built into the kernel
/// have no file.
///
/// `dependencies` is the text of `modules.dep`, and `builtin` is the text of `modules.builtin`.
///
/// # Errors
///
/// A module is in neither of them.
pub(super) fn load_order(
    wanted: &[String],
    dependencies: &str,
    builtin: &str,
) -> Result<Vec<String>, UnknownModule> {
    let table: BTreeMap<String, (&str, Vec<&str>)> = dependencies
        .lines()
        .filter_map(|line| {
            let (path, needs) = line.split_once(':')?;
            Some((
                module_name(path),
                (path, needs.split_whitespace().collect()),
            ))
        })
        .collect();
    let builtin: BTreeSet<String> = builtin.lines().map(module_name).collect();
    let mut order: Vec<String> = Vec::new();
    for module in wanted {
        let name = module_name(module);
        let Some((path, needs)) = table.get(&name) else {
            if builtin.contains(&name) {
                continue;
            }
            return Err(UnknownModule {
                module: module.clone(),
            });
        };
        // depmod lists all direct and indirect dependencies in the reverse order of loading.
        for file in needs.iter().rev().chain([path]) {
            if !order.iter().any(|loaded| loaded == file) {
                order.push((*file).to_owned());
            }
        }
    }
    Ok(order)
}

/// Returns the name of the module in the file `path`, with `_` for `-` as in the kernel.
fn module_name(path: &str) -> String {
    let file = file_name(path);
    file.split_once(".ko")
        .map_or(file, |(name, _)| name)
        .replace('-', "_")
}

/// Returns the last component of `path`.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns the file name of the module `path` without the suffix of its compression.
pub(super) fn uncompressed_file_name(path: &str) -> String {
    let file = file_name(path);
    match file.split_once(".ko") {
        Some((name, _)) => format!("{name}.ko"),
        None => file.to_owned(),
    }
}

/// The kernel does not have a module.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel has no module `{module}`")]
pub struct UnknownModule {
    /// The name of the module.
    pub module: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz
kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/net/core/failover.ko.xz:
kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko.xz
kernel/net/9p/9pnet.ko.xz:
kernel/crypto/crc32c-generic.ko:
";
    const BUILTIN: &str = "kernel/drivers/virtio/virtio_pci.ko\n";

    fn order(wanted: &[&str]) -> Result<Vec<String>, UnknownModule> {
        let wanted: Vec<_> = wanted.iter().map(|name| (*name).to_owned()).collect();
        load_order(&wanted, DEPENDENCIES, BUILTIN)
    }

    #[test]
    fn load_order_lists_dependencies_first_and_once() {
        assert_eq!(
            order(&["9pnet_virtio", "virtio_net", "net_failover", "9pnet"]).unwrap(),
            [
                "kernel/net/9p/9pnet.ko.xz",
                "kernel/net/9p/9pnet_virtio.ko.xz",
                "kernel/net/core/failover.ko.xz",
                "kernel/drivers/net/net_failover.ko.xz",
                "kernel/drivers/net/virtio_net.ko.xz",
            ]
        );
    }

    #[test]
    fn load_order_treats_dash_as_underscore() {
        let file = ["kernel/crypto/crc32c-generic.ko"];
        assert_eq!(order(&["crc32c_generic"]).unwrap(), file);
        assert_eq!(order(&["crc32c-generic"]).unwrap(), file);
    }

    #[test]
    fn load_order_of_builtin_module_is_empty() {
        assert_eq!(order(&["virtio_pci"]).unwrap(), [""; 0]);
    }

    #[test]
    fn uncompressed_file_name_has_no_compression_suffix() {
        for (path, expected) in [
            ("kernel/fs/9p/9p.ko.xz", "9p.ko"),
            ("kernel/fs/9p/9p.ko.zst", "9p.ko"),
            ("kernel/fs/9p/9p.ko", "9p.ko"),
        ] {
            assert_eq!(uncompressed_file_name(path), expected);
        }
    }

    #[test]
    fn load_order_of_unknown_module_fails() {
        assert_eq!(order(&["nonsense"]).unwrap_err().module, "nonsense");
    }
}
