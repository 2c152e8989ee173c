//! Arguments to config to server to exit code. What the subcommands do is in the library and in `cli`.

mod cli;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

pub(crate) fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let mut command = cli::Arguments::command();
    if let Some(path) = cli::config_file::path(&arguments) {
        match cli::config_file::with_defaults(command, &path) {
            Ok(with_defaults) => command = with_defaults,
            Err(error) => return cli::fail(&error, "see `node serve --help` for the settings", cli::USAGE),
        }
    }
    let parsed = command.try_get_matches_from(arguments);
    match parsed.and_then(|matches| cli::Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments.run(),
        Err(error) => {
            // Clap's own 2 means "unknown" here, so a typo must not read as one.
            let code = if error.use_stderr() { cli::USAGE } else { 0 };
            let _ = error.print();
            ExitCode::from(code)
        }
    }
}
