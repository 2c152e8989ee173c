//! One cluster at a time: tests that start processes wait for each other, across threads and test binaries.
//! Two clusters on two cores would judge each other's load.

use std::fs::File;

use crate::binaries::target_directory;

/// The right to run a cluster, until it is dropped or its process ends.
#[derive(Debug)]
pub struct ClusterLock {
    _file: File,
}

/// Waits for the right to run a cluster.
///
/// # Panics
/// When the lock file cannot be opened.
pub fn cluster_lock() -> ClusterLock {
    let path = target_directory().join("cluster.lock");
    // Opened anew each time: the kernel's lock belongs to the open file, so that threads exclude each other, too.
    let file = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.lock().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    ClusterLock { _file: file }
}
