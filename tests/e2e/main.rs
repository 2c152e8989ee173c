//! End to end: the three programs as their users start them, on real processes, sockets and files.
//! One cluster at a time; each test leaves the machine as it was, and says so.
#![allow(clippy::unwrap_used, reason = "clippy.toml excuses tests, but not the functions that they share")]

mod any_system;
mod bad_links;
mod blind;
mod by_hand;
mod campaign;
mod ctrl_c;
mod damage;
mod dead_node;
mod disks;
mod duds;
mod hostile;
mod http;
mod key;
mod lease;
mod logs;
mod maelstrom;
mod main_job;
mod members;
mod moments;
mod orders;
mod orphans;
mod replay;
mod storm;
mod switch;
mod unprivileged;
mod usage;
