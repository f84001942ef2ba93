//! The results of the benches as JSON, and the comparison of two results.
//!
//! A bench (`benches/`) writes one [`Document`] for each program that it measured.
//! `cargo xtask compare-benches` reads two documents and prints their [`Comparison`].

mod comparison;
mod document;
mod row;
mod tolerance;

pub use comparison::{CompareError, ComparedRow, Comparison, Ranges, Verdict, compare};
pub use document::{Document, DocumentError, FormatError, Host, VERSION};
pub use row::{Better, Row, RowError, Unit};
pub use tolerance::{Tolerance, ToleranceError};
