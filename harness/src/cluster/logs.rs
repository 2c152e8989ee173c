//! What nodes print, looked at while they run: lines that mean trouble.
//! Which texts those are is said by the system.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{Cluster, lock};
use crate::NodeId;
use crate::run_dir::RunDir;

/// Longest part of a log that is looked at in one go, bytes.
const LOOK_BYTES_MAX: u64 = 4 << 20;
/// Longest line that is shown, characters.
const LINE_CHARS_MAX: usize = 500;

/// Longest end of a log that is shown, bytes.
const TAIL_BYTES_MAX: u64 = 2_000;

impl Cluster {
    /// What a node prints to, the more telling first.
    fn logs(&self, node: NodeId) -> [(&'static str, PathBuf); 2] {
        [("stderr", self.run_dir.stderr(node)), ("stdout", self.run_dir.stdout(node))]
    }

    /// What it prints from now on is of a new incarnation.
    pub(super) fn note_logs(&self, node: NodeId) {
        lock(&self.logs_before).insert(node, self.logs(node).map(|(_, path)| length(&path)));
    }

    /// What a node printed in the life that is over is explained by a fault.
    pub(super) fn excuse_logs(&self, node: NodeId) {
        let before = lock(&self.logs_before).get(&node).copied().unwrap_or_default();
        let lives = self.logs(node).into_iter().zip(before);
        let lives = lives.map(|((_, path), from)| (path.clone(), from..length(&path)));
        lock(&self.excused_logs).extend(lives);
    }

    /// Whether what a node printed there is to be expected: a fault has it in its hands, or had until that life was over.
    pub(crate) fn is_log_excused(&self, node: NodeId, path: &Path, at: u64) -> bool {
        self.is_excused(node) || lock(&self.excused_logs).get(path).is_some_and(|life| life.contains(&at))
    }

    /// The end of what a node printed since its last start, behind where: stderr, or stdout if it said nothing there.
    pub(super) fn last_words(&self, node: NodeId) -> (&'static str, String) {
        let before = lock(&self.logs_before).get(&node).copied().unwrap_or_default();
        let tails = self.logs(node).into_iter().zip(before);
        let mut tails = tails.map(|((stream, path), from)| (stream, tail(&path, from)));
        let said = tails.find(|(_, text)| !text.trim().is_empty());
        said.unwrap_or(("stderr", String::new()))
    }
}

/// How long a log is; a log that is not there is empty.
fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}

/// The end of what was written to a log behind its first bytes.
fn tail(path: &Path, from: u64) -> String {
    let from = from.max(length(path).saturating_sub(TAIL_BYTES_MAX));
    let mut bytes = Vec::new();
    // A log that is not there says nothing.
    let _ = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)
    });
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line that means trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Who printed it.
    pub node: NodeId,
    /// The text that gave it away.
    pub text: String,
    /// The line.
    pub line: String,
}

/// The logs of a cluster, and how far they were looked at.
#[derive(Debug)]
pub struct LogWatch {
    files: Vec<(NodeId, PathBuf, u64)>,
    texts: Vec<String>,
}

impl LogWatch {
    /// Watches for these texts from the start of each log.
    pub fn new(run_dir: &RunDir, nodes: u32, texts: &[String]) -> LogWatch {
        let of = |node| [run_dir.stdout(node), run_dir.stderr(node)].map(|path| (node, path, 0));
        let files = if texts.is_empty() { Vec::new() } else { (1..=nodes).flat_map(of).collect() };
        LogWatch { files, texts: texts.to_vec() }
    }

    /// The first line of each log since the last look that means trouble, and that is not `excused`: by who printed it, in which log, and
    /// where in it. A line is looked at when it is whole.
    pub fn look(&mut self, excused: impl Fn(NodeId, &Path, u64) -> bool) -> Vec<Trouble> {
        let mut found = Vec::new();
        for (node, path, offset) in &mut self.files {
            let mut bytes = Vec::new();
            let read = File::open(&*path).and_then(|mut file| {
                file.seek(SeekFrom::Start(*offset))?;
                file.take(LOOK_BYTES_MAX).read_to_end(&mut bytes)
            });
            // A log that is not there yet says nothing.
            if read.is_err() {
                continue;
            }
            let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                // A line longer than a look never becomes whole.
                None if bytes.len() as u64 == LOOK_BYTES_MAX => bytes.len(),
                None => 0,
            };
            let mut lines = bytes[..whole].split_inclusive(|byte| *byte == b'\n').map(|line| {
                let at = *offset;
                *offset += line.len() as u64;
                (at, String::from_utf8_lossy(line))
            });
            let trouble = lines.find_map(|(at, line)| {
                let text = self.texts.iter().find(|text| line.contains(text.as_str()))?;
                let line = line.trim_end().chars().take(LINE_CHARS_MAX).collect();
                (!excused(*node, path, at)).then(|| Trouble { node: *node, text: text.clone(), line })
            });
            // The rest was read, too.
            lines.for_each(drop);
            found.extend(trouble);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{OpenOptions, create_dir_all};
    use std::io::Write;

    #[test]
    fn trouble_is_found_once_in_whole_lines_of_either_log() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::open(dir.path());
        create_dir_all(run_dir.node(2)).unwrap();
        let append = |path: PathBuf, text: &str| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
        };
        let mut watch = LogWatch::new(&run_dir, 2, &["panic:".to_owned()]);
        let mut look = || watch.look(|_, path, at| path.ends_with("stdout.log") && at < 10);
        assert_eq!(look(), []);
        append(run_dir.stderr(2), "fine\npanic: at");
        assert_eq!(look(), [], "the line is not whole");
        append(run_dir.stderr(2), " the disk\npanic: again\n");
        let line = "panic: at the disk".to_owned();
        assert_eq!(look(), [Trouble { node: 2, text: "panic:".to_owned(), line }]);
        assert_eq!(look(), []);
        append(run_dir.stdout(2), "a panic: of an earlier life\npanic: on stdout\n");
        assert_eq!(look().into_iter().map(|trouble| trouble.line).collect::<Vec<_>>(), ["panic: on stdout"]);
        assert!(LogWatch::new(&run_dir, 2, &[]).look(|_, _, _| false).is_empty());
    }
}
