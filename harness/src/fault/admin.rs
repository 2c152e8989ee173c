//! What an operator does to a running system: a command of its description, for one node.
//! What the commands are is said by the system; how they are run is the cluster's business.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Behaviour, Described, Drawn, Fault, Needs, SteppedFault};
use crate::errand::{Conclusion, Errand};
use crate::target::Target;

/// How long a command may take; then it is killed.
const WITHIN: Duration = Duration::from_secs(20);

/// Runs one command of the operator's; there is nothing to heal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Which of them: its place in the alphabet, modulo how many there are.
    pub command: u32,
}

impl Behaviour for Admin {
    fn steps(&self) -> Option<&dyn SteppedFault> {
        Some(self)
    }
}

impl Described for Admin {
    const SUMMARY: &'static str = "a command of the description's [admin] is run for one node, as an operator would; evidence: the exit code of its process";
    const NEEDS: Needs = Needs::Admin;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, _dealt: bool) -> Drawn {
        let command = rng.random_range(0..720_720);
        let target = if rng.random_ratio(1, 3) { Target::Leader } else { Target::One };
        Drawn { fault: Fault::Admin(Admin { command }), target, duration_ms: (300, 1_000) }
    }
}

impl SteppedFault for Admin {
    /// Two operators at once are a fault of their own.
    fn is_exclusive(&self) -> bool {
        true
    }

    fn carry_out(&self, errand: &Errand<'_>) -> Conclusion {
        let mut conclusion = Conclusion::default();
        let names = errand.cluster.system().commands();
        let chosen = (self.command as usize).checked_rem(names.len()).and_then(|place| names.get(place));
        let (Some(name), Some(&node)) = (chosen, errand.victims.first()) else { return conclusion };
        conclusion.evidence.insert("command".to_owned(), json!(name));
        match errand.cluster.operate(name, node, WITHIN) {
            Ok((status, took)) => {
                conclusion.bit = status == "exit 0";
                conclusion.evidence.insert("status".to_owned(), status.into());
                let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                conclusion.evidence.insert("took_ms".to_owned(), took_ms.into());
            }
            Err(error) => _ = conclusion.evidence.insert("error".to_owned(), error.to_string().into()),
        }
        conclusion
    }
}
