//! What a guest reaches, and what it does not, in a small internet of the
//! test's own: see [`world`].

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
