//! Stops every process of a cluster at once and keeps everybody from touching them: for a look at the moment at which something
//! went wrong.

use std::sync::MutexGuard;

use super::{Cluster, Slot};
use crate::NodeId;

/// A cluster that stands still. Whoever wants to start, kill or resume a node waits until this is dropped; then it goes on.
#[derive(Debug)]
pub struct Frozen<'a> {
    slots: Vec<MutexGuard<'a, Slot>>,
    /// The nodes that were stopped here, with the process of each.
    stopped: Vec<(NodeId, u32)>,
}

impl Cluster {
    /// Sends SIGSTOP to every node that runs, and waits until all of its threads are stopped. Nodes that a fault stopped stay so.
    pub fn freeze(&self) -> Frozen<'_> {
        let mut frozen = Frozen { slots: Vec::new(), stopped: Vec::new() };
        for node in self.ids() {
            let slot = self.slot(node);
            if let Slot::Up(process) = &*slot {
                process.pause();
                frozen.stopped.push((node, process.pid()));
            }
            frozen.slots.push(slot);
        }
        frozen
    }
}

impl Frozen<'_> {
    /// The nodes that were stopped, with the process of each.
    pub fn stopped(&self) -> &[(NodeId, u32)] {
        &self.stopped
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        for (node, _) in &self.stopped {
            if let Slot::Up(process) = &*self.slots[*node as usize - 1] {
                process.resume();
            }
        }
    }
}
