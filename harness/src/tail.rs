//! What somebody else appends to a file, line by line, each once and when it is whole.
//! What a line means is the reader's business.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Most that is read at once, bytes. A longer line is cut there.
const READ_MAX: usize = 4 << 20;

/// A file, and how far it was read.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    file: Option<File>,
    offset: u64,
}

impl Tail {
    /// From the beginning on.
    pub(crate) fn at_start(path: PathBuf) -> Tail {
        Tail { path, file: None, offset: 0 }
    }

    /// From the present end on; from the beginning of a file that is not there yet.
    pub(crate) fn at_end(path: PathBuf) -> Tail {
        let offset = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        Tail { offset, ..Tail::at_start(path) }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The whole lines that are new, without their ends, each with the byte at which it begins. What cannot be read now is read later.
    pub(crate) fn lines(&mut self) -> Vec<(u64, String)> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &self.file else { return Vec::new() };
        let new = file.metadata().map_or(0, |meta| meta.len()).saturating_sub(self.offset);
        let mut bytes = vec![0; usize::try_from(new).unwrap_or(READ_MAX).min(READ_MAX)];
        let read = if bytes.is_empty() { Ok(0) } else { file.read_at(&mut bytes, self.offset) };
        bytes.truncate(read.unwrap_or_default());
        let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            // It would never become whole.
            None if bytes.len() == READ_MAX => READ_MAX,
            None => 0,
        };
        let lines = bytes[..whole].split_inclusive(|byte| *byte == b'\n').map(|line| {
            let at = self.offset;
            self.offset += line.len() as u64;
            (at, String::from_utf8_lossy(line).trim_end_matches(['\n', '\r']).to_owned())
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::io::Write;

    fn append(path: &Path, text: &[u8]) {
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text).unwrap();
    }

    #[test]
    fn lines_come_once_and_whole_from_the_beginning_or_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut all, mut absent) = (Tail::at_start(path.clone()), Tail::at_end(path.clone()));
        assert_eq!(all.lines(), []);
        append(&path, b"one\r\ntw");
        let mut later = Tail::at_end(path.clone());
        assert_eq!(all.lines(), [(0, "one".to_owned())]);
        assert_eq!(all.lines(), []);
        append(&path, b"o\n\nthree\n");
        assert_eq!(all.lines(), [(5, "two".to_owned()), (9, String::new()), (10, "three".to_owned())]);
        assert_eq!(later.lines()[0], (7, "o".to_owned()), "the end was within a line");
        assert_eq!(absent.lines().len(), 4);
        append(&path, b"\xff\n");
        assert_eq!(all.lines(), [(16, "\u{fffd}".to_owned())]);
    }

    #[test]
    fn a_line_without_an_end_is_cut_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        append(&path, &vec![b'x'; READ_MAX + 3]);
        let mut tail = Tail::at_start(path.clone());
        assert_eq!(
            tail.lines().iter().map(|(at, line)| (*at, line.len())).collect::<Vec<_>>(),
            [(0, READ_MAX)]
        );
        assert_eq!(tail.lines(), []);
        append(&path, b"\n");
        assert_eq!(tail.lines(), [(READ_MAX as u64, "xxx".to_owned())]);
    }
}
