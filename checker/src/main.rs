//! The `checker` program: arguments in, exit code out. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(checker::cli::run(std::env::args_os()))
}
