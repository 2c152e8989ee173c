//! Messages of Maelstrom as datagrams: each part of their JSON behind a checksum, because a program that trusts its network must not be
//! shown bytes that nobody sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Longest message, bytes.
pub(super) const BYTES_MAX: usize = 8 << 20;
/// Bytes of a message in one datagram.
const PART_BYTES: usize = 32_000;
/// Parts that go out at once; a receiver's buffer has room for some more.
pub(super) const PARTS_AT_ONCE: usize = 2;
/// The rest before the next ones.
pub(super) const REST: Duration = Duration::from_millis(1);
/// Messages of which some parts are there: the oldest is given up for a new one, as its other parts are lost.
const UNFINISHED_MAX: usize = 32;
/// Bytes of the checksum, of the number of the message, and of which part of how many this is.
const HEAD_BYTES: usize = 8 + 8 + 2 + 2;

/// A message, and the address of the client who sent it first, if the sender knows and the message is a client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) client: Option<SocketAddr>,
    pub(super) message: Vec<u8>,
}

impl Letter {
    /// The datagrams that carry this; `None` if it is too long. A sender gives each letter another number.
    pub(super) fn seal(&self, number: u64) -> Option<Vec<Vec<u8>>> {
        let client = self.client.map(|client| client.to_string()).unwrap_or_default();
        let text = [&[u8::try_from(client.len()).ok()?], client.as_bytes(), &self.message].concat();
        let parts = u16::try_from(text.len().div_ceil(PART_BYTES)).ok()?;
        let seal = |(part, bytes): (u16, &[u8])| {
            let rest = [&number.to_le_bytes()[..], &part.to_le_bytes(), &parts.to_le_bytes(), bytes].concat();
            [&sum(&rest).to_le_bytes()[..], &rest].concat()
        };
        (self.message.len() <= BYTES_MAX).then(|| (0..).zip(text.chunks(PART_BYTES)).map(seal).collect())
    }

    fn read(text: &[u8]) -> Option<Letter> {
        let (length, text) = text.split_first()?;
        let (client, message) = text.split_at_checked(usize::from(*length))?;
        let client = std::str::from_utf8(client).ok()?;
        Some(Letter { client: client.parse().ok(), message: message.to_vec() })
    }
}

/// A letter of which some parts are there.
#[derive(Debug)]
struct Unfinished {
    /// How many had been begun when its first part came.
    begun: u64,
    parts: Vec<Option<Vec<u8>>>,
}

/// Puts the parts of letters together.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// By sender and number.
    unfinished: BTreeMap<(SocketAddr, u64), Unfinished>,
    begun: u64,
}

impl Mailbox {
    /// The letter that this datagram completes; `None` if it is damaged, or others are to come.
    pub(super) fn take(&mut self, source: SocketAddr, datagram: &[u8]) -> Option<Letter> {
        let (found, rest) = datagram.split_first_chunk::<8>()?;
        if u64::from_le_bytes(*found) != sum(rest) || datagram.len() < HEAD_BYTES {
            return None;
        }
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (part, rest) = rest.split_first_chunk::<2>()?;
        let (parts, bytes) = rest.split_first_chunk::<2>()?;
        let parts = usize::from(u16::from_le_bytes(*parts));
        if parts == 1 {
            return Letter::read(bytes);
        }
        let key = (source, u64::from_le_bytes(*number));
        if !self.unfinished.contains_key(&key) && self.unfinished.len() >= UNFINISHED_MAX {
            let oldest = self.unfinished.iter().min_by_key(|(_, letter)| letter.begun).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.unfinished.remove(&oldest));
        }
        self.begun += 1;
        let new = || Unfinished { begun: self.begun, parts: vec![None; parts] };
        let letter = self.unfinished.entry(key).or_insert_with(new);
        *letter.parts.get_mut(usize::from(u16::from_le_bytes(*part)))? = Some(bytes.to_vec());
        if letter.parts.iter().any(Option::is_none) {
            return None;
        }
        let letter = self.unfinished.remove(&key)?;
        Letter::read(&letter.parts.into_iter().flatten().collect::<Vec<_>>().concat())
    }
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

    fn letter(bytes: usize) -> Letter {
        let message = (0..bytes).map(|place| (place % 251) as u8).collect();
        Letter { client: Some("127.0.0.1:7".parse().unwrap()), message }
    }

    fn source() -> SocketAddr {
        "127.0.0.1:9".parse().unwrap()
    }

    #[test]
    fn a_letter_is_what_was_sealed_or_nothing() {
        let letter = Letter { client: None, message: b"{\"src\":\"n1\"}".to_vec() };
        let [sealed] = &letter.seal(1).unwrap()[..] else { panic!("more than one datagram") };
        let open = |datagram: &[u8]| Mailbox::default().take(source(), datagram);
        assert_eq!(open(sealed), Some(letter));
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&damaged), None, "bit {bit}");
        }
        assert!((0..sealed.len()).all(|length| open(&sealed[..length]).is_none()));
        assert!(super::tests::letter(BYTES_MAX).seal(1).is_some());
        assert!(super::tests::letter(BYTES_MAX + 1).seal(1).is_none());
    }

    #[test]
    fn a_long_letter_comes_in_parts_in_any_order_and_twice() {
        let (long, other) = (letter(200_000), letter(100_000));
        let mut datagrams = [long.seal(1).unwrap(), other.seal(2).unwrap()].concat();
        assert!(datagrams.len() == 7 + 4 && datagrams.iter().all(|datagram| datagram.len() < 1 << 15));
        datagrams.reverse();
        let mut mailbox = Mailbox::default();
        let doubled = datagrams.iter().flat_map(|datagram| [datagram, datagram]);
        let came: Vec<Letter> = doubled.filter_map(|datagram| mailbox.take(source(), datagram)).collect();
        assert_eq!(came, [other, long]);
    }

    #[test]
    fn a_letter_that_lost_a_part_is_lost_and_is_forgotten() {
        let mut mailbox = Mailbox::default();
        for number in 0..100 {
            let datagrams = letter(100_000).seal(number).unwrap();
            assert!(datagrams[1..].iter().all(|datagram| mailbox.take(source(), datagram).is_none()));
        }
        assert_eq!(mailbox.unfinished.len(), UNFINISHED_MAX);
        // The first is forgotten, the last is not.
        let first = |number| letter(100_000).seal(number).unwrap().swap_remove(0);
        assert_eq!(mailbox.take(source(), &first(99)), Some(letter(100_000)));
        assert_eq!(mailbox.take(source(), &first(0)), None);
    }
}
