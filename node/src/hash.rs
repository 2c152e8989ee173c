//! The hash by which nodes compare what they hold: XXH3 with 64 bits, whose values are published and the same on every machine.
//! It finds accidents (two different inputs look alike once in 2^64 pairs), it does not stop an adversary: that is what
//! checksums of files and tags of datagrams are for.

use twox_hash::XxHash3_64;

/// The hash of `bytes`, given a hash of what came before them.
pub(crate) fn hash(before: u64, bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(before, bytes)
}

/// One hash over the pieces, each under that of those before it, so that no two lists of pieces look alike.
pub(crate) fn hash_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    pieces.into_iter().fold(0, hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Traces and data directories keep hashes: they must not change with a release of the library.
    #[test]
    fn hashes_are_the_published_ones() {
        // From the reference implementation: XXH3_64bits of nothing, and of "abc".
        assert_eq!(hash(0, b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(hash(0, b"abc"), 0x78af_5f94_892f_3950);
    }

    #[test]
    fn no_two_lists_of_pieces_look_alike() {
        let lists: [&[&[u8]]; 7] =
            [&[], &[b""], &[b"", b""], &[b"ab"], &[b"a", b"b"], &[b"ab", b""], &[b"", b"ab"]];
        let hashes: std::collections::BTreeSet<u64> =
            lists.iter().map(|list| hash_pieces(list.iter().copied())).collect();
        assert_eq!(hashes.len(), lists.len());
        assert_ne!(hash(1, b"ab"), hash(2, b"ab"), "what came before counts");
    }
}
