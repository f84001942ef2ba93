//! The proxy between a client on one side and servers on the other, on real loopback sockets.

mod explicit;
mod refused;
mod secrets;
mod servers;
mod transparent;
mod world;
