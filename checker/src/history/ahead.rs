//! Reads a source ahead in a thread of its own, so that waiting for bytes, or unpacking them, and understanding them overlap.
//! What the bytes mean is the reader's business.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, sync_channel};

/// Bytes of a block.
const BLOCK: usize = 1 << 18;
/// Blocks that may wait: the bound on what is read ahead.
const WAITING: usize = 4;

/// A source that is read ahead.
pub(super) struct Ahead {
    blocks: Receiver<io::Result<Vec<u8>>>,
    block: Vec<u8>,
    at: usize,
}

impl Ahead {
    /// Begins to read. The thread ends with the source, its first error, or with this.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn of(mut source: impl Read + Send + 'static) -> io::Result<Ahead> {
        let (sender, blocks) = sync_channel(WAITING);
        let read = move || {
            loop {
                let mut block = Vec::with_capacity(BLOCK);
                let result = source.by_ref().take(BLOCK as u64).read_to_end(&mut block).map(|_| block);
                let last = !matches!(&result, Ok(block) if !block.is_empty());
                // Nobody listens any more: whoever reads has seen enough.
                if sender.send(result).is_err() || last {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("read ahead".into()).spawn(read)?;
        Ok(Ahead { blocks, block: Vec::new(), at: 0 })
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.block.len() {
            // A closed channel is the end: the last block was empty, or an error that was told.
            self.block = self.blocks.recv().unwrap_or_else(|_| Ok(Vec::new()))?;
            self.at = 0;
        }
        Ok(&self.block[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.block.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_ahead_is_what_was_there() {
        let bytes: Vec<u8> = (0..3 * BLOCK + 17).map(|i| (i * 7 % 251) as u8).collect();
        for length in [0, 1, BLOCK, 2 * BLOCK + 1, bytes.len()] {
            let mut read = Vec::new();
            let mut ahead = Ahead::of(io::Cursor::new(bytes[..length].to_vec())).unwrap();
            ahead.read_to_end(&mut read).unwrap();
            assert!(read == bytes[..length], "{length} bytes");
            assert_eq!(ahead.fill_buf().unwrap(), b"", "the end stays the end");
        }
        assert!(
            Ahead::of(io::repeat(1)).unwrap().fill_buf().unwrap().len() == BLOCK,
            "an endless source is left alone"
        );
    }

    #[test]
    fn an_error_is_told_after_what_came_before_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let mut ahead = Ahead::of(io::Cursor::new(vec![1; BLOCK]).chain(Broken)).unwrap();
        assert_eq!(ahead.fill_buf().unwrap().len(), BLOCK);
        ahead.consume(BLOCK);
        assert_eq!(ahead.fill_buf().unwrap_err().to_string(), "broken");
    }
}
