//! What the faults of clocks have in common: bending them, bending them again after a restart, and the evidence.
//! How clocks are bent is in [`crate::clock`].

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{Acted, Ongoing, act};
use crate::clock::{Offsets, Skew};
use crate::cluster::Cluster;
use crate::run_dir::node_name;
use crate::system::ToldClocks;

/// Between two looks whether a node was started again.
const LOOK: Duration = Duration::from_millis(50);
/// A clock that is off by less is right.
const NOTABLE_MS: f64 = 10.0;

pub(super) fn inject(cluster: &Cluster, victims: &[crate::NodeId], skew: &Skew) -> Acted {
    act(victims, |node| cluster.bend_clocks(node, skew))
}

/// A process that was started meanwhile has the right time, and the fault goes on.
pub(super) fn tick(cluster: &Cluster, ongoing: &mut Ongoing, skew: &Skew) {
    for &node in &ongoing.nodes {
        if cluster.has_lost_bend(node) && cluster.bend_clocks(node, skew).is_ok() {
            ongoing.steps += 1;
        }
    }
    ongoing.due = Instant::now() + LOOK;
}

/// It bit if the clocks of a node were off in the way that they should by the code in its memory, and by what the node itself recorded,
/// if it records the time. Of one that asks a file, its record alone tells: it is the node that says what it takes for the time, and the
/// kernel when it said so.
pub(super) fn heal(
    cluster: &Cluster,
    ongoing: &Ongoing,
    expected: impl Fn(&Offsets) -> bool,
) -> (bool, Map<String, Value>) {
    let (mut bit, mut evidence) = (false, Map::new());
    for &node in &ongoing.nodes {
        let told = cluster.system().told_clocks(cluster.run_dir(), node);
        let recorded = |told: ToldClocks| {
            let wall_ms = told.wall_ms?;
            Some(Offsets { wall_ms, monotonic_ms: told.monotonic_ms })
        };
        let (before, told) = match cluster.system().clock_file(cluster.run_dir(), node) {
            Some(_) => (told.and_then(recorded), None),
            None => (cluster.clock_offsets(node), told),
        };
        // A node that ends at this moment needs no healing, and whoever ended it starts it anew.
        let healed = cluster.restore_clocks(node).is_ok();
        let Some(before) = before else { continue };
        bit |= expected(&before) && told.is_none_or(|told| agrees(told.monotonic_ms, before.monotonic_ms));
        let after = cluster.clock_offsets(node);
        let ms = |offset: f64| (offset * 10.0).round() / 10.0;
        let mut seen = json!({
            "wall_ms": ms(before.wall_ms),
            "monotonic_ms": ms(before.monotonic_ms),
            "healed": healed,
            "wall_ms_after": after.map(|after| ms(after.wall_ms)),
        });
        if let (Some(told), Value::Object(seen)) = (told, &mut seen) {
            seen.insert("told_ms".to_owned(), ms(told.monotonic_ms).into());
        }
        evidence.insert(node_name(node), seen);
    }
    evidence.insert("bent_again".to_owned(), json!(ongoing.steps));
    (bit, evidence)
}

/// Whether what a node recorded last was off as its clock is, within half of that: the line is older than this moment.
fn agrees(told_ms: f64, offset_ms: f64) -> bool {
    (told_ms - offset_ms).abs() <= offset_ms.abs() / 2.0 + NOTABLE_MS
}

/// Whether a clock is notably off, this way.
pub(super) fn is_off(offset_ms: f64, wanted_ms: f64) -> bool {
    offset_ms.abs() >= NOTABLE_MS && offset_ms.signum() == wanted_ms.signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_recorded_must_be_off_the_same_way_and_by_as_much() {
        assert!(agrees(900.0, 1_000.0) && agrees(-600.0, -1_000.0) && agrees(1_200.0, 1_000.0));
        assert!(!agrees(0.5, 1_000.0) && !agrees(-900.0, 1_000.0) && !agrees(400.0, 1_000.0));
        assert!(!agrees(50.0, 0.0));
        assert!(is_off(-20.0, -1.0) && !is_off(20.0, -1.0) && !is_off(5.0, 1.0));
    }
}
