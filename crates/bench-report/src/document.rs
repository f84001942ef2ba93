//! The document of one run of a bench with one program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::row::{Row, RowError};

/// The version of the format that this program writes. It reads no other.
pub const VERSION: u32 = 1;

/// Why a document's text is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The text is not JSON, or its fields are not those of a document.
    #[error("could not parse the JSON")]
    Json(#[from] serde_json::Error),
    /// The document has another version.
    #[error("unknown version {0}: this program reads version {VERSION}")]
    Version(u32),
    /// A row is invalid.
    #[error(transparent)]
    Row(#[from] RowError),
    /// Two rows have the same name.
    #[error("row `{0}` occurs twice")]
    Twice(String),
}

/// Why a document could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The file could not be read.
    #[error("could not read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("could not write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file's content is refused.
    #[error("invalid result `{}`", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: FormatError,
    },
}

/// The properties of a host that affect every figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The number of processors that the bench may use.
    pub cpus: usize,
    /// QEMU's `-accel`: `kvm` or `tcg`.
    pub accelerator: String,
    /// The version of QEMU, such as `10.0.2`.
    pub qemu: String,
}

/// The result of one bench with one program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Document {
    /// The version of the format, [`VERSION`].
    pub version: u32,
    /// The bench: `start`, `start-steps`, `memory`, `network` or `kvm`.
    pub bench: String,
    /// The measured program, as `sandbox --version` names it.
    pub program: String,
    /// The host.
    pub host: Host,
    /// The options of the bench that affect the figures, such as `image`.
    pub options: BTreeMap<String, String>,
    /// The measured quantities, in the order of the printed tables.
    pub rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Head {
    version: u32,
}

impl Document {
    /// Returns a document of the current version.
    ///
    /// # Errors
    /// [`FormatError::Twice`] if two rows have the same name.
    pub fn new(
        bench: impl Into<String>,
        program: impl Into<String>,
        host: Host,
        options: BTreeMap<String, String>,
        rows: Vec<Row>,
    ) -> Result<Self, FormatError> {
        let mut names = BTreeSet::new();
        if let Some(row) = rows.iter().find(|row| !names.insert(row.name.as_str())) {
            return Err(FormatError::Twice(row.name.clone()));
        }
        Ok(Self {
            version: VERSION,
            bench: bench.into(),
            program: program.into(),
            host,
            options,
            rows,
        })
    }

    /// Parses the JSON of a document. Computes medians and ranges again from the samples.
    ///
    /// # Errors
    /// [`FormatError`] if the text is not a valid document of [`VERSION`].
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        // First, since a later version may have other fields.
        match serde_json::from_str::<Head>(text)?.version {
            VERSION => {}
            other => return Err(FormatError::Version(other)),
        }
        let read: Self = serde_json::from_str(text)?;
        let rows = read.rows.into_iter().map(Row::checked);
        let rows = rows.collect::<Result<_, _>>()?;
        Self::new(read.bench, read.program, read.host, read.options, rows)
    }

    /// Returns the row of this name.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// Returns the indented JSON of the document.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("strings and finite numbers serialize to JSON");
        text.push('\n');
        text
    }

    /// Reads a document from a file.
    ///
    /// # Errors
    /// [`DocumentError`] if the file cannot be read, or is not a valid document.
    pub fn read(path: &Path) -> Result<Self, DocumentError> {
        let text = fs::read_to_string(path).map_err(|source| DocumentError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|source| DocumentError::Format {
            path: path.to_owned(),
            source,
        })
    }

    /// Writes the document to a file, which is replaced.
    ///
    /// # Errors
    /// [`DocumentError::Write`] if the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), DocumentError> {
        fs::write(path, self.to_json()).map_err(|source| DocumentError::Write {
            path: path.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Better, Unit};

    fn document() -> Document {
        let host = Host {
            cpus: 2,
            accelerator: "tcg".into(),
            qemu: "10.0.2".into(),
        };
        let row = |name, samples| Row::new(name, Unit::Seconds, Better::Lower, samples).unwrap();
        let rows = vec![row("a", vec![0.5, 0.25]), row("b", vec![1.0])];
        let options = BTreeMap::from([("image".into(), "debian".into())]);
        Document::new("start", "sandbox 0.1.0", host, options, rows).unwrap()
    }

    #[test]
    fn document_survives_writing_and_reading() {
        assert_eq!(Document::parse(&document().to_json()).unwrap(), document());
    }

    #[test]
    fn document_names_units_and_direction() {
        let json: serde_json::Value = serde_json::from_str(&document().to_json()).unwrap();
        let expected = serde_json::json!({
            "name": "a", "unit": "s", "better": "lower",
            "samples": [0.5, 0.25], "median": 0.5, "min": 0.25, "max": 0.5,
        });
        assert_eq!(json["rows"][0], expected);
        assert_eq!(json["version"], 1);
    }

    #[test]
    fn unknown_version_is_refused_despite_unknown_fields() {
        let error = Document::parse(r#"{"version":2,"machine":"x"}"#).unwrap_err();
        assert!(matches!(error, FormatError::Version(2)), "{error:?}");
    }

    #[test]
    fn unknown_field_is_refused() {
        let text = document()
            .to_json()
            .replace("\"bench\":", "\"x\": 1, \"bench\":");
        assert!(matches!(Document::parse(&text), Err(FormatError::Json(_))));
    }

    #[test]
    fn summary_that_contradicts_the_samples_is_computed_again() {
        let text = document()
            .to_json()
            .replace("\"median\": 0.5", "\"median\": 9.0");
        assert_eq!(Document::parse(&text).unwrap(), document());
    }

    #[test]
    fn repeated_row_is_refused() {
        let text = document()
            .to_json()
            .replace("\"name\": \"b\"", "\"name\": \"a\"");
        let error = Document::parse(&text).unwrap_err();
        assert_eq!(error.to_string(), "row `a` occurs twice");
    }
}
