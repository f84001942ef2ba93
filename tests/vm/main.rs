//! Real virtual machines.
