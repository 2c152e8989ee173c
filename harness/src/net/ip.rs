//! IPv4 datagrams as the switch needs them: whom they are from and to, how one bit of a payload is changed, what resets a connection.
//! Pure; reading and writing them is the business of [`super::switch`].

use std::net::Ipv4Addr;

use super::forward::change as change_bit;
use super::rules::Change;

const TCP: u8 = 6;
const UDP: u8 = 17;
const IP_HEADER_BYTES: usize = 20;
const TCP_HEADER_BYTES: usize = 20;
const UDP_HEADER_BYTES: usize = 8;
/// Flags of TCP.
const RST_ACK: u8 = 0x14;
const RST: u8 = 0x04;

/// Sender and receiver; `None` if it is no IPv4 datagram.
pub(super) fn ends(bytes: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
    let is_v4 = bytes.first().is_some_and(|first| first >> 4 == 4);
    is_v4.then(|| Some((address(12)?, address(16)?))).flatten()
}

/// Where the header of a whole datagram of this protocol ends; `None` if it is another's, a fragment, or torn.
fn transport(bytes: &[u8], protocol: u8) -> Option<usize> {
    let header = usize::from(bytes.first()? & 0xf) * 4;
    let fragment = u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]) & 0x3fff != 0;
    let is_it = header >= IP_HEADER_BYTES && *bytes.get(9)? == protocol && !fragment;
    is_it.then_some(header)
}

/// Where its payload begins.
fn payload(bytes: &[u8]) -> Option<usize> {
    if let Some(header) = transport(bytes, UDP) {
        return Some(header + UDP_HEADER_BYTES);
    }
    let header = transport(bytes, TCP)?;
    Some(header + usize::from(bytes.get(header + 12)? >> 4) * 4)
}

/// Changes one bit of its payload. A receiver's application gets to see what is in a datagram of UDP alone: in TCP nobody but the
/// kernel is there to find it, and the systems above may rely on that.
pub(super) fn change(bytes: &mut [u8], how: Change) {
    let Some(begins) = payload(bytes).filter(|begins| *begins < bytes.len()) else { return };
    match how {
        Change::Dropped(draw) => change_bit(&mut bytes[begins..], draw),
        Change::Seen(draw) => {
            let Some(header) = transport(bytes, UDP) else { return };
            change_bit(&mut bytes[begins..], draw);
            let sum = transport_sum(bytes, header, header + 6);
            // Zero would say that there is none.
            put(bytes, header + 6, if sum == 0 { 0xffff } else { sum });
        }
    }
}

/// What makes both ends of the connection of a datagram believe that the other reset it: what its receiver gets in its place, and what
/// its sender gets. `None` if it is not TCP, or a reset itself.
pub(super) fn resets(bytes: &[u8]) -> Option<[Vec<u8>; 2]> {
    let header = transport(bytes, TCP)?;
    let tcp = bytes.get(header..header + TCP_HEADER_BYTES)?;
    if tcp[13] & RST != 0 {
        return None;
    }
    let (from, to) = ends(bytes)?;
    let (ports, sequence, acknowledged) = (&tcp[0..4], &tcp[4..8], &tcp[8..12]);
    let back = [ports[2], ports[3], ports[0], ports[1]];
    // A SYN or FIN counts as a byte, and what it carries has arrived: only then is the answer about the right one.
    let length = bytes.len().checked_sub(header + usize::from(tcp[12] >> 4) * 4)?;
    let number = u32::from_be_bytes(sequence.try_into().ok()?);
    let expected = number.wrapping_add(u32::try_from(length).ok()?) + u32::from(tcp[13] & 3 != 0);
    // The sender expects the byte that it acknowledged; without that, the answer to a SYN begins anywhere.
    Some([
        segment((from, to), ports, sequence, acknowledged),
        segment((to, from), &back, acknowledged, &expected.to_be_bytes()),
    ])
}

/// An empty segment that resets.
fn segment((from, to): (Ipv4Addr, Ipv4Addr), ports: &[u8], sequence: &[u8], acknowledged: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; IP_HEADER_BYTES + TCP_HEADER_BYTES];
    bytes[0] = 0x45;
    bytes[3] = (IP_HEADER_BYTES + TCP_HEADER_BYTES) as u8;
    (bytes[8], bytes[9]) = (64, TCP);
    bytes[12..16].copy_from_slice(&from.octets());
    bytes[16..20].copy_from_slice(&to.octets());
    let sum = !fold(add(0, &bytes[..IP_HEADER_BYTES]));
    put(&mut bytes, 10, sum);
    let tcp = &mut bytes[IP_HEADER_BYTES..];
    tcp[0..4].copy_from_slice(ports);
    tcp[4..8].copy_from_slice(sequence);
    tcp[8..12].copy_from_slice(acknowledged);
    (tcp[12], tcp[13]) = (((TCP_HEADER_BYTES / 4) << 4) as u8, RST_ACK);
    let sum = transport_sum(&bytes, IP_HEADER_BYTES, IP_HEADER_BYTES + 16);
    put(&mut bytes, IP_HEADER_BYTES + 16, sum);
    bytes
}

fn put(bytes: &mut [u8], at: usize, sum: u16) {
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The checksum of what follows the header of IP, with its pseudo-header (RFC 768, RFC 9293 §3.1), as if the one at `at` were zero.
fn transport_sum(bytes: &[u8], header: usize, at: usize) -> u16 {
    let length = (bytes.len() - header) as u32;
    let pseudo = add(u32::from(bytes[9]) + length, &bytes[12..20]);
    let sum = add(pseudo, &bytes[header..at]);
    // Both parts begin at even distances.
    !fold(add(sum, &bytes[at + 2..]))
}

fn add(sum: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(sum, |sum, word| {
        sum + (u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or_default()))
    })
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A datagram of UDP with a right checksum.
    fn datagram(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; IP_HEADER_BYTES + UDP_HEADER_BYTES];
        bytes[0] = 0x45;
        bytes[9] = UDP;
        bytes[12..20].copy_from_slice(&[10, 1, 2, 1, 10, 1, 2, 2]);
        bytes[25] = (UDP_HEADER_BYTES + payload.len()) as u8;
        bytes.extend(payload);
        let sum = transport_sum(&bytes, IP_HEADER_BYTES, IP_HEADER_BYTES + 6);
        put(&mut bytes, IP_HEADER_BYTES + 6, sum);
        bytes
    }

    /// Whether the checksum over the pseudo-header and everything behind it is right.
    fn is_right(bytes: &[u8]) -> bool {
        let length = (bytes.len() - IP_HEADER_BYTES) as u32;
        let sum = add(u32::from(bytes[9]) + length, &bytes[12..20]);
        fold(add(sum, &bytes[IP_HEADER_BYTES..])) == 0xffff
    }

    #[test]
    fn a_change_touches_one_bit_of_the_payload_and_the_checksum_if_it_is_to_be_seen() {
        for length in [1, 2, 7, 40] {
            let whole = datagram(&vec![0xa5; length]);
            assert!(is_right(&whole));
            for draw in 0..400 {
                for how in [Change::Seen(draw), Change::Dropped(draw)] {
                    let mut bytes = whole.clone();
                    change(&mut bytes, how);
                    let bits = |range: std::ops::Range<usize>| -> u32 {
                        range.map(|at| (bytes[at] ^ whole[at]).count_ones()).sum()
                    };
                    assert_eq!((bits(28..bytes.len()), bits(0..26)), (1, 0));
                    assert_eq!(is_right(&bytes), matches!(how, Change::Seen(_)));
                }
            }
        }
        let mut empty = datagram(&[]);
        change(&mut empty, Change::Seen(3));
        assert_eq!(empty, datagram(&[]));
    }

    #[test]
    fn what_is_torn_or_a_fragment_is_left_alone() {
        let mut fragment = datagram(b"some text");
        fragment[6] = 0x20;
        let before = fragment.clone();
        change(&mut fragment, Change::Seen(1));
        assert!(fragment == before && resets(&fragment).is_none());
        let whole = datagram(b"some text");
        for length in 0..whole.len() {
            let mut torn = whole[..length].to_vec();
            change(&mut torn, Change::Dropped(9));
            assert!(resets(&torn).is_none());
            assert_eq!(ends(&torn).is_some(), length >= 20);
        }
        assert_eq!(ends(&[0x60; 40]), None, "IPv6");
        assert_eq!(ends(&whole), Some(([10, 1, 2, 1].into(), [10, 1, 2, 2].into())));
    }

    #[test]
    fn a_reset_says_to_each_end_what_it_expects_of_the_other() {
        // 5 bytes from port 1 to port 2, number 100, that acknowledge up to 700.
        let from = ([10, 1, 2, 1].into(), [10, 1, 2, 2].into());
        let mut bytes = segment(from, &[0, 1, 0, 2], &100_u32.to_be_bytes(), &700_u32.to_be_bytes());
        assert!(resets(&bytes).is_none(), "a reset is not answered");
        bytes[33] = 0x10;
        bytes.extend(b"bytes");
        let [there, back] = resets(&bytes).unwrap();
        assert!(is_right(&there) && is_right(&back));
        assert_eq!((ends(&there), ends(&back)), (Some(from), Some((from.1, from.0))));
        assert_eq!((&there[20..24], &back[20..24]), (&[0, 1, 0, 2][..], &[0, 2, 0, 1][..]));
        assert_eq!((&there[24..28], &back[24..28]), (&100_u32.to_be_bytes()[..], &700_u32.to_be_bytes()[..]));
        assert_eq!(back[28..32], 105_u32.to_be_bytes());
        assert_eq!((there[33], back[33]), (RST_ACK, RST_ACK));
        // Torn behind the header of IP.
        assert!(resets(&bytes[..30]).is_none());
    }
}
