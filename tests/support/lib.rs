//! What the integration tests share: the programs under test, a place for each test, and how to look at processes and runs.
//! What must be true of them is left to the tests in `e2e/`, `planted/` and `tidy/`.

pub mod binaries;
pub mod cluster_lock;
pub mod hand;
pub mod output;
pub mod poll;
pub mod processes;
pub mod recorded;
pub mod sandbox;
pub mod workspace;
