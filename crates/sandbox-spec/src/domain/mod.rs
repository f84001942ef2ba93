//! Names of hosts as DNS compares them, and patterns over them.

mod error;
mod expression;
mod name;
mod pattern;

pub use error::DomainError;
pub use expression::DomainExpression;
pub use name::DomainName;
pub use pattern::DomainPattern;

#[cfg(test)]
mod tests;
