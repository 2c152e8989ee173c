//! `harness duds`: for every kind of fault one run with it, which must be valid, and one in which it is a dud, which must be unknown
//! because of that kind. What a dud is: [`crate::dud`].

use std::path::{Path, PathBuf};
use std::process::Command;

use checker::Verdict;

use super::spec_args::{SpecArgs, fresh_seed, seed};
use super::{Failure, print};
use crate::fault::FaultKind;
use crate::spec::Spec;
use crate::summary::Summary;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// Seed of every run [default: a random one]
    #[arg(long, value_parser = seed)]
    seed: Option<u64>,
    /// Keep the runs in this directory, KIND and KIND-dud [default: they are removed]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What came of one kind.
pub(super) struct Row {
    pub(super) kind: FaultKind,
    /// Of the run with it.
    pub(super) with: Result<Summary, String>,
    /// Of the run in which it is a dud.
    pub(super) dud: Result<Summary, String>,
}

impl Row {
    /// Whether both runs came out as they must.
    fn is_right(&self) -> bool {
        let missed = format!("no {} had an effect", self.kind);
        let valid = |with: &Summary| with.verdict == Verdict::Valid;
        let unknown = |dud: &Summary| {
            dud.verdict == Verdict::Unknown
                && dud.reason.as_ref().is_some_and(|reason| reason.contains(&missed))
        };
        self.with.as_ref().is_ok_and(valid) && self.dud.as_ref().is_ok_and(unknown)
    }
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let system = args.spec.system()?;
    let spec = args.spec.spec(args.seed.unwrap_or_else(fresh_seed), system.as_ref())?;
    let harness = std::env::current_exe()?;
    let run = |spec: &Spec, dud: Option<FaultKind>| -> Result<Result<Summary, String>, Failure> {
        let dir = match (&args.out, dud, &spec.faults[..]) {
            (Some(out), None, [kind]) => out.join(kind.name()),
            (Some(out), Some(kind), _) => out.join(format!("{kind}-dud")),
            _ => tempdir(spec, dud)?,
        };
        let outcome = run_one(&harness, &args.spec.flags(spec), spec.seed, dud, &dir);
        // There is none if it could not even begin.
        if args.out.is_none() && dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        outcome
    };
    print::say(&print::duds_head(&spec));
    let mut right = true;
    for &kind in &spec.faults {
        let spec = Spec { faults: vec![kind], ..spec.clone() };
        let row = Row { kind, with: run(&spec, None)?, dud: run(&spec, Some(kind))? };
        right &= row.is_right();
        print::say(&print::duds_row(&row, row.is_right()));
    }
    Ok(u8::from(!right))
}

/// A name that is free, for a run directory that goes again.
fn tempdir(spec: &Spec, dud: Option<FaultKind>) -> Result<std::path::PathBuf, Failure> {
    let name = format!(
        "whitewater-duds-{}-{:#x}-{}",
        std::process::id(),
        spec.seed,
        dud.map_or("none", FaultKind::name)
    );
    let dir = std::env::temp_dir().join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(dir)
}

fn run_one(
    harness: &Path,
    flags: &[String],
    seed: u64,
    dud: Option<FaultKind>,
    dir: &Path,
) -> Result<Result<Summary, String>, Failure> {
    let mut command = Command::new(harness);
    command.arg("run").args(flags).args(["--json", "--seed", &seed.to_string(), "--out"]).arg(dir);
    if let Some(kind) = dud {
        command.args(["--dud", kind.name()]);
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(serde_json::from_slice(&output.stdout).map_err(|_| format!("{}: {said}", output.status)))
}
