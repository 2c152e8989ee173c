//! The hasher of the tables that every operation goes through: a multiplication a word, the same on every machine and in every
//! run. It resists nobody who chooses keys to collide; nothing is ever ordered by it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table of this hasher.
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<Multiply>>;

/// Odd, and its bits are spread evenly: 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Folds words into one by multiplication.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        // The table takes its place from the low bits and a tag from the high ones: mix both.
        (self.0 ^ (self.0 >> 32)).wrapping_mul(FACTOR) ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(FACTOR);
    }

    fn write_i64(&mut self, n: i64) {
        self.write_u64(n.cast_unsigned());
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    #[test]
    fn neighbours_fall_into_different_places() {
        let hash = |n: i64| BuildHasherDefault::<Multiply>::default().hash_one(crate::history::Value::Int(n));
        let places: HashSet<u64> = (0..1 << 16).map(|n| hash(n) & 0xffff).collect();
        assert!(places.len() > 1 << 15, "{} places for 65536 values", places.len());
        let tags: HashSet<u64> = (0..1 << 10).map(|n| hash(n) >> 57).collect();
        assert_eq!(tags.len(), 128);
        let strided: HashSet<u64> = (0..1 << 16).map(|n| hash(n << 20) & 0xffff).collect();
        assert!(strided.len() > 1 << 14, "{} places for 65536 strided values", strided.len());
    }
}
