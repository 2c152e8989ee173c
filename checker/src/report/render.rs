//! The summary of a report, as a person reads it at the end of a run.
//! The timeline of one violation is `explain/`'s business.

use super::Report;
use crate::verdict::Verdict;

impl Report {
    /// The `check` line, the verdict, and why: each line ends in a newline.
    pub fn render(&self) -> String {
        let mut out = format!("  check   linearizable {}/{} keys\n", self.keys.valid, self.keys.total());
        match self.verdict {
            Verdict::Valid => out += "VALID\n",
            other => out += &format!("{}\n", other.to_string().to_uppercase()),
        }
        out
    }
}
