//! `node client`: one operation, its result on stdout, its outcome as the exit code.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use node::client::{ClientConfig, Operation, Outcome, Reply};
use node::config::CLUSTER_DEFAULT;

use super::{TOOL, USAGE, address, fail, finish};

const GRAMMAR: &str =
    "set KEY VALUE | get KEY | cas KEY EXPECTED NEW | cas KEY --absent NEW | append KEY VALUE | delete KEY";

#[derive(Debug, Args)]
#[command(after_help = "Operations:\n  \
    set KEY VALUE            VALUE is the rest of the line, spaces included\n  \
    get KEY                  linearizable\n  \
    cas KEY EXPECTED NEW     sets KEY to NEW if it holds EXPECTED (--absent: if there is none)\n  \
    append KEY VALUE\n  \
    delete KEY\n\n\
    Exit codes: 0 applied, 1 definitely not applied, 2 unknown, 64 usage, 3 other errors.")]
pub(crate) struct Client {
    /// Nodes to ask, in this order, separated by commas. Any node will do.
    #[arg(long, required = true, value_delimiter = ',', value_parser = address)]
    addr: Vec<SocketAddr>,
    /// Name of the cluster.
    #[arg(long, default_value = CLUSTER_DEFAULT, env = "WHITEWATER_CLUSTER")]
    cluster: String,
    /// How long the operation may take, such as 2s or 500ms.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// The operation as one string.
    #[arg(long, conflicts_with = "operation")]
    cmd: Option<String>,
    /// The operation.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    operation: Vec<String>,
}

impl Client {
    pub(super) fn run(self) -> ExitCode {
        let words = match &self.cmd {
            Some(line) => line.split_whitespace().map(str::to_owned).collect(),
            None => self.operation,
        };
        let Some(operation) = parse(&words) else {
            let given = if words.is_empty() {
                "no operation".to_owned()
            } else {
                format!("not an operation: {}", words.join(" "))
            };
            return fail(&given, GRAMMAR, USAGE);
        };
        let config = ClientConfig {
            cluster: self.cluster,
            operation_timeout: self.timeout,
            ..ClientConfig::default()
        };
        let mut client = match node::client::Client::new(config, self.addr) {
            Ok(client) => client,
            Err(error) => return fail(&format!("cannot open a socket: {error}"), "check `ulimit -n`", TOOL),
        };
        match client.execute(&operation, 0) {
            Outcome::Applied { reply, position, node } => print(&reply, position, node),
            Outcome::NotApplied { error, message } => fail(
                &format!("not applied: {error}: {message}"),
                "change the request; sending it again will not help",
                1,
            ),
            Outcome::Unknown { error } => fail(
                &format!("unknown whether it was applied: {error}"),
                "read the key to find out; see who is up with: node status --addr A,B,C",
                2,
            ),
        }
    }
}

fn print(reply: &Reply, position: u64, node: u32) -> ExitCode {
    let mut out = io::stdout().lock();
    let text = |value: &Option<Arc<[u8]>>| match value {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => "(absent)".to_owned(),
    };
    match reply {
        Reply::Done => finish(writeln!(out, "ok   index {position}, answered by n{node}"), 0),
        Reply::Value(value) => finish(writeln!(out, "{}", text(value)), 0),
        Reply::Mismatch(actual) => finish(writeln!(out, "mismatch   the key holds: {}", text(actual)), 1),
    }
}

/// The article's grammar: words, and a value that is the rest of the line.
fn parse(words: &[String]) -> Option<Operation> {
    let bytes = |word: &String| word.as_bytes().to_vec();
    let rest = |words: &[String]| words.join(" ").into_bytes();
    let (verb, arguments) = words.split_first()?;
    Some(match (verb.as_str(), arguments) {
        ("get", [key]) => Operation::Get { key: bytes(key) },
        ("delete", [key]) => Operation::Delete { key: bytes(key) },
        ("set", [key, value @ ..]) if !value.is_empty() => {
            Operation::Set { key: bytes(key), value: rest(value) }
        }
        ("append", [key, value @ ..]) if !value.is_empty() => {
            Operation::Append { key: bytes(key), value: rest(value) }
        }
        ("cas", [key, expected, new]) => Operation::Cas {
            key: bytes(key),
            expected: (expected != "--absent").then(|| bytes(expected)),
            new: bytes(new),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<Operation> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_articles_grammar_and_ours() {
        let key = || b"k".to_vec();
        assert_eq!(parsed("set k a b  c"), Some(Operation::Set { key: key(), value: b"a b c".to_vec() }));
        assert_eq!(parsed("get k"), Some(Operation::Get { key: key() }));
        assert_eq!(
            parsed("cas k --absent 2"),
            Some(Operation::Cas { key: key(), expected: None, new: b"2".to_vec() })
        );
        assert_eq!(
            parsed("cas k 1 2"),
            Some(Operation::Cas { key: key(), expected: Some(b"1".to_vec()), new: b"2".to_vec() })
        );
        for wrong in ["", "set", "set k", "get", "get a b", "cas k 1", "cas k 1 2 3", "put k v", "delete"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
