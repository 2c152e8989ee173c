//! The write-ahead log under everything that a disk and a power supply can do to it.
//! `world` drives it and knows what must come back; each other module does one kind of harm.

mod failures;
mod real;
mod refusals;
mod tails;
mod world;
