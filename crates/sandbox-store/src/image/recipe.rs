//! Recipes of base images.
//!
//! They lie in `images/` of the repository and are embedded into the program.
//! `images/<name>/recipe.toml` describes an image. `images/common/` and `systemd-units/` contain
//! the files that all images share.

use std::collections::BTreeSet;

use sandbox_host::hint::Hint;
use sandbox_spec::{Digest, ImageReference};
use serde::{Deserialize, Serialize};

use super::embedded::{EmbeddedFile, FILES};
use super::metadata::CONTRACT_VERSION;

/// The version of the build. It changes when a build makes another image of the same recipe.
const BUILD_FORMAT: u32 = 1;

/// The embedded script that runs in the new root at the end of each build.
const CUSTOMIZE: &str = "images/common/customize";

/// Embedded folders, each with the directory of the image that gets its content.
const TREES: [(&str, &str); 2] = [
    ("images/common/files/", ""),
    ("systemd-units/", "etc/systemd/system/"),
];

/// A recipe, with `extends` resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recipe {
    /// The name of the recipe and of its image.
    pub name: ImageReference,
    /// A description for people, in one line.
    pub description: String,
    /// The Debian suite, such as `trixie`.
    pub suite: String,
    /// Packages to install, without their dependencies, sorted.
    pub packages: BTreeSet<String>,
    /// Whether the image contains manual pages, documentation and translations.
    pub documentation: bool,
    /// Kernel modules that the initrd's init loads in this order, without their dependencies.
    pub modules: Vec<String>,
    /// The kernel command line.
    pub command_line: String,
}

/// A file that a recipe puts into the image.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlacedFile {
    /// Path in the image, relative to `/`.
    pub(super) parent: &'static str,
    /// Path below `parent`.
    pub(super) relative: &'static str,
    /// The file.
    pub(super) file: &'static EmbeddedFile,
}

/// The keys of a `recipe.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipeFile {
    description: String,
    suite: String,
    extends: Option<ImageReference>,
    #[serde(default)]
    packages: BTreeSet<String>,
    documentation: bool,
    #[serde(default)]
    modules: Vec<String>,
    command_line: Option<String>,
}

impl Recipe {
    /// Returns the names of all embedded recipes.
    pub fn names() -> Vec<ImageReference> {
        FILES
            .iter()
            .filter_map(|file| {
                let name = file.path.strip_prefix("images/")?;
                name.strip_suffix("/recipe.toml")?.parse().ok()
            })
            .collect()
    }

    /// Returns the embedded recipe `name`.
    ///
    /// # Errors
    ///
    /// The recipe does not exist or is invalid.
    pub fn embedded(name: &ImageReference) -> Result<Self, RecipeError> {
        resolve(name, &|name| {
            embedded_file(&format!("images/{name}/recipe.toml"))
                .and_then(|file| std::str::from_utf8(file.contents).ok())
        })
    }

    /// Returns the digest of everything that goes into the image, apart from the packages'
    /// versions.
    pub fn hash(&self) -> Digest {
        let files: Vec<_> = placed_files()
            .map(|placed| placed.file)
            .chain(embedded_file(CUSTOMIZE))
            .map(|file| (file.path, file.executable, Digest::of(file.contents)))
            .collect();
        let everything = (BUILD_FORMAT, CONTRACT_VERSION, self, files);
        let canonical =
            serde_json::to_vec(&everything).expect("a tree of strings serializes to JSON");
        Digest::of(&canonical)
    }
}

/// Returns the script that runs in the new root at the end of the build.
pub(super) fn customize_script() -> Option<&'static [u8]> {
    embedded_file(CUSTOMIZE).map(|file| file.contents)
}

/// Returns the files that the build puts into the image.
pub(super) fn placed_files() -> impl Iterator<Item = PlacedFile> {
    TREES.into_iter().flat_map(|(folder, parent)| {
        FILES.iter().filter_map(move |file| {
            Some(PlacedFile {
                parent,
                relative: file.path.strip_prefix(folder)?,
                file,
            })
        })
    })
}

fn embedded_file(path: &str) -> Option<&'static EmbeddedFile> {
    FILES.iter().find(|file| file.path == path)
}

/// Reads the recipe `name` and the recipes that it extends. `source` returns the text of a
/// `recipe.toml`.
fn resolve<'a>(
    name: &ImageReference,
    source: &dyn Fn(&ImageReference) -> Option<&'a str>,
) -> Result<Recipe, RecipeError> {
    let mut visited = Vec::new();
    let mut next = Some(name.clone());
    let mut chain: Vec<RecipeFile> = Vec::new();
    while let Some(current) = next {
        if visited.contains(&current) {
            return Err(RecipeError::Circular {
                name: name.clone(),
                again: current,
            });
        }
        let text = source(&current).ok_or_else(|| RecipeError::Unknown {
            name: current.clone(),
        })?;
        let file: RecipeFile = toml::from_str(text).map_err(|source| RecipeError::Invalid {
            name: current.clone(),
            source: Box::new(source),
        })?;
        visited.push(current);
        next = file.extends.clone();
        chain.push(file);
    }
    let command_line = chain
        .iter()
        .find_map(|file| file.command_line.clone())
        .ok_or_else(|| RecipeError::NoCommandLine { name: name.clone() })?;
    let mut packages = BTreeSet::new();
    let mut modules = Vec::new();
    // Bases come first, so that a recipe appends to the order in which modules are loaded.
    for file in chain.iter().rev() {
        packages.extend(file.packages.iter().cloned());
        modules.extend(file.modules.iter().cloned());
    }
    let own = chain.swap_remove(0);
    Ok(Recipe {
        name: name.clone(),
        description: own.description,
        suite: own.suite,
        packages,
        documentation: own.documentation,
        modules,
        command_line,
    })
}

/// The reason why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// This program contains no recipe with this name.
    #[error("recipe `{name}` not found")]
    Unknown {
        /// The name.
        name: ImageReference,
    },
    /// The file is not a recipe.
    #[error("invalid recipe `{name}`")]
    Invalid {
        /// The name.
        name: ImageReference,
        /// The cause.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The recipe extends itself.
    #[error("invalid recipe `{name}`: `{again}` extends itself")]
    Circular {
        /// The name.
        name: ImageReference,
        /// The recipe that extends itself, directly or through others.
        again: ImageReference,
    },
    /// Neither the recipe nor the recipes that it extends have a `command_line`.
    #[error("invalid recipe `{name}`: it has no `command_line`")]
    NoCommandLine {
        /// The name.
        name: ImageReference,
    },
}

impl RecipeError {
    /// Returns the next step for the user.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Unknown { .. } => {
                let names: Vec<_> = Recipe::names()
                    .iter()
                    .map(|name| format!("`{name}`"))
                    .collect();
                Some(format!("choose one of {}", names.join(", ")).into())
            }
            Self::Invalid { .. } | Self::Circular { .. } | Self::NoCommandLine { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"
        description = "base"
        suite = "trixie"
        documentation = false
        packages = ["systemd", "bash"]
        modules = ["virtio_blk"]
        command_line = "root=/dev/vda"
    "#;
    const FULL: &str = r#"
        description = "full"
        suite = "trixie"
        extends = "base"
        documentation = true
        packages = ["git", "bash"]
        modules = ["9p"]
    "#;

    fn read(name: &str, files: &[(&str, &'static str)]) -> Result<Recipe, RecipeError> {
        resolve(&name.parse().unwrap(), &|wanted| {
            files
                .iter()
                .find(|(name, _)| *name == wanted.as_str())
                .map(|(_, text)| *text)
        })
    }

    #[test]
    fn resolve_extending_recipe_adds_to_its_base() {
        let recipe = read("full", &[("base", BASE), ("full", FULL)]).unwrap();
        assert_eq!(recipe.description, "full");
        assert!(recipe.documentation);
        assert_eq!(
            recipe.packages.iter().collect::<Vec<_>>(),
            ["bash", "git", "systemd"]
        );
        assert_eq!(recipe.modules, ["virtio_blk", "9p"]);
        assert_eq!(recipe.command_line, "root=/dev/vda");
    }

    #[test]
    fn resolve_invalid_recipe_fails() {
        let circle = r#"
            description = ""
            suite = "trixie"
            documentation = true
            extends = "circle"
        "#;
        let bare = r#"
            description = ""
            suite = "trixie"
            documentation = true
        "#;
        assert!(matches!(
            read("circle", &[("circle", circle)]),
            Err(RecipeError::Circular { .. })
        ));
        assert!(matches!(
            read("bare", &[("bare", bare)]),
            Err(RecipeError::NoCommandLine { .. })
        ));
        assert!(matches!(
            read("full", &[("full", FULL)]),
            Err(RecipeError::Unknown { name }) if name.as_str() == "base"
        ));
        assert!(matches!(
            read("odd", &[("odd", "surprise = 1")]),
            Err(RecipeError::Invalid { .. })
        ));
    }

    #[test]
    fn hash_depends_on_every_field() {
        let recipe = read("full", &[("base", BASE), ("full", FULL)]).unwrap();
        let changed = [
            Recipe {
                suite: "sid".to_owned(),
                ..recipe.clone()
            },
            Recipe {
                documentation: false,
                ..recipe.clone()
            },
            Recipe {
                command_line: String::new(),
                ..recipe.clone()
            },
            Recipe {
                modules: Vec::new(),
                ..recipe.clone()
            },
            Recipe {
                packages: BTreeSet::new(),
                ..recipe.clone()
            },
        ];
        assert_eq!(recipe.hash(), recipe.clone().hash());
        for other in changed {
            assert_ne!(recipe.hash(), other.hash(), "{other:?}");
        }
    }

    #[test]
    fn embedded_recipes_are_valid() {
        for name in Recipe::names() {
            Recipe::embedded(&name).unwrap();
        }
    }
}
