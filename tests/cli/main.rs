//! The whole binary as a user runs it, without a virtual machine.
