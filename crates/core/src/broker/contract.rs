//! The contract suite: a function per law, called by the tests of every backend.
