//! The judge.
pub mod history;
