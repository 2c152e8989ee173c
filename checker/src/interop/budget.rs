//! How much it takes to understand a foreign file, told from its bytes while they are read. What an operation means depends on the whole
//! file, so a file that is too large is not judged in part: it is left.

use std::io::{self, BufRead};

use crate::deadline::Deadline;
use crate::history::Limit;

/// Bytes of memory that one thing in a file becomes at most, with the operations that are made of it.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    /// Of a byte.
    pub(super) byte: u64,
    /// Of a word, or a bracket that opens something.
    pub(super) word: u64,
    /// Of a line.
    pub(super) line: u64,
    /// Of a map or object.
    pub(super) map: u64,
}

/// What is left of a budget.
pub(super) struct Budget {
    memory: u64,
    deadline: Deadline,
    /// What was given out.
    taken: u64,
}

/// The bound that ended a reading, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) bound: &'static str,
    pub(super) line: u64,
}

/// Of memory that is there whatever a file holds: what was read ahead.
const BUFFERS: u64 = 2 << 20;

impl Budget {
    pub(super) fn new(limit: &Limit) -> Budget {
        Budget { memory: limit.memory.saturating_sub(BUFFERS), deadline: limit.deadline, taken: 0 }
    }

    /// About how many bytes what was read takes.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether there is room for so many bytes more than were told from what was read, up to this line.
    pub(super) fn room(&self, bytes: u64, line: u64) -> Result<(), Ended> {
        if self.taken + bytes > self.memory { Err(Ended { bound: "memory", line }) } else { Ok(()) }
    }

    /// Whether there is no time left to go on behind this line.
    pub(super) fn late(&self, line: u64) -> Result<(), Ended> {
        let late = self.deadline.passed();
        if late { Err(Ended { bound: "time", line }) } else { Ok(()) }
    }

    /// All of a source, or why not.
    pub(super) fn read(
        &mut self,
        source: &mut dyn BufRead,
        scale: Scale,
    ) -> io::Result<Result<Vec<u8>, Ended>> {
        let (mut text, mut line, mut between) = (Vec::new(), 1, true);
        loop {
            if let Err(ended) = self.late(line) {
                return Ok(Err(ended));
            }
            let block = source.fill_buf()?;
            if block.is_empty() {
                return Ok(Ok(text));
            }
            for byte in block {
                let opens = matches!(byte, b'[' | b'(' | b'{' | b'#' | b'^');
                let separates = byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b')' | b'}');
                let word = opens || (between && !separates);
                between = opens || separates || *byte == b'"' || *byte == b':';
                self.taken += scale.byte
                    + if word { scale.word } else { 0 }
                    + if *byte == b'{' { scale.map } else { 0 }
                    + if *byte == b'\n' { scale.line } else { 0 };
                line += u64::from(*byte == b'\n');
                if self.taken > self.memory {
                    return Ok(Err(Ended { bound: "memory", line }));
                }
            }
            text.extend_from_slice(block);
            let length = block.len();
            source.consume(length);
        }
    }
}
