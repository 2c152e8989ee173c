//! Little-endian integers and length-prefixed bytes: the alphabet of every format that the node writes.
//! What is spelled with it is the business of each codec.

/// Announces a length of four bytes. Whatever is shorter has a length of two: no bytes are spelled in two ways.
const LONG: u16 = u16::MAX;

/// The bytes are not what their format promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed bytes")]
pub struct Malformed;

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: Vec<u8>,
}

impl Writer {
    /// A writer that appends to `buffer`.
    pub fn onto(buffer: Vec<u8>) -> Writer {
        Writer { buffer }
    }
    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.buffer
    }
    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.buffer.push(value);
    }
    /// Two bytes.
    pub fn u16(&mut self, value: u16) {
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }
    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }
    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }
    /// Bytes of a fixed number.
    pub fn array<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.buffer.extend_from_slice(bytes);
    }
    /// Bytes with their length: two bytes, or [`LONG`] and four more.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.buffer.extend_from_slice(bytes);
    }
    /// The length that stands before bytes.
    pub fn length(&mut self, length: usize) {
        match u16::try_from(length) {
            Ok(length) if length < LONG => self.u16(length),
            _ => {
                let long = u32::try_from(length);
                assert!(long.is_ok(), "{length} bytes do not fit a four-byte length");
                self.u16(LONG);
                self.u32(long.unwrap_or_default());
            }
        }
    }
    /// Bytes with a four-byte length. Every caller bounds them far below 4 GiB.
    pub fn long_bytes(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len());
        assert!(length.is_ok(), "{} bytes do not fit a four-byte length", bytes.len());
        self.u32(length.unwrap_or_default());
        self.buffer.extend_from_slice(bytes);
    }
    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }
    /// Whether none were.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
    /// Bytes, or their absence.
    pub fn optional_bytes(&mut self, bytes: Option<&[u8]>) {
        self.u8(u8::from(bytes.is_some()));
        if let Some(bytes) = bytes {
            self.bytes(bytes);
        }
    }
}

/// Takes values from a buffer, and never more than is there.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Bytes of a fixed number.
    ///
    /// # Errors
    /// When there are not so many; likewise below.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*head)
    }
    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }
    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    /// A boolean: 0 or 1, nothing else.
    pub fn boolean(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }
    /// Bytes with their length.
    pub fn slice(&mut self) -> Result<&'a [u8], Malformed> {
        let length = match self.u16()? {
            LONG => self.u32().ok().filter(|length| *length >= u32::from(LONG)).ok_or(Malformed)? as usize,
            short => usize::from(short),
        };
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(head)
    }
    /// Bytes with their length, copied.
    pub fn bytes(&mut self) -> Result<Vec<u8>, Malformed> {
        self.slice().map(<[u8]>::to_vec)
    }
    /// Bytes, or their absence.
    pub fn optional_bytes(&mut self) -> Result<Option<Vec<u8>>, Malformed> {
        if self.boolean()? { self.bytes().map(Some) } else { Ok(None) }
    }
    /// Bytes with a four-byte length.
    pub fn long_slice(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(head)
    }
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
    /// Everything that is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
    /// Makes sure that nothing is left.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_short_where_they_can_be_and_are_spelled_in_one_way() {
        for (length, prefix) in [(0, 2), (65_534, 2), (65_535, 6), (1 << 20, 6)] {
            let mut writer = Writer::default();
            writer.bytes(&vec![7; length]);
            let bytes = writer.into_bytes();
            assert_eq!(bytes.len(), prefix + length);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.slice().map(<[u8]>::len), Ok(length));
            assert_eq!(reader.finish(), Ok(()));
            assert_eq!(Reader::new(&bytes[..bytes.len() - 1]).slice(), Err(Malformed));
        }
        let long_way_to_say_three = [&LONG.to_le_bytes()[..], &3_u32.to_le_bytes(), b"abc"].concat();
        assert_eq!(Reader::new(&long_way_to_say_three).slice(), Err(Malformed));
    }
}
