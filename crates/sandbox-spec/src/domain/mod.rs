//! Host names in their canonical form, and patterns that match them.

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
