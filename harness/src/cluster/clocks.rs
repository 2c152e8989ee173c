//! What may be done to the clocks of nodes: bent and restored while every thread of theirs is stopped.
//! How that is done is in [`crate::clock`].

use std::io;
use std::time::Duration;

use super::process::{Process, is_stopped};
use super::{Cluster, ClusterError, Seen, Slot, refused};
use crate::NodeId;
use crate::clock::{self, Offsets, Skew};

/// Tries until no thread is just reading a clock. One look in a hundred finds one in a busy node.
const TRIES_MAX: u32 = 200;
/// Between two tries.
const AGAIN_AFTER: Duration = Duration::from_millis(1);

impl Cluster {
    /// Bends the clocks of a node, from where they are.
    ///
    /// # Errors
    /// It does not run, or its memory may not be written.
    pub fn bend_clocks(&self, node: NodeId, skew: &Skew) -> Result<Seen, ClusterError> {
        self.while_stopped(node, "bend the clocks", |pids| clock::bend(pids, skew))
    }

    /// Gives a node its clocks back.
    ///
    /// # Errors
    /// It does not run, or its memory may not be written.
    pub fn restore_clocks(&self, node: NodeId) -> Result<Seen, ClusterError> {
        self.while_stopped(node, "restore the clocks", clock::restore)
    }

    /// How far the clocks of a node are from the time, and whether they are bent; `None` if it does not run.
    pub fn clock_offsets(&self, node: NodeId) -> Option<(Offsets, bool)> {
        let pid = match &*self.slot(node) {
            Slot::Up(process) | Slot::Paused(process) => process.pid(),
            Slot::Killed | Slot::Dead => return None,
        };
        Some((clock::offsets(pid).ok()?, clock::is_bent(pid).ok()?))
    }

    /// Does something to the processes of a node while all their threads are stopped, again and again until none is where it must not
    /// be. A node that another fault stopped stays so.
    fn while_stopped(
        &self,
        node: NodeId,
        doing: &str,
        action: impl Fn(&[u32]) -> io::Result<()>,
    ) -> Result<Seen, ClusterError> {
        let slot = self.living(node)?;
        let (process, is_up) = match &*slot {
            Slot::Up(process) => (process, true),
            Slot::Paused(process) => (process, false),
            Slot::Killed | Slot::Dead => return Err(ClusterError::State { node, state: slot.state() }),
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let done = if is_up { between(process, &action) } else { action(&process.members()) };
            match done {
                Ok(()) => {
                    let offsets = clock::offsets(process.pid()).unwrap_or_default();
                    let saw = format!(
                        "wall clock off by {:.0} ms, monotonic by {:.0} ms",
                        offsets.wall_ms, offsets.monotonic_ms
                    );
                    return Ok(Seen { pid: process.pid(), saw, confirmed: true });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < TRIES_MAX && is_up => {
                    std::thread::sleep(AGAIN_AFTER);
                }
                Err(error) => return Err(refused(&format!("{doing} of n{node}"), error)),
            }
        }
    }
}

fn between(process: &Process, action: &impl Fn(&[u32]) -> io::Result<()>) -> io::Result<()> {
    let states = process.pause();
    let done = if is_stopped(&states) {
        action(&process.members())
    } else {
        Err(io::Error::other("its threads do not stop"))
    };
    process.resume();
    done
}
