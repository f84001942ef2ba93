//! What the tests of the whole binary share: private homes, runs of the
//! command, and the check that nothing lingers.
