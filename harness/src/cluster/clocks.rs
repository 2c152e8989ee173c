//! What may be done to the clocks of nodes: bent and restored, in their memory while every thread of theirs is stopped, or by the file
//! that they ask. How that is done is in [`crate::clock`].

use std::io;
use std::time::Duration;

use super::process::{Process, is_stopped};
use super::{Cluster, ClusterError, Seen, Slot, refused};
use crate::NodeId;
use crate::clock::{self, Offsets, Skew, file};

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
        if let Some(path) = self.system.clock_file(&self.run_dir, node) {
            let slot = self.living(node)?;
            let (Slot::Up(process) | Slot::Paused(process)) = &*slot else {
                return Err(ClusterError::State { node, state: slot.state() });
            };
            file::bend(&path, skew)
                .map_err(|error| refused(&format!("bend the clocks of n{node}"), error))?;
            return Ok(Seen {
                pid: process.pid(),
                saw: "its clock file written".to_owned(),
                confirmed: true,
            });
        }
        self.while_stopped(node, "bend the clocks", |pids| clock::bend(pids, skew))
    }

    /// Gives a node its clocks back; where it asks a file, also while it does not run.
    ///
    /// # Errors
    /// It does not run, or its memory may not be written.
    pub fn restore_clocks(&self, node: NodeId) -> Result<(), ClusterError> {
        match self.system.clock_file(&self.run_dir, node) {
            Some(path) => file::restore(&path)
                .map_err(|error| refused(&format!("restore the clocks of n{node}"), error)),
            None => self.while_stopped(node, "restore the clocks", clock::restore).map(drop),
        }
    }

    /// How far the clocks of a node are from the time by the code in its memory; `None` if it does not run, or has none there.
    pub fn clock_offsets(&self, node: NodeId) -> Option<Offsets> {
        clock::offsets(self.clock_pid(node)?).ok()
    }

    /// Whether a node lost a bend of its clocks: it was started again since.
    pub fn has_lost_bend(&self, node: NodeId) -> bool {
        let bent = |pid| clock::is_bent(pid).unwrap_or(true);
        self.clock_pid(node).is_some_and(|pid| !bent(pid))
    }

    /// The process in whose memory the clocks of a node are bent.
    fn clock_pid(&self, node: NodeId) -> Option<u32> {
        match &*self.slot(node) {
            _ if self.system.clock_file(&self.run_dir, node).is_some() => None,
            Slot::Up(process) | Slot::Paused(process) => Some(process.pid()),
            Slot::Killed | Slot::Dead => None,
        }
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
