//! What may be done to what the processes of a node may use: files that they may open, and memory.
//! The groups that limit memory are in [`crate::group`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use nix::libc;

use super::{Cluster, ClusterError, Seen, Slot, lock, refused};
use crate::NodeId;
use crate::dud::{self, Reach};
use crate::group::Counts;
use crate::run_dir::node_name;

/// What a process says that was refused a file, in `strerror(3)`'s words or those of Go, in lower case.
const REFUSED_WORDS: &str = "too many open files";

/// Processes of a node that may open no more files.
#[derive(Debug, Default)]
pub(super) struct FileLimit {
    /// Soft limits of before, of the processes that there were then. Whoever is started later begins with one that is lowered already.
    before: BTreeMap<u32, u64>,
    /// How often the node had said that it was refused a file.
    told: u64,
}

/// What was seen of a node that may open no more files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    /// Its first process.
    pub(crate) pid: u32,
    /// Descriptors that this has.
    pub(crate) open: u64,
    /// Its soft limit, as /proc shows it.
    pub(crate) limit: u64,
    /// Whether no process of the node has a number free for another one.
    pub(crate) full: bool,
}

impl Cluster {
    /// Has the processes of a node open no more files: their soft limit is from now on the lowest number that they have no file at. What
    /// is open stays so; if they close some of it, this can be done again. What it is now, confirmed if the kernel shows it for every
    /// process.
    ///
    /// # Errors
    /// The node is not up, or the limit cannot be set.
    pub(crate) fn limit_files(&self, node: NodeId) -> Result<Seen, ClusterError> {
        let members = self.members_of(node)?;
        let told = self.files_refused(node);
        let mut limits = lock(&self.file_limits);
        let first = !limits.contains_key(&node);
        let limit = limits.entry(node).or_insert_with(|| FileLimit { told, ..FileLimit::default() });
        for pid in members {
            match set_soft_limit(pid, lowest_free(&descriptors(pid))) {
                Ok(before) if first => drop(limit.before.insert(pid, before)),
                Ok(_) => {}
                // A helper that has ended meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => return Err(refused(&format!("limit the files of {}", node_name(node)), error)),
            }
        }
        drop(limits);
        let files = self.files(node)?;
        let saw = format!("{} open, limit {}", files.open, files.limit);
        Ok(Seen { pid: files.pid, saw, confirmed: files.full })
    }

    /// Lets the processes of a node open files again, as many as before. Those that they started meanwhile, too.
    pub(crate) fn unlimit_files(&self, node: NodeId) {
        let Some(limit) = lock(&self.file_limits).remove(&node) else { return };
        let Ok(members) = self.members_of(node) else { return };
        let most = limit.before.values().copied().max();
        for pid in members {
            if let Some(before) = limit.before.get(&pid).copied().or(most) {
                // Only who has ended since has no limit.
                let _ = set_soft_limit(pid, before);
            }
        }
    }

    /// What the kernel shows of the files of a node.
    ///
    /// # Errors
    /// The node is not up.
    pub(crate) fn files(&self, node: NodeId) -> Result<Files, ClusterError> {
        let members = self.members_of(node)?;
        let look = |pid: u32| (descriptors(pid), soft_limit(pid).unwrap_or(u64::MAX));
        let pid = members[0];
        let (open, limit) = look(pid);
        let full = members.into_iter().map(look).all(|(open, limit)| lowest_free(&open) >= limit);
        Ok(Files { pid, open: open.len() as u64, limit, full })
    }

    /// How often a node said, since its files were limited, that it was refused one.
    pub(crate) fn files_refused_since(&self, node: NodeId) -> u64 {
        let before = lock(&self.file_limits).get(&node).map_or(0, |limit| limit.told);
        self.files_refused(node).saturating_sub(before)
    }

    fn files_refused(&self, node: NodeId) -> u64 {
        let paths = [self.run_dir.stdout(node), self.run_dir.stderr(node)];
        let text = paths.map(|path| fs::read(path).unwrap_or_default());
        let text = text.map(|text| String::from_utf8_lossy(&text).to_lowercase());
        text.iter().map(|text| text.matches(REFUSED_WORDS).count() as u64).sum()
    }

    /// Limits the memory of a node to so many percent of what it uses; that in words, confirmed if the kernel took it.
    ///
    /// # Errors
    /// The node is not up, or has no group, or the kernel refuses.
    pub(crate) fn limit_memory(&self, node: NodeId, percent: u64) -> Result<Seen, ClusterError> {
        let pid = self.members_of(node)?[0];
        let Some(groups) = &self.groups else {
            return Err(refused("limit memory", io::Error::other("there are no control groups for it")));
        };
        let doing = |error| refused(&format!("limit the memory of {}", node_name(node)), error);
        let usage = groups.usage(node).map_err(doing)?;
        let limit = groups.limit(node, usage * percent / 100).map_err(doing)?;
        let saw = format!("{} KiB of {} KiB", limit >> 10, usage >> 10);
        Ok(Seen { pid, saw, confirmed: true })
    }

    /// Takes the limit away.
    pub(crate) fn unlimit_memory(&self, node: NodeId) {
        if let Some(groups) = &self.groups {
            // Nobody but the kernel could refuse it, and it raises any limit.
            let _ = groups.unlimit(node);
        }
    }

    /// What the kernel counted in the group of a node.
    pub(crate) fn memory_counts(&self, node: NodeId) -> Counts {
        self.groups.as_ref().map(|groups| groups.counts(node)).unwrap_or_default()
    }

    /// The processes of a node that is up, its first one first.
    fn members_of(&self, node: NodeId) -> Result<Vec<u32>, ClusterError> {
        let slot = self.living(node)?;
        match &*slot {
            Slot::Up(process) => Ok(process.members()),
            other => Err(ClusterError::State { node, state: other.state() }),
        }
    }
}

/// The numbers at which a process has files.
fn descriptors(pid: u32) -> BTreeSet<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The number that the next file gets.
fn lowest_free(open: &BTreeSet<u64>) -> u64 {
    (0..).zip(open).find(|(number, taken)| number != *taken).map_or(open.len() as u64, |(number, _)| number)
}

/// The soft limit of a process, as /proc shows it.
fn soft_limit(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let words = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    words.split_whitespace().next()?.parse().ok()
}

/// Sets the soft limit of open files of a process; what it was.
fn set_soft_limit(pid: u32, files: u64) -> io::Result<u64> {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let call = |new: *const libc::rlimit, old: *mut libc::rlimit| {
        // SAFETY: each pointer is null or that of a struct which outlives the call.
        match unsafe { libc::prlimit(pid as libc::pid_t, libc::RLIMIT_NOFILE, new, old) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    call(std::ptr::null(), &raw mut limits)?;
    let before = limits.rlim_cur;
    limits.rlim_cur = files.min(limits.rlim_max);
    if !dud::is_at(Reach::Limit) {
        call(&raw const limits, std::ptr::null_mut())?;
    }
    Ok(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_file_gets_the_lowest_number_that_is_free() {
        let free = |taken: &[u64]| lowest_free(&taken.iter().copied().collect());
        assert_eq!([free(&[]), free(&[0, 1, 2]), free(&[0, 2, 3]), free(&[1])], [0, 3, 1, 0]);
    }
}
