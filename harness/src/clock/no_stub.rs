//! Where there is no code for this processor: nothing can be bent, and nobody gets so far as to try.

use std::io;

pub(super) const TABLE_CLOCKS: usize = 8;
pub(super) const TABLE_BYTES: usize = 0;

/// A line of a table that is never written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bend;

impl Bend {
    pub(super) fn at(_now_ns: u64, _shown_ns: u64, _rate: f64) -> Bend {
        Bend
    }

    pub(super) fn not_before_the_time(self) -> Bend {
        self
    }
}

/// No code: no image has room for it.
pub(super) fn code() -> &'static [u8] {
    &[]
}

pub(super) fn gettimeofday() -> usize {
    0
}

pub(super) fn time() -> usize {
    0
}

pub(super) fn with_table(_bends: &[Bend; TABLE_CLOCKS]) -> Vec<u8> {
    Vec::new()
}

pub(super) fn jump(_from: u64, _to: u64) -> [u8; 5] {
    [0; 5]
}

pub(super) fn run(_bytes: &[u8], _clock: i32) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}
