//! The four verdicts, their exit codes and which of two decides.
//! Why a verdict was reached is the report's business.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a judge says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything looked at obeys every rule, and there was something to look at.
    Valid,
    /// A rule is broken, and a small set of operations or events shows it.
    Invalid,
    /// Neither could be shown: nothing was looked at, or the budget ended first.
    Unknown,
    /// The tool itself could not do its work. Never a word about the system.
    Error,
}

impl Verdict {
    /// Exit code of all three programs: 0 valid, 1 invalid, 2 unknown, 3 error of the tool.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Valid => 0,
            Verdict::Invalid => 1,
            Verdict::Unknown => 2,
            Verdict::Error => 3,
        }
    }

    /// The one of the two that decides: invalid, then error, then unknown, then valid.
    pub fn worst(self, other: Verdict) -> Verdict {
        let rank = |verdict| match verdict {
            Verdict::Valid => 0,
            Verdict::Unknown => 1,
            Verdict::Error => 2,
            Verdict::Invalid => 3,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Valid => "valid",
            Verdict::Invalid => "invalid",
            Verdict::Unknown => "unknown",
            Verdict::Error => "error",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{self, Error, Invalid, Unknown, Valid};

    #[test]
    fn invalid_then_error_then_unknown_then_valid_decides() {
        let ranked: [Verdict; 4] = [Valid, Unknown, Error, Invalid];
        for (i, a) in ranked.into_iter().enumerate() {
            for (j, b) in ranked.into_iter().enumerate() {
                assert_eq!(a.worst(b), ranked[i.max(j)], "{a} against {b}");
            }
        }
        assert_eq!([Valid, Invalid, Unknown, Error].map(Verdict::exit_code), [0, 1, 2, 3]);
    }
}
