//! The proxy between clients and servers on loopback sockets.

mod explicit;
mod guest;
mod refused;
mod secrets;
mod servers;
mod transparent;
mod world;
