//! Living processes, found by what stands on their command lines, and signals to them.
//! Only what mentions a test's own directory is ever touched, never a name.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::poll;

/// A process and its command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub pid: i32,
    /// Its arguments, separated by spaces.
    pub command: String,
}

/// Living processes with `path` on the command line, or with it as their working directory. A zombie has neither: it is dead.
///
/// # Panics
/// When there is no `/proc`.
pub fn mentioning(path: &Path) -> Vec<Found> {
    let path = path.to_string_lossy();
    let pids = std::fs::read_dir("/proc").expect("Linux shows processes in /proc");
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let mut found = Vec::new();
    for pid in pids.filter(|pid| *pid != std::process::id().cast_signed()) {
        // A process may end between the listing and here.
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let directory = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        if !command.is_empty() && (command.contains(&*path) || directory.starts_with(&*path)) {
            found.push(Found { pid, command });
        }
    }
    found
}

/// Those of [`mentioning`] that serve as nodes.
pub fn nodes_of(path: &Path) -> Vec<Found> {
    let mut nodes = mentioning(path);
    nodes.retain(|found| found.command.contains(" serve "));
    nodes
}

/// Waits until no process mentions `path`.
///
/// # Panics
/// When one stays.
pub fn wait_gone(path: &Path) {
    poll::until_true(&format!("no process that mentions {}", path.display()), || mentioning(path).is_empty());
}

/// Sends a signal.
///
/// # Panics
/// When there is no such process.
pub fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap_or_else(|error| panic!("{signal} to process {pid}: {error}"));
}
