//! Reads again what nobody reads: sealed segments and snapshots, one file a step, so that rot is found while a peer still has
//! what it took. When a step is due, and what to do about damage, is left to the server.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::storage::disk::Disk;
use crate::storage::segment::{self, Header, Piece};
use crate::storage::{StorageError, snapshot_dir, snapshot_file};

/// What was looked at so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Files, each time that one was read.
    pub files: u64,
    /// Damaged files, each once.
    pub damaged: u64,
}

/// Goes round the files of one data directory.
pub struct Scrubber {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Files of this round that were not read yet.
    round: VecDeque<String>,
    /// Damaged files that were reported.
    reported: BTreeSet<String>,
    scrubbed: Scrubbed,
}

impl Scrubber {
    /// A scrubber of `dir`.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> Scrubber {
        let (round, reported) = (VecDeque::new(), BTreeSet::new());
        Scrubber { disk, dir: dir.to_owned(), round, reported, scrubbed: Scrubbed::default() }
    }

    /// What was looked at so far.
    pub fn scrubbed(&self) -> Scrubbed {
        self.scrubbed
    }

    /// Reads the next file, from the device rather than from memory, and checks every byte of it. Returns what is wrong with
    /// it, once for each file. A file that is removed meanwhile is none, and neither is the open segment.
    pub fn step(&mut self) -> Option<String> {
        let Some(name) = self.round.pop_front() else {
            self.begin_round();
            return None;
        };
        let path = self.dir.join(&name);
        self.disk.forget(&path);
        let problem = match self.disk.read(&path) {
            Ok(bytes) => problem(&name, &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) if StorageError::out_of_files(&error) => {
                // Nobody has looked at it: the next step does.
                self.round.push_front(name);
                return None;
            }
            Err(error) => Some(format!("cannot be read: {error}")),
        };
        self.scrubbed.files += 1;
        let problem = problem.filter(|_| self.reported.insert(name.clone()))?;
        self.scrubbed.damaged += 1;
        Some(format!("{name} {problem}"))
    }

    fn begin_round(&mut self) {
        // Otherwise nothing would be there, and all that was reported would be news again.
        let Ok(names) = self.disk.list(&self.dir) else { return };
        let newest = names.iter().filter_map(|name| segment::parse_file_name(name)).max();
        let sealed = |name: &String| match segment::parse_file_name(name) {
            Some(sequence) => Some(sequence) != newest,
            None => snapshot_dir::parse_file_name(name).is_some(),
        };
        self.round = names.into_iter().filter(sealed).collect();
        self.reported.retain(|name| self.round.contains(name));
    }
}

/// What is wrong with the bytes of a file that is not written any more.
fn problem(name: &str, bytes: &[u8]) -> Option<String> {
    if let Some(last) = snapshot_dir::parse_file_name(name) {
        return match snapshot_file::verify(bytes, None) {
            Ok(image) if image.meta.last == last => None,
            Ok(image) => Some(format!("is damaged: it holds the snapshot at {}", image.meta.last)),
            Err(bad) => Some(format!("is damaged at byte {}: {bad}", bad.offset())),
        };
    }
    let Some(header) = Header::decode(bytes) else {
        return Some("is damaged at byte 0: no valid header at the start of a segment".to_owned());
    };
    segment::scan(&header, bytes).into_iter().find_map(|piece| match piece {
        Piece::Gap { offset, reason, .. } => Some(format!("is damaged at byte {offset}: {reason}")),
        Piece::Record { .. } => None,
    })
}
