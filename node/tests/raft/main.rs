//! The production Raft core and replica, one input at a time: every rule of the paper, every defect of the catalogue that
//! a single node or a scripted cluster can show. Random schedules are the business of `tests/cluster`.
#![allow(clippy::unwrap_used, reason = "clippy.toml excuses tests, but not the functions that they share")]

mod admission;
mod authentication;
mod core;
mod directory;
mod elections;
mod follower_reads;
mod hostile;
mod lab;
mod large;
mod lease;
mod membership;
mod overload;
mod reads;
mod recovering;
mod replica;
mod replication;
mod requests;
mod scripts;
mod snapshot;
mod snapshot_jobs;
mod space;
mod status;
mod transfer;
