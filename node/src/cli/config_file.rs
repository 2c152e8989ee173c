//! `node serve --config FILE`: the flags of `node serve`, from a TOML file. A flag beats its environment variable, that beats
//! the file, and the file beats the default: the file's values become the defaults that the command line is parsed with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command};

/// Where the file is named if not on the command line.
const VARIABLE: &str = "WHITEWATER_CONFIG";

/// The file that the arguments of `node serve`, or the environment, name.
pub(crate) fn path(arguments: &[OsString]) -> Option<PathBuf> {
    if arguments.get(1).is_none_or(|command| command != "serve") {
        return None;
    }
    let mut rest = arguments[2..].iter();
    while let Some(argument) = rest.next() {
        if argument == "--config" {
            return rest.next().map(PathBuf::from);
        }
        if let Some(path) = argument.to_str().and_then(|argument| argument.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// `command` with the values of the file as defaults of `serve`.
///
/// # Errors
/// A sentence that names the file, and the line or key.
pub(crate) fn with_defaults(command: Command, path: &Path) -> Result<Command, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line =
            error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        format!("{shown}:{line}: {}", error.message())
    })?;
    let serve = command.find_subcommand("serve").cloned().unwrap_or_default();
    let mut defaults: Vec<(String, Vec<String>)> = Vec::new();
    for (key, value) in table {
        let known = serve.get_arguments().find(|argument| {
            let name = argument.get_long().unwrap_or_else(|| argument.get_id().as_str());
            name == key.replace('_', "-") && name != "config"
        });
        let Some(argument) = known else {
            return Err(format!(
                "{shown}: there is no setting {key:?}; they are the flags of `node serve --help`, `id` and `addresses`"
            ));
        };
        let values = texts(&value).ok_or_else(|| {
            format!(
                "{shown}: {key} must be a text, a number, true or false, or a list of them, not a {}",
                value.type_str()
            )
        })?;
        check(argument, &values).map_err(|reason| format!("{shown}: {key}: {reason}"))?;
        defaults.push((argument.get_id().to_string(), values));
    }
    Ok(command.mut_subcommand("serve", |serve| {
        defaults.into_iter().fold(serve, |serve, (id, values)| {
            serve.mut_arg(id, |argument| argument.required(false).default_values(values))
        })
    }))
}

/// Whether the command line would take these values for the argument. A wrong default would be a defect of the program to
/// clap, not a mistake of whoever wrote the file.
fn check(argument: &Arg, values: &[String]) -> Result<(), String> {
    if matches!(argument.get_action(), ArgAction::SetTrue) {
        let known = matches!(values, [value] if value == "true" || value == "false");
        return if known { Ok(()) } else { Err("expected true or false".to_owned()) };
    }
    let words = values.iter().map(|value| match argument.get_long() {
        Some(long) => format!("--{long}={value}"),
        None => value.clone(),
    });
    let probe = Command::new("serve").no_binary_name(true).arg(argument.clone().index(None).env(None));
    match probe.try_get_matches_from(words) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            Err(line.trim_start_matches("error: ").to_owned())
        }
    }
}

/// A value as the command line would spell it.
fn texts(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(on) => Some(vec![on.to_string()]),
        toml::Value::Array(values) => values
            .iter()
            .map(|value| texts(value).filter(|texts| texts.len() == 1))
            .collect::<Option<Vec<_>>>()
            .map(|texts| texts.concat()),
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}
