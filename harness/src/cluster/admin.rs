//! Commands that an operator gives a running system, each a process of its own that ends before the cluster does.
//! Which commands there are is said by the system.

use std::fs::OpenOptions;
use std::time::{Duration, Instant};

use super::{Cluster, ClusterError, refused, status_text};
use crate::NodeId;
use crate::dud::{self, Reach};

/// The rank of the host at which clients are, and operators.
const OPERATOR: NodeId = 0;

impl Cluster {
    /// Runs a command of the system's for a node, where clients are; how it ended (`exit 0`, or `killed` if it took longer than `within`),
    /// and after how long. What it says is in `admin.log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn operate(
        &self,
        name: &str,
        node: NodeId,
        within: Duration,
    ) -> Result<(String, Duration), ClusterError> {
        let doing = format!("run the command {name}");
        let error = |source| refused(&doing, source);
        let mut command = self.system.operation(name, &self.place(node)).map_err(error)?;
        if dud::is_at(Reach::Order) {
            return Ok(("not run".to_owned(), Duration::ZERO));
        }
        let log =
            OpenOptions::new().create(true).append(true).open(self.run_dir.admin_log()).map_err(error)?;
        command.stdout(log.try_clone().map_err(error)?).stderr(log);
        if let Some(hosts) = self.addresses.hosts() {
            hosts.place(OPERATOR, &mut command).map_err(error)?;
        }
        let started = Instant::now();
        let mut process = self.spawner.spawn(command).map_err(error)?;
        let ended = process.ended_within(within).map_err(error)?;
        let took = started.elapsed();
        // Also what it may have left running.
        process.kill();
        match ended {
            Some(status) => Ok((status_text(status), took)),
            None => process.reap().map(|_| ("killed".to_owned(), took)).map_err(error),
        }
    }
}
