//! What the bytes of something must be that travels apart from the message that names it.
//! How it travels is the transport's business.

use super::wire::{Malformed, Reader, Writer};

/// Size and hash of some bytes. The hash is cut from BLAKE3: nobody finds other bytes with the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Content {
    /// Bytes.
    pub size: u32,
    /// Their hash.
    pub hash: [u8; 16],
}

impl Content {
    /// What these bytes are.
    pub fn of(bytes: &[u8]) -> Content {
        Content::of_pieces(&[bytes])
    }

    /// What these bytes, one piece after the other, are.
    pub fn of_pieces(pieces: &[&[u8]]) -> Content {
        let mut hasher = blake3::Hasher::new();
        let mut size = 0;
        for piece in pieces {
            hasher.update(piece);
            size += piece.len();
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Content { size: u32::try_from(size).unwrap_or(u32::MAX), hash }
    }

    /// The beginning of the hash, as a number.
    pub fn short_hash(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.hash[..8]);
        u64::from_le_bytes(first)
    }

    /// Writes it.
    pub fn encode(&self, writer: &mut Writer) {
        writer.u32(self.size);
        writer.array(&self.hash);
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the bytes end before it does.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Content, Malformed> {
        Ok(Content { size: reader.u32()?, hash: reader.array()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_told_apart() {
        let whole = Content::of(b"one and two");
        assert_eq!(Content::of_pieces(&[b"one ", b"and two"]), whole);
        assert_eq!(whole.size, 11);
        assert_ne!(Content::of(b"one and twp"), whole);
        assert_ne!(Content::of(b"one and twp").short_hash(), whole.short_hash());
    }
}
