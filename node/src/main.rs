//! Arguments to config to server to exit code. What the subcommands do is in the library and in `cli`.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Arguments::try_parse() {
        Ok(arguments) => arguments.run(),
        Err(error) => {
            // Clap's own 2 means "unknown" here, so a typo must not read as one.
            let code = if error.use_stderr() { cli::USAGE } else { 0 };
            let _ = error.print();
            ExitCode::from(code)
        }
    }
}
