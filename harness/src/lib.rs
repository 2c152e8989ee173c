//! The accuser as a library: what a run is (spec, schedule), what hurts (faults, nemesis, links, processes).
//! Verdicts belong to `checker`, the system under test to `node`.

pub mod cluster;
pub mod fault;
pub mod nemesis;
pub mod net;
pub mod random;
pub mod run_dir;
pub mod schedule;
pub mod spec;
pub mod system;
pub mod target;

/// A node of the cluster under test, counted from 1.
pub type NodeId = u32;
