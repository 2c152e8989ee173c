//! Messages of Maelstrom as datagrams: their JSON behind a checksum, because a program that trusts its network must not be shown bytes that
//! nobody sent.

/// Longest message, bytes: what fits into a datagram.
pub(super) const BYTES_MAX: usize = 65_000;
/// Bytes of the checksum.
const SUM_BYTES: usize = 8;

/// A datagram that carries a message; `None` if it is too long.
pub(super) fn seal(message: &[u8]) -> Option<Vec<u8>> {
    let fits = message.len() <= BYTES_MAX;
    fits.then(|| [&sum(message).to_le_bytes(), message].concat())
}

/// The message that a datagram carries; `None` if it is damaged.
pub(super) fn open(datagram: &[u8]) -> Option<&[u8]> {
    let (found, message) = datagram.split_first_chunk::<SUM_BYTES>()?;
    (u64::from_le_bytes(*found) == sum(message)).then_some(message)
}

/// FNV-1a: one bit more or less is found for certain.
fn sum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_what_was_sealed_or_nothing() {
        let sealed = seal(b"{\"src\":\"n1\"}").unwrap();
        assert_eq!(open(&sealed), Some(&b"{\"src\":\"n1\"}"[..]));
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&damaged), None, "bit {bit}");
        }
        assert!((0..sealed.len()).all(|length| open(&sealed[..length]).is_none()));
        assert!(seal(&vec![b'x'; BYTES_MAX]).is_some() && seal(&vec![b'x'; BYTES_MAX + 1]).is_none());
    }
}
