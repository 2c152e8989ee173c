//! `harness list`: the workloads and faults that there are, from the code that implements them.

use super::print;

pub(super) fn main() {
    print::say(&print::list());
}
