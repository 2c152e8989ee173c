//! The flags that make a spec, shared by the commands that run something.
//! What they mean is in [`crate::spec`].

use std::str::FromStr;
use std::time::Duration;

use crate::fault::FaultKind;
use crate::spec::{Spec, WorkloadKind};

/// More nodes than this say nothing new on one machine.
const NODES_MAX: i64 = 9;
/// Longest load: a day.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SpecArgs {
    /// Nodes of the cluster
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=NODES_MAX))]
    nodes: u32,
    /// How long clients load the cluster
    #[arg(long, default_value = "30s", value_parser = time)]
    time: Duration,
    /// Workers, each with one operation open at a time
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    clients: u32,
    /// Operations a second over all clients; 0 is as fast as they go
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// What clients do; see `harness list`
    #[arg(long, default_value = "mixed", value_parser = workload)]
    workload: WorkloadKind,
    /// Faults to inject: kinds of `harness list`, separated by commas, or `none`, or `all` that the number of nodes allows
    #[arg(long, default_value = "all")]
    faults: Faults,
    /// Run a node with this planted bug (builds one on first use); the verdict must be invalid
    #[arg(long, value_name = "ID")]
    bug: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Faults {
    All,
    Listed(Vec<FaultKind>),
}

impl Faults {
    /// The kinds, for a cluster of so many nodes: one node has no links.
    fn kinds(&self, nodes: u32) -> Vec<FaultKind> {
        let possible = |kind: &FaultKind| nodes > 1 || matches!(kind, FaultKind::Kill | FaultKind::Pause);
        match self {
            Faults::All => FaultKind::ALL.into_iter().filter(possible).collect(),
            Faults::Listed(kinds) => kinds.clone(),
        }
    }
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        match text {
            "all" => return Ok(Faults::All),
            "none" => return Ok(Faults::Listed(Vec::new())),
            _ => {}
        }
        let mut kinds = Vec::new();
        for name in text.split(',') {
            let Some(kind) = FaultKind::ALL.into_iter().find(|kind| kind.name() == name.trim()) else {
                let known = FaultKind::ALL.map(FaultKind::name).join(", ");
                return Err(format!("there is no fault {name:?}; there are {known}, all, none"));
            };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Ok(Faults::Listed(kinds))
    }
}

fn workload(text: &str) -> Result<WorkloadKind, String> {
    WorkloadKind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
        let known = WorkloadKind::ALL.map(WorkloadKind::name).join(", ");
        format!("there is no workload {text:?}; there are {known}")
    })
}

fn time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if (Duration::from_secs(1)..=TIME_MAX).contains(&time) {
        Ok(time)
    } else {
        Err(format!("{text} is not between 1s and 24h"))
    }
}

/// A duration such as `30s` or `5m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}, such as 30s or 5m"))
}

/// A seed: decimal, or hexadecimal after `0x`.
pub(super) fn seed(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("{error}; a seed is a number below 2^64, such as 20978 or 0x51f2"))
}

/// A seed that nobody chose: 32 bits, to be short enough to type.
pub(super) fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The keys of a new hasher come from the operating system.
    std::hash::RandomState::new().build_hasher().finish() & 0xffff_ffff
}

impl SpecArgs {
    /// The spec with this seed.
    pub(super) fn spec(&self, seed: u64) -> Spec {
        Spec {
            nodes: self.nodes,
            time_ms: u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX),
            clients: self.clients,
            rate: self.rate,
            workload: self.workload,
            faults: self.faults.kinds(self.nodes),
            seed,
            bug: self.bug.clone(),
        }
    }

    /// The flags that say the same to a child.
    pub(super) fn flags(&self) -> Vec<String> {
        let faults: Vec<&str> = self.faults.kinds(self.nodes).into_iter().map(FaultKind::name).collect();
        let faults = if faults.is_empty() { "none".to_owned() } else { faults.join(",") };
        let mut flags = vec![
            format!("--nodes={}", self.nodes),
            format!("--time={}ms", self.time.as_millis()),
            format!("--clients={}", self.clients),
            format!("--rate={}", self.rate),
            format!("--workload={}", self.workload.name()),
            format!("--faults={faults}"),
        ];
        flags.extend(self.bug.iter().map(|bug| format!("--bug={bug}")));
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        args: SpecArgs,
    }

    fn parse(flags: &[&str]) -> Result<SpecArgs, String> {
        let flags = std::iter::once("x").chain(flags.iter().copied());
        Flags::try_parse_from(flags).map(|f| f.args).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_spec() {
        assert_eq!(parse(&[]).unwrap().spec(0), Spec::default());
        let one = parse(&["--nodes=1"]).unwrap().spec(0);
        assert_eq!(one.faults, [FaultKind::Kill, FaultKind::Pause], "one node has no links");
    }

    #[test]
    fn a_child_that_gets_the_flags_runs_the_same_spec() {
        let flags = [
            "--nodes=3",
            "--time=90s",
            "--clients=4",
            "--rate=0",
            "--workload=set",
            "--faults=kill,loss",
            "--bug=Q01",
        ];
        for flags in [&flags[..], &[], &["--faults", "none"]] {
            let args = parse(flags).unwrap();
            let told = args.flags();
            let again = parse(&told.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            assert_eq!(again.spec(9), args.spec(9), "{flags:?}");
        }
    }

    #[test]
    fn wrong_values_are_named_with_what_would_be_right() {
        for (flag, said) in [
            ("--faults=kill,fire", "there is no fault \"fire\"; there are kill, pause"),
            ("--workload=bank", "there is no workload \"bank\"; there are mixed"),
            ("--time=10", "such as 30s"),
            ("--time=0s", "between 1s and 24h"),
            ("--nodes=0", "1..=9"),
            ("--clients=0", "1..=1000"),
        ] {
            let error = parse(&[flag]).unwrap_err();
            assert!(error.contains(said), "{flag}: {error}");
        }
        assert!(seed("0x51f2") == Ok(0x51f2) && seed("20978") == Ok(0x51f2));
        assert!(seed("51f2").unwrap_err().contains("0x51f2"));
        assert!(fresh_seed() <= u64::from(u32::MAX));
    }
}
