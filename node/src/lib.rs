//! A Raft-replicated key-value store over UDP, durable on disk.

pub mod client;
pub mod raft;
pub mod storage;
pub mod trace;

/// A hash of `node/src` and `Cargo.lock`: two builds with equal ids behave alike. The features are reported beside it.
pub const BUILD_ID: &str = env!("NODE_BUILD_ID");
/// `"planted"` in a build that carries planted bugs, otherwise empty.
pub const FEATURES: &str = if cfg!(feature = "planted") { "planted" } else { "" };
