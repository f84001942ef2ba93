//! A virtual machine of its own for a project directory, with one command.

pub mod image;
