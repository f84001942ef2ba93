//! Recipes: what goes into a base image.
//!
//! They live in `images/` of the repository and are embedded into the program:
//! `images/<name>/recipe.toml` describes an image, `images/common/` and `systemd-units/` hold
//! what all images share.

use sandbox_host::hint::Hint;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::embedded::{EmbeddedFile, FILES};
use super::metadata::CONTRACT_VERSION;
use sandbox_spec::{Digest, ImageReference};

/// Changes when the build makes something else of the same recipe.
const BUILD_FORMAT: u32 = 1;

/// Where the shared script, run in the new root at the end, is embedded.
const CUSTOMIZE: &str = "images/common/customize";

/// Embedded folders and where in the image their content goes.
const TREES: [(&str, &str); 2] = [
    ("images/common/files/", ""),
    ("systemd-units/", "etc/systemd/system/"),
];

/// Everything that decides what a base image holds, with `extends` resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recipe {
    /// The name of the recipe and of the image it makes.
    pub name: ImageReference,
    /// One line for people.
    pub description: String,
    /// The Debian suite, such as `trixie`.
    pub suite: String,
    /// Packages to install with what they depend on, sorted.
    pub packages: BTreeSet<String>,
    /// Whether manual pages, documentation and translations are installed.
    pub documentation: bool,
    /// Kernel modules that the initrd's init loads, in this order, without their dependencies.
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
    /// The names of all embedded recipes.
    pub fn names() -> Vec<ImageReference> {
        FILES
            .iter()
            .filter_map(|file| {
                let name = file.path.strip_prefix("images/")?;
                name.strip_suffix("/recipe.toml")?.parse().ok()
            })
            .collect()
    }

    /// The embedded recipe `name`.
    ///
    /// # Errors
    ///
    /// There is none, or it is not a valid recipe.
    pub fn embedded(name: &ImageReference) -> Result<Self, RecipeError> {
        resolve(name, &|name| {
            embedded_file(&format!("images/{name}/recipe.toml"))
                .and_then(|file| std::str::from_utf8(file.contents).ok())
        })
    }

    /// Digest of everything that goes into the image apart from the packages' versions.
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

/// The script to run in the new root at the end.
pub(super) fn customize_script() -> Option<&'static [u8]> {
    embedded_file(CUSTOMIZE).map(|file| file.contents)
}

/// The files to put into the image.
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

/// Reads the recipe `name` and those it extends; `source` gives the text of a `recipe.toml`.
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
    // Bases first, so that a recipe adds to the end of the order in which modules are loaded.
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

/// Why there is no such recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// No recipe of that name is part of this program.
    #[error("there is no recipe `{name}`")]
    Unknown {
        /// The name.
        name: ImageReference,
    },
    /// The file is not a recipe.
    #[error("the recipe `{name}` is not valid")]
    Invalid {
        /// The name.
        name: ImageReference,
        /// The cause.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// It extends itself.
    #[error("the recipe `{name}` extends `{again}` in a circle")]
    Circular {
        /// The name.
        name: ImageReference,
        /// The recipe met twice.
        again: ImageReference,
    },
    /// Neither it nor those it extends have a `command_line`.
    #[error("the recipe `{name}` has no `command_line`")]
    NoCommandLine {
        /// The name.
        name: ImageReference,
    },
}

impl RecipeError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Unknown { .. } => {
                let names: Vec<_> = Recipe::names()
                    .iter()
                    .map(|name| format!("`{name}`"))
                    .collect();
                Some(format!("recipes are: {}", names.join(", ")).into())
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
    fn extending_recipe_adds_to_its_base() {
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
    fn wrong_recipes_are_refused() {
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
    fn hash_depends_on_every_part() {
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
    fn all_embedded_recipes_are_valid() {
        for name in Recipe::names() {
            Recipe::embedded(&name).unwrap();
        }
    }
}
