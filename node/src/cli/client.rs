//! `node client`: one operation, its result on stdout, its outcome as the exit code.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use node::client::{ClientConfig, LocalValue, Operation, Outcome, Reply};
use node::config::CLUSTER_DEFAULT;
use node::kv::command::VALUE_BYTES_MAX;

use super::{KeyFile, TOOL, USAGE, address, fail, finish};

const GRAMMAR: &str =
    "set KEY VALUE | get KEY | cas KEY EXPECTED NEW | cas KEY --absent NEW | append KEY VALUE | delete KEY";

#[derive(Debug, Args)]
#[command(after_help = "Operations:\n  \
    set KEY VALUE            VALUE is the rest of the line, spaces included\n  \
    get KEY                  linearizable; the value and a newline, or with --raw the value alone\n  \
    cas KEY EXPECTED NEW     sets KEY to NEW if it holds EXPECTED (--absent: if there is none)\n  \
    append KEY VALUE\n  \
    delete KEY\n\n\
    In place of VALUE and NEW: @FILE for what a file holds, - for standard input, @@… for what begins with @.\n\
    A key has at most 4096 bytes, a value at most 1048576.\n\n\
    Exit codes: 0 applied, 1 definitely not applied, 2 unknown, 64 usage, 3 other errors.")]
pub(crate) struct Client {
    /// Nodes to ask, in this order, separated by commas. Any node will do.
    #[arg(long, required = true, value_delimiter = ',', value_parser = address)]
    addr: Vec<SocketAddr>,
    /// Name of the cluster.
    #[arg(long, default_value = CLUSTER_DEFAULT, env = "WHITEWATER_CLUSTER")]
    cluster: String,
    #[command(flatten)]
    key_file: KeyFile,
    /// How long the operation may take, such as 2s or 500ms.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// With `get`: what the first node that answers has applied, however old it is. Costs the leader nothing, and is there
    /// when no leader is.
    #[arg(long)]
    stale: bool,
    /// Print what `get` got as it is, without a newline after it.
    #[arg(long)]
    raw: bool,
    /// The operation as one string, in which @ and - mean themselves.
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
        let Some(mut operation) = parse(&words) else {
            let given = if words.is_empty() {
                "no operation".to_owned()
            } else {
                format!("not an operation: {}", words.join(" "))
            };
            return fail(&given, GRAMMAR, USAGE);
        };
        if self.cmd.is_none()
            && let Err(error) = load(&mut operation, &mut io::stdin().lock())
        {
            return fail(&error, "a value that begins with @ itself is written with two of them", TOOL);
        }
        let key = match self.key_file.load() {
            Ok(key) => key,
            Err(code) => return code,
        };
        let config = ClientConfig {
            cluster: self.cluster,
            key,
            operation_timeout: self.timeout,
            ..ClientConfig::default()
        };
        let addresses = self.addr.clone();
        let mut client = match node::client::Client::new(config, self.addr) {
            Ok(client) => client,
            Err(error) => return fail(&format!("cannot open a socket: {error}"), "check `ulimit -n`", TOOL),
        };
        if self.stale {
            let Operation::Get { key } = &operation else {
                return fail("--stale is for get alone", GRAMMAR, USAGE);
            };
            return match addresses.into_iter().find_map(|addr| client.local_get(addr, key)) {
                Some(LocalValue { last_applied, value }) => {
                    print(&Reply::Value(value), last_applied, 0, self.raw)
                }
                None => fail("no node answered", "see who is up with: node status --addr A,B,C", 2),
            };
        }
        match client.execute(&operation, 0) {
            Outcome::Applied { reply, position, node } => print(&reply, position, node, self.raw),
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

fn print(reply: &Reply, position: u64, node: u32, raw: bool) -> ExitCode {
    let mut out = io::stdout().lock();
    let mut line = |start: &str, value: &Option<Arc<[u8]>>| {
        let bytes = value.as_deref().unwrap_or(b"(absent)");
        out.write_all(start.as_bytes())
            .and_then(|()| out.write_all(bytes))
            .and_then(|()| out.write_all(b"\n"))
    };
    match reply {
        Reply::Done => finish(writeln!(out, "ok   index {position}, answered by n{node}"), 0),
        Reply::Value(Some(value)) if raw => finish(out.write_all(value), 0),
        Reply::Value(None) if raw => finish(writeln!(io::stderr(), "(absent)"), 0),
        Reply::Value(value) => finish(line("", value), 0),
        Reply::Mismatch(actual) => finish(line("mismatch   the key holds: ", actual), 1),
    }
}

/// Replaces a value that stands for the contents of a file or of standard input.
fn load(operation: &mut Operation, stdin: &mut impl Read) -> Result<(), String> {
    let value = match operation {
        Operation::Set { value, .. } | Operation::Append { value, .. } => value,
        Operation::Cas { new, .. } => new,
        Operation::Get { .. } | Operation::Delete { .. } => return Ok(()),
    };
    // One byte more than is allowed is enough to be refused.
    let read = |from: &mut dyn Read| {
        let mut bytes = Vec::new();
        from.take(VALUE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
    };
    *value = match value.as_slice() {
        b"-" => read(stdin).map_err(|error| format!("cannot read standard input: {error}"))?,
        [b'@', rest @ ..] if rest.starts_with(b"@") => rest.to_vec(),
        [b'@', name @ ..] => {
            let path = Path::new(OsStr::from_bytes(name));
            let bytes = File::open(path).and_then(|mut file| read(&mut file));
            bytes.map_err(|error| format!("cannot read {}: {error}", path.display()))?
        }
        _ => return Ok(()),
    };
    Ok(())
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

    #[test]
    fn values_from_elsewhere() {
        let loaded = |value: &[u8], stdin: &[u8]| {
            let mut operation = Operation::Set { key: b"k".to_vec(), value: value.to_vec() };
            load(&mut operation, &mut { stdin }).map(|()| match operation {
                Operation::Set { value, .. } => value,
                other => panic!("{other}"),
            })
        };
        assert_eq!(loaded(b"v@-", b"x").unwrap(), b"v@-");
        assert_eq!(loaded(b"-", b"a\nb\xff").unwrap(), b"a\nb\xff");
        assert_eq!(loaded(b"@@v", b"x").unwrap(), b"@v");
        assert_eq!(loaded(b"-", &vec![0; VALUE_BYTES_MAX + 9]).unwrap().len(), VALUE_BYTES_MAX + 1);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"of a file").unwrap();
        let name = [b"@", file.path().as_os_str().as_bytes()].concat();
        assert_eq!(loaded(&name, b"").unwrap(), b"of a file");
        drop(file);
        assert!(loaded(&name, b"").unwrap_err().starts_with("cannot read /"));
    }
}
