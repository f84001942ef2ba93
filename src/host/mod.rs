//! What the product knows of the machine it runs on, and the few things every
//! room does with it. Uses nothing else of this crate; every room may use it.

//pub mod bounded_command;
//pub mod distribution;
