//! The lines of a certificate, which `check --certificate` writes and `verify` accepts or rejects.

use serde::{Deserialize, Serialize};

/// The `format` of the header line.
pub const FORMAT: &str = "whitewater-certificate";

/// A line after the header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The object.
    pub key: String,
    /// `valid`, `invalid` or `unknown`.
    pub verdict: String,
    /// Of a valid key: what took effect, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Vec<u64>>,
    /// Of an invalid key: operations that have no order, with all that can have written what they saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<Vec<u64>>,
    /// Elements of a list or set to which the core is reduced; of transactions, pairs of a key and an element or value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elements: Option<Vec<serde_json::Value>>,
}
