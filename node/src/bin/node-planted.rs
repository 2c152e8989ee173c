//! The node with its planted bugs compiled in: the same program by a name of its own, so that it may lie beside the honest one.

#[path = "../main.rs"]
mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    program::main()
}
