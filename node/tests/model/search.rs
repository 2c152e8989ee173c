//! Breadth first through every state that can be reached within bounds. What is met first is met on a shortest way, so what is
//! printed of a broken property is as short as it can be.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write as _;
use std::time::Instant;

use crate::defect::Defect;
use crate::world::{Bounds, Violation, World};

/// What a search came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Different states, those that differ in names alone counted once.
    pub(crate) states: usize,
    /// Steps that were taken from them.
    pub(crate) transitions: usize,
    /// Steps to the state that is furthest.
    pub(crate) depth: usize,
    /// What was broken, and how, step by step.
    pub(crate) violation: Option<(Violation, String)>,
    pub(crate) seconds: f64,
}

/// Where a state was reached from, and by which of the steps that are possible there: action and loss.
#[derive(Clone, Copy)]
struct Origin {
    before: u64,
    action: u32,
    loss: u32,
}

/// Looks at every state within `bounds`, until one is broken or there is none left.
///
/// States are remembered by a fingerprint of 64 bits: of N states, two are taken for one with a probability of N² / 2⁶⁵, or
/// 3 in a million for ten million of them.
pub(crate) fn search(bounds: &Bounds, defect: Option<Defect>) -> Outcome {
    let (start, first) = (Instant::now(), World::new(bounds));
    let root = first.fingerprint(bounds);
    let mut met: HashMap<u64, Origin> = HashMap::new();
    met.insert(root, Origin { before: root, action: 0, loss: 0 });
    let (mut level, mut depth, mut transitions) = (vec![first], 0, 0);
    let outcome = |met: &HashMap<u64, Origin>, transitions, depth, violation| Outcome {
        states: met.len(),
        transitions,
        depth,
        violation,
        seconds: start.elapsed().as_secs_f64(),
    };
    while !level.is_empty() {
        let mut next = Vec::new();
        for world in level {
            let before = world.fingerprint(bounds);
            for (action, doing) in world.actions(bounds).iter().enumerate() {
                let reached = match world.after(doing, bounds, defect) {
                    Ok(reached) => reached,
                    Err(violation) => {
                        let way = way_to(before, &met, bounds, defect);
                        let way = format!("{way}  {}\n  => {}\n", world.tell(doing), violation.0);
                        return outcome(&met, transitions, depth + 1, Some((violation, way)));
                    }
                };
                transitions += reached.len();
                for (loss, state) in reached.into_iter().enumerate() {
                    if let Entry::Vacant(place) = met.entry(state.fingerprint(bounds)) {
                        place.insert(Origin { before, action: action as u32, loss: loss as u32 });
                        next.push(state);
                    }
                }
            }
        }
        level = next;
        depth += usize::from(!level.is_empty());
        if std::env::var_os("MODEL_PROGRESS").is_some() {
            eprintln!("depth {depth}: {} states, {} new, {:.1?}", met.len(), level.len(), start.elapsed());
        }
    }
    outcome(&met, transitions, depth, None)
}

/// The steps from the start to the state with this fingerprint, taken again.
fn way_to(last: u64, met: &HashMap<u64, Origin>, bounds: &Bounds, defect: Option<Defect>) -> String {
    let (mut origins, mut at) = (Vec::new(), last);
    while met[&at].before != at {
        origins.push(met[&at]);
        at = met[&at].before;
    }
    let (mut world, mut text) = (World::new(bounds), String::new());
    for origin in origins.iter().rev() {
        let action = &world.actions(bounds)[origin.action as usize];
        let _ = writeln!(text, "  {}", world.tell(action));
        let reached = world.after(action, bounds, defect).unwrap_or_default();
        let Some(next) = reached.into_iter().nth(origin.loss as usize) else { break };
        world = next;
    }
    let _ = writeln!(text, "  then\n    {}", world.describe());
    text
}
