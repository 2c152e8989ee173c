//! The key of a cluster: every datagram of those who have it carries a tag that nobody else can make.
//! Where a tag stands is the frame's business. Nothing is encrypted: a key says who may speak, not who may listen.
//!
//! A datagram that was sent once can be sent again by anybody who saw it, with a tag that is right. The protocol takes that
//! for what it looks like, a network that duplicates and delays: terms, rounds, log ids and sessions make a late copy of any
//! datagram do nothing that the first one did not.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::frame::TAG_BYTES;

/// Shortest secret, in bytes: what 24 random bytes are in base64.
pub const SECRET_BYTES_MIN: usize = 32;
/// Longest secret, in bytes. A file that is longer is none that was made for this.
pub const SECRET_BYTES_MAX: usize = 4_096;
/// Tells a key for this purpose from one that something else derives from the same secret.
const CONTEXT: &str = "whitewater cluster key, tags of datagrams, version 1";

/// A cluster's key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

/// Why a file is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("cannot read the key file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read or change it.
    #[error("the key file {} is open to others than its owner (mode {mode:03o})", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Too little, or too much.
    #[error(
        "the key file {} holds a secret of {bytes} bytes, not of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}",
        path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// What it holds, as far as it was read.
        bytes: usize,
    },
}

impl KeyError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            KeyError::Read { .. } => "check the path and its permissions".to_owned(),
            KeyError::Open { path, .. } => format!("chmod 600 {}", path.display()),
            KeyError::Length { path, .. } => {
                format!("make one with: (umask 077; head -c 32 /dev/urandom | base64 > {})", path.display())
            }
        }
    }
}

impl Key {
    /// The key that a secret stands for; `None` if it is too short or too long.
    pub fn of_secret(secret: &[u8]) -> Option<Key> {
        let fits = (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len());
        fits.then(|| Key(blake3::derive_key(CONTEXT, secret)))
    }

    /// The key in a file: its bytes, without the end of the last line.
    ///
    /// # Errors
    /// When it cannot be read, is open to others, or holds too little or too much.
    pub fn load(path: &Path) -> Result<Key, KeyError> {
        let read = |source| KeyError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        // Of the open file: a path may come to mean another one.
        let mode = file.metadata().map_err(read)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { path: path.to_owned(), mode });
        }
        let mut secret = Vec::new();
        file.take(SECRET_BYTES_MAX as u64 + 2).read_to_end(&mut secret).map_err(read)?;
        let line = secret.strip_suffix(b"\n").unwrap_or(&secret);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Key::of_secret(line).ok_or(KeyError::Length { path: path.to_owned(), bytes: line.len() })
    }

    /// The tag of these bytes.
    pub fn tag(&self, bytes: &[u8]) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&blake3::keyed_hash(&self.0, bytes).as_bytes()[..TAG_BYTES]);
        tag
    }

    /// Whether `tag` is the tag of `bytes`. Takes as long for a tag that is wrong in its first byte as for any other: else a
    /// stranger could find the right one byte by byte.
    pub fn verifies(&self, bytes: &[u8], tag: &[u8]) -> bool {
        let right = self.tag(bytes);
        let differences = right.iter().zip(tag).fold(0, |all, (a, b)| all | std::hint::black_box(a ^ b));
        tag.len() == TAG_BYTES && differences == 0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Key {
        Key::of_secret(&[byte; SECRET_BYTES_MIN]).unwrap()
    }

    #[test]
    fn a_tag_verifies_its_bytes_under_its_key_alone() {
        let tag = key(1).tag(b"bytes");
        assert!(key(1).verifies(b"bytes", &tag));
        assert!(!key(2).verifies(b"bytes", &tag) && !key(1).verifies(b"byte", &tag));
        for at in 0..tag.len() {
            let mut wrong = tag;
            wrong[at] ^= 1;
            assert!(!key(1).verifies(b"bytes", &wrong), "byte {at}");
        }
        assert!(!key(1).verifies(b"bytes", &tag[1..]) && !key(1).verifies(b"bytes", &[]));
        assert_eq!(format!("{:?}", key(1)), "Key(..)", "no key in a log");
    }

    #[test]
    fn a_key_file_is_private_and_long_enough() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let write = |bytes: &[u8], mode| {
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            Key::load(&path)
        };
        assert!(matches!(Key::load(&path), Err(KeyError::Read { .. })));
        let secret = [b's'; SECRET_BYTES_MIN];
        let right = Key::of_secret(&secret).unwrap();
        for end in ["", "\n", "\r\n"] {
            assert_eq!(write(&[&secret, end.as_bytes()].concat(), 0o600).unwrap(), right);
        }
        assert_eq!(write(&secret, 0o400).unwrap(), right);
        assert_ne!(write(&[&secret[..], b" \n"].concat(), 0o600).unwrap(), right);
        for mode in [0o640, 0o604, 0o620] {
            assert!(matches!(write(&secret, mode), Err(KeyError::Open { mode: m, .. }) if m == mode));
        }
        let longest = vec![1; SECRET_BYTES_MAX];
        assert!(write(&longest, 0o600).is_ok());
        for wrong in [&secret[1..], &[&longest[..], &[1]].concat(), &vec![1; 1 << 20], &[]] {
            let error = write(wrong, 0o600).unwrap_err();
            assert!(matches!(error, KeyError::Length { .. }), "{error}");
            assert!(error.hint().contains("/dev/urandom"));
        }
    }
}
