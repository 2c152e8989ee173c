//! Profiles: which faults a run has, how many at once and how dense, as TOML files.
//! Drawing the faults themselves is the schedule's work.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::anchor::Moment;
use crate::fault::FaultKind;
use crate::target::Target;

/// Profiles that come with the harness, by name.
pub const SHIPPED: [(&str, &str); 9] = [
    ("steady", include_str!("../profiles/steady.toml")),
    ("calm", include_str!("../profiles/calm.toml")),
    ("storm", include_str!("../profiles/storm.toml")),
    ("network", include_str!("../profiles/network.toml")),
    ("process", include_str!("../profiles/process.toml")),
    ("disk", include_str!("../profiles/disk.toml")),
    ("nightly", include_str!("../profiles/nightly.toml")),
    ("kills", include_str!("../profiles/kills.toml")),
    ("elections", include_str!("../profiles/elections.toml")),
];
/// The profile of a run that names none.
pub const DEFAULT: &str = "steady";
/// More faults at once than this hide each other.
const TOGETHER_MAX: usize = 8;
/// Who is drawn more often leaves no turn to others.
const WEIGHT_MAX: u32 = 20;
/// Longest healthy time between two storms, milliseconds.
const GAP_MS_MAX: u64 = 600_000;

/// A profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// In one line.
    pub about: String,
    /// Kinds of faults; every kind that the system can have if absent.
    pub faults: Option<Vec<FaultKind>>,
    /// How dense.
    pub pace: Pace,
}

/// The file, flat.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: String,
    #[serde(default)]
    faults: Option<Vec<FaultKind>>,
    gap_ms: (u64, u64),
    together: usize,
    #[serde(default = "hundred")]
    duration_percent: u64,
    #[serde(default)]
    target: Option<Target>,
    #[serde(default)]
    anchors: Vec<Moment>,
    #[serde(default)]
    weights: BTreeMap<FaultKind, u32>,
    #[serde(default)]
    longest_percent: Option<u64>,
}

/// How dense the faults of a run are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Healthy time between storms, milliseconds, shortest and longest: without it a cluster that loses its quorum again and again
    /// does no operations, and a run that did none says nothing.
    pub gap_ms: (u64, u64),
    /// Most faults of one storm, 1 to 8.
    pub together: usize,
    /// How long faults last, in percent of what each kind draws, 1 to 400.
    #[serde(default = "hundred")]
    pub duration_percent: u64,
    /// What storms that were not dealt draw up to in its place, up to 400; that itself if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_percent: Option<u64>,
    /// Whom every fault hits; as each kind draws it if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Moments that kills, pauses and power losses may wait for; none if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anchors: Vec<Moment>,
    /// How many times as often as others kinds are drawn, 1 to 20; as often if absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<FaultKind, u32>,
}

fn hundred() -> u64 {
    100
}

/// The kinds of faults of a run that names none.
pub fn default_faults() -> Vec<FaultKind> {
    // A shipped file is right: a test reads every one.
    let profile = Profile::load(DEFAULT).ok();
    profile.and_then(|profile| profile.faults).unwrap_or_else(|| FaultKind::ALL.to_vec())
}

impl Default for Pace {
    /// That of [`DEFAULT`].
    fn default() -> Self {
        Pace {
            gap_ms: (700, 1_500),
            together: 3,
            duration_percent: 100,
            longest_percent: None,
            target: None,
            anchors: Vec::new(),
            weights: BTreeMap::new(),
        }
    }
}

/// Why a profile is of no use.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProfileError {
    /// Neither a shipped name nor a file.
    #[error("there is no profile {name:?}: {reason}")]
    Missing {
        /// What was asked for.
        name: String,
        /// What the system said.
        reason: String,
    },
    /// A line is wrong.
    #[error("{name}:{line}: {message}")]
    Line {
        /// The file.
        name: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

impl Profile {
    /// The shipped profile of this name, or the one in this file.
    ///
    /// # Errors
    /// There is none, or it is wrong.
    pub fn load(name: &str) -> Result<Profile, ProfileError> {
        match SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            Some((_, text)) => Profile::parse(name, text),
            None => {
                let missing = |error: std::io::Error| ProfileError::Missing {
                    name: name.to_owned(),
                    reason: error.to_string(),
                };
                Profile::parse(name, &std::fs::read_to_string(Path::new(name)).map_err(missing)?)
            }
        }
    }

    fn parse(name: &str, text: &str) -> Result<Profile, ProfileError> {
        let at = |offset: usize, message: String| {
            let line = text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
            ProfileError::Line { name: name.to_owned(), line, message }
        };
        let parsed: Result<File, toml::de::Error> = toml::from_str(text);
        let file = parsed
            .map_err(|error| at(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
        let line_of = |word: &str| text.find(word).unwrap_or_default();
        let File { gap_ms: (shortest, longest), together, duration_percent, .. } = file;
        if shortest > longest || longest > GAP_MS_MAX {
            let message =
                format!("gap_ms is [shortest, longest], up to {GAP_MS_MAX}, not [{shortest}, {longest}]");
            return Err(at(line_of("gap_ms"), message));
        }
        if !(1..=TOGETHER_MAX).contains(&together) {
            return Err(at(line_of("together"), format!("together is 1 to {TOGETHER_MAX}, not {together}")));
        }
        if !(1..=400).contains(&duration_percent) {
            let message = format!("duration_percent is 1 to 400, not {duration_percent}");
            return Err(at(line_of("duration_percent"), message));
        }
        if let Some(longest) = file.longest_percent
            && !(duration_percent..=400).contains(&longest)
        {
            let message = format!("longest_percent is {duration_percent} to 400, not {longest}");
            return Err(at(line_of("longest_percent"), message));
        }
        if let Some((kind, weight)) =
            file.weights.iter().find(|(_, weight)| !(1..=WEIGHT_MAX).contains(*weight))
        {
            let message = format!("a weight is 1 to {WEIGHT_MAX}, not {weight} ({kind})");
            return Err(at(line_of("weights"), message));
        }
        let File { gap_ms, target, anchors, weights, longest_percent, .. } = file;
        let pace = Pace { gap_ms, together, duration_percent, longest_percent, target, anchors, weights };
        Ok(Profile { about: file.about, faults: file.faults, pace })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_profiles_are_right_and_the_default_is_the_default_pace() {
        for (name, _) in SHIPPED {
            let profile = Profile::load(name).unwrap();
            assert!(profile.about.len() > 15, "{name}");
        }
        assert_eq!(Profile::load(DEFAULT).unwrap().pace, Pace::default());
    }

    #[test]
    fn a_wrong_profile_is_refused_by_line() {
        let check = |text: &str, line: usize, said: &str| {
            let error = Profile::parse("mine.toml", text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("mine.toml:{line}: ")) && error.contains(said), "{error}");
        };
        let right = "about = \"x\"\ngap_ms = [1, 2]\ntogether = 2\n";
        assert!(Profile::parse("mine.toml", right).is_ok());
        check(&right.replace("[1, 2]", "[3, 2]"), 2, "[shortest, longest]");
        check(&right.replace("together = 2", "together = 9"), 3, "1 to 8, not 9");
        check(&(right.to_owned() + "duration_percent = 0\n"), 4, "1 to 400");
        check(&(right.to_owned() + "faults = [\"fire\"]\n"), 4, "fire");
        check(&right.replace("together = 2", "together = \"two\""), 3, "two");
        check(&(right.to_owned() + "anchors = [\"tea\"]\n"), 4, "tea");
        check(&(right.to_owned() + "longest_percent = 99\n"), 4, "100 to 400, not 99");
        check(&(right.to_owned() + "weights = { pause = 0 }\n"), 4, "1 to 20, not 0 (pause)");
        check(&(right.to_owned() + "weights = { fire = 2 }\n"), 4, "fire");
        assert!(Profile::load("no-such").unwrap_err().to_string().contains("\"no-such\""));
    }
}
