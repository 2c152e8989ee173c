//! The write-ahead log under everything that a disk and a power supply can do to it.
//! `world` drives it and knows what must come back; each other module does one kind of harm.

#![allow(clippy::unwrap_used, reason = "clippy.toml excuses tests, but not the functions that they share")]

mod bounds;
mod damage;
mod failures;
mod forgetful;
mod fuzz;
mod inspect;
mod real;
mod refusals;
mod scrub;
mod snapshots;
mod space;
mod tails;
mod verdicts;
mod world;
