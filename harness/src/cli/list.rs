//! `harness list`: what there is to choose from, from the code that implements it.

use super::print;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// These alone
    #[arg(value_enum)]
    what: Option<What>,
}

/// What can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum What {
    /// What clients do
    Workloads,
    /// What is done to nodes, links, disks and clocks
    Faults,
    /// Which faults, and how dense
    Profiles,
    /// What kills, pauses and power losses may wait for
    Anchors,
    /// Whose descriptions are shipped
    Systems,
}

impl What {
    /// Everything, in the order in which it is printed.
    pub(super) const ALL: [What; 5] =
        [What::Workloads, What::Faults, What::Profiles, What::Anchors, What::Systems];
}

pub(super) fn main(args: &Args) {
    let text: String = What::ALL
        .into_iter()
        .filter(|what| args.what.is_none_or(|wanted| wanted == *what))
        .map(print::list)
        .collect();
    print::say(&text);
}
