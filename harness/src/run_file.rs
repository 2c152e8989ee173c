//! `run.json`: what was run, with which programs, on what machine. Written before anything else happens.
//! What happened then is in the history.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::host::{Host, file_hash};
use crate::run_dir::RunDir;
use crate::spec::Spec;

/// The `format` of the file.
pub const FORMAT: &str = "whitewater-run";
/// The `version` that this harness writes and reads.
pub const VERSION: &str = "1.0";

/// A program that took part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binary {
    /// FNV-1a of the executable.
    pub hash: String,
    /// `node::BUILD_ID` that it was built with; empty for a program of others.
    pub node_build_id: String,
    /// Features of the node in it: `planted`, or none.
    pub features: String,
}

impl Binary {
    /// Describes the executable at `path`, which was checked to be of this harness's build.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn describe(path: &Path, features: &str) -> io::Result<Binary> {
        let features = features.to_owned();
        Ok(Binary { hash: file_hash(path)?, node_build_id: node::BUILD_ID.to_owned(), features })
    }
}

impl Binary {
    /// Describes the executable of a system that we did not build.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn foreign(path: &Path) -> io::Result<Binary> {
        Ok(Binary { hash: file_hash(path)?, node_build_id: String::new(), features: String::new() })
    }
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// Always [`FORMAT`].
    pub format: String,
    /// Always [`VERSION`].
    pub version: String,
    /// The seed, in the form of the command line: JSON numbers lose bits above 2^53 in most readers.
    pub seed: String,
    /// What was run.
    pub spec: Spec,
    /// The command line.
    pub command: Vec<String>,
    /// The harness.
    pub harness: Binary,
    /// The node.
    pub node: Binary,
    /// The machine.
    pub host: Host,
}

/// Why a `run.json` is of no use.
#[derive(Debug, thiserror::Error)]
pub enum RunFileError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It says something else.
    #[error("{}: not a {FORMAT} {VERSION} file ({reason})", path.display())]
    Malformed {
        /// Which file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl RunFile {
    /// Writes it into the run directory.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, dir: &RunDir) -> Result<(), RunFileError> {
        let path = dir.run_json();
        let io = |source| RunFileError::Io { path: path.clone(), source };
        let text = serde_json::to_string_pretty(self).map_err(|e| io(e.into()))?;
        std::fs::write(&path, text + "\n").map_err(io)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// The file cannot be read, or is not what [`RunFile::write`] writes.
    pub fn read(dir: &RunDir) -> Result<RunFile, RunFileError> {
        let path = dir.run_json();
        let text = std::fs::read_to_string(&path)
            .map_err(|source| RunFileError::Io { path: path.clone(), source })?;
        let malformed = |reason| RunFileError::Malformed { path: path.clone(), reason };
        let file: RunFile = serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;
        if file.format != FORMAT || file.version.split('.').next() != VERSION.split('.').next() {
            return Err(malformed(format!("it says {} {}", file.format, file.version)));
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_was_written_and_another_format_is_refused_by_name() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = RunDir::open(temporary.path());
        let binary =
            Binary { hash: "00".to_owned(), node_build_id: "11".to_owned(), features: String::new() };
        let file = RunFile {
            format: FORMAT.to_owned(),
            version: VERSION.to_owned(),
            seed: "0xffffffffffffffff".to_owned(),
            spec: Spec { seed: u64::MAX, bug: Some("A03".to_owned()), ..Spec::default() },
            command: vec!["harness".to_owned(), "run".to_owned()],
            harness: binary.clone(),
            node: binary,
            host: Host { cores: 2, fdatasync_p50_us: 900, scheduler_lag_max_us: 80 },
        };
        file.write(&dir).unwrap();
        assert_eq!(RunFile::read(&dir).unwrap(), file);

        let text = std::fs::read_to_string(dir.run_json()).unwrap();
        std::fs::write(dir.run_json(), text.replace("\"1.0\"", "\"2.0\"")).unwrap();
        let error = RunFile::read(&dir).unwrap_err().to_string();
        assert!(error.contains("run.json") && error.contains("whitewater-run 2.0"), "{error}");
        std::fs::remove_file(dir.run_json()).unwrap();
        assert!(RunFile::read(&dir).unwrap_err().to_string().contains("run.json"));
    }
}
