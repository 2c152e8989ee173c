//! The run directory: every file name of it, once, and how a fresh one is found.
//! What stands in the files is decided by those who write them.

use std::io;
use std::path::{Path, PathBuf};

use crate::NodeId;

/// Where runs go by default, below the current directory.
pub const DEFAULT_PARENT: &str = "runs";

/// Why there is no run directory.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// `--out` names something that is there already.
    #[error("{} exists already; a run never writes over another", .0.display())]
    Taken(PathBuf),
    /// The file system refused.
    #[error("cannot create {}: {source}", path.display())]
    Create {
        /// What was to be created.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A run directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Creates exactly `path`.
    ///
    /// # Errors
    /// When it exists with anything in it, or cannot be created.
    pub fn create(path: &Path) -> Result<RunDir, RunDirError> {
        let error = |source| RunDirError::Create { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(error)?;
        if std::fs::read_dir(path).map_err(error)?.next().is_some() {
            return Err(RunDirError::Taken(path.to_owned()));
        }
        Ok(RunDir(path.to_owned()))
    }

    /// Creates `parent/name`, or `parent/name-2`, `-3`, … if that is taken.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create_fresh(parent: &Path, name: &str) -> Result<RunDir, RunDirError> {
        let error = |path: &Path, source| RunDirError::Create { path: path.to_owned(), source };
        std::fs::create_dir_all(parent).map_err(|source| error(parent, source))?;
        let mut rank = 1_u64;
        loop {
            let path = parent.join(if rank == 1 { name.to_owned() } else { format!("{name}-{rank}") });
            // `create_dir` decides: two runs started at once never share a directory.
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(RunDir(path)),
                Err(source) if source.kind() == io::ErrorKind::AlreadyExists => rank += 1,
                Err(source) => return Err(error(&path, source)),
            }
        }
    }

    /// One that exists, of an earlier run.
    pub fn open(path: &Path) -> RunDir {
        RunDir(path.to_owned())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Spec, seed, command line, binaries, host; written first.
    pub fn run_json(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// The planned faults; what a replay reads.
    pub fn schedule(&self) -> PathBuf {
        self.0.join("schedule.jsonl")
    }

    /// Header, operations and faults.
    pub fn history(&self) -> PathBuf {
        self.0.join("history.jsonl")
    }

    /// The verdict; derived from the rest.
    pub fn verdict(&self) -> PathBuf {
        self.0.join("verdict.json")
    }

    /// The description of the system, if it is not our node.
    pub fn system(&self) -> PathBuf {
        self.0.join("system.toml")
    }

    /// What the commands of an operator said.
    pub fn admin_log(&self) -> PathBuf {
        self.0.join("admin.log")
    }

    /// What its client driver said.
    pub fn driver_log(&self) -> PathBuf {
        self.0.join("driver.log")
    }

    /// Everything of node `id` (from 1).
    pub fn node(&self, id: NodeId) -> PathBuf {
        self.0.join("nodes").join(node_name(id))
    }

    /// What the node printed, over all its starts.
    pub fn stdout(&self, id: u32) -> PathBuf {
        self.node(id).join("stdout.log")
    }

    /// What the node said in words, over all its starts.
    pub fn stderr(&self, id: u32) -> PathBuf {
        self.node(id).join("stderr.log")
    }

    /// The node's data directory.
    pub fn data(&self, id: NodeId) -> PathBuf {
        self.node(id).join("data")
    }

    /// How wrong the clocks of the node are, where it asks for that.
    pub fn clock(&self, id: NodeId) -> PathBuf {
        self.node(id).join("clock")
    }

    /// The trace as the node wrote it.
    pub fn node_trace(&self, id: NodeId) -> PathBuf {
        self.data(id).join("trace.jsonl")
    }

    /// The trace as the checker reads it.
    pub fn trace(&self, id: NodeId) -> PathBuf {
        self.node(id).join("trace.jsonl")
    }

    /// What the node had applied at the end.
    pub fn state(&self, id: NodeId) -> PathBuf {
        self.node(id).join("state.json")
    }
}

/// A node as files and people name it: `n1`.
pub fn node_name(node: NodeId) -> String {
    format!("n{node}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_gets_the_next_number_and_a_named_directory_is_never_reused() {
        let parent = tempfile::tempdir().unwrap();
        let fresh = || RunDir::create_fresh(parent.path(), "0x51f2").unwrap();
        assert_eq!(fresh().path(), parent.path().join("0x51f2"));
        assert_eq!(fresh().path(), parent.path().join("0x51f2-2"));
        assert_eq!(fresh().path(), parent.path().join("0x51f2-3"));

        let named = parent.path().join("deep/er");
        let dir = RunDir::create(&named).unwrap();
        RunDir::create(&named).expect("an empty directory is free");
        std::fs::write(dir.run_json(), "{}").unwrap();
        let error = RunDir::create(&named).unwrap_err().to_string();
        assert!(error.contains("deep/er") && error.contains("exists already"), "{error}");
    }

    #[test]
    fn names_are_those_of_the_architecture() {
        let dir = RunDir::open(Path::new("runs/0x1"));
        let relative = |path: PathBuf| path.strip_prefix("runs/0x1").unwrap().display().to_string();
        assert_eq!(relative(dir.run_json()), "run.json");
        assert_eq!(relative(dir.schedule()), "schedule.jsonl");
        assert_eq!(relative(dir.history()), "history.jsonl");
        assert_eq!(relative(dir.verdict()), "verdict.json");
        assert_eq!(relative(dir.node_trace(2)), "nodes/n2/data/trace.jsonl");
        assert_eq!(relative(dir.trace(2)), "nodes/n2/trace.jsonl");
        assert_eq!(relative(dir.state(5)), "nodes/n5/state.json");
    }
}
