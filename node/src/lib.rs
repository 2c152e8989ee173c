//! A Raft-replicated key-value store over UDP, durable on disk: the system under test, and good enough to be used by itself.
//!
//! # Reading order
//! - [`raft`]: the algorithm alone, [`kv`]: the state machine alone.
//! - [`protocol`] and [`transport`]: what clients and nodes say to each other, as bytes.
//! - [`replica`]: those four as one sans-IO whole.
//! - [`storage`]: what survives a power loss. [`trace`]: what a checker may know.
//! - [`server`]: the event loop around all of it. [`client`]: the other end. [`inspect`]: a data directory, from outside. [`metrics`]: a running node, for machines.

pub mod client;
pub mod clock;
pub mod config;
pub mod dump;
mod hash;
pub mod inspect;
pub mod kv;
pub mod metrics;
pub mod planted;
pub mod protocol;
pub mod raft;
pub mod replica;
pub mod server;
pub mod storage;
pub mod trace;
pub mod transport;

/// A hash of `node/src` and `Cargo.lock`: two builds with equal ids behave alike. The features are reported beside it.
pub const BUILD_ID: &str = env!("NODE_BUILD_ID");
/// `"planted"` in a build that carries planted bugs, otherwise empty.
pub const FEATURES: &str = if cfg!(feature = "planted") { "planted" } else { "" };
