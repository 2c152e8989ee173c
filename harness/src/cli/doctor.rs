//! `harness doctor`: what this machine allows, and what an earlier run left.

use super::{Failure, print};
use crate::doctor;

pub(super) fn main() -> Result<u8, Failure> {
    let swept = doctor::sweep()?;
    print::say(&print::doctor(&doctor::examine(), &swept));
    Ok(0)
}
