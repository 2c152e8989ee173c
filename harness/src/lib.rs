//! The accuser as a library: what a run is (spec, schedule), what hurts (faults, nemesis, links, processes).
//! Verdicts belong to `checker`, the system under test to `node`.

pub mod anchor;
pub mod aside;
pub mod bench;
pub mod campaign;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod disk;
pub mod doctor;
pub mod dud;
mod errand;
pub mod fault;
pub mod group;
pub mod host;
pub mod nemesis;
pub mod net;
pub mod planted;
pub mod profile;
pub mod random;
pub mod recorder;
pub mod run;
pub mod run_dir;
pub mod run_file;
pub mod schedule;
pub mod settle;
pub mod sometimes;
pub mod spec;
pub mod summary;
pub mod system;
mod tail;
pub mod tally;
pub mod target;
pub mod translate;
pub mod watch;
pub mod worker;
pub mod workload;

/// A node of the cluster under test, counted from 1.
pub type NodeId = u32;
