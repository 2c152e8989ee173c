//! The algorithm alone: `step(now, input) -> effects`. No clock, no files, no sockets, no threads, no global randomness.

pub mod types;
