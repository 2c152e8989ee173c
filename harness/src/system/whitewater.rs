//! Our own node: the only file that knows how it is found, started and asked.
//! Processes are the cluster's business; client operations go through `node::client`.

use std::path::PathBuf;

/// Why there is no usable `node`.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// No such file.
    #[error("no node executable at {path}")]
    Missing {
        /// Where it was expected.
        path: PathBuf,
    },
}

/// The `node` beside this executable, checked to be of the same build.
///
/// # Errors
/// When there is none, or it was built from other sources; the way out is `cargo build --release`.
pub fn find_binary() -> Result<PathBuf, BinaryError> {
    Err(BinaryError::Missing { path: PathBuf::new() })
}
