//! The destinations that a guest can and cannot reach, in a private internet of the
//! test: see [`world`].

mod apt;
mod ask;
mod client;
mod dns;
mod limits;
mod ports;
mod presets;
mod proxy;
mod rules;
mod secrets;
mod servers;
mod tools;
mod world;

use client::{Expected, check, connect};
use world::World;
