//! Programs that were written for Maelstrom: nodes that take JSON messages on stdin, one a line, and print those that they send. Each runs
//! behind a relay of ours, which carries its messages as datagrams, so that links are hurt by the same rules as everybody's.
//!
//! Of its workloads `lin-kv`: `read`, `write` and `cas` of a key. There are no services beside the nodes.

mod letter;
pub mod relay;
mod session;

pub(super) use session::{Session, is_ready};

use std::io;
use std::path::Path;
use std::process::Command;

use super::Place;
use crate::fault::FaultKind;

/// What a network that Maelstrom promises may do: it does not double messages, and nodes that lose what they know are no nodes of
/// most programs.
pub(super) const FAULTS: [FaultKind; 7] = [
    FaultKind::Pause,
    FaultKind::Partition,
    FaultKind::Loss,
    FaultKind::Delay,
    FaultKind::Reorder,
    FaultKind::Starve,
    FaultKind::Depose,
];

/// The description that `--maelstrom PROGRAM` stands for.
pub(super) fn description(program: &Path) -> String {
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let program = std::path::absolute(program).unwrap_or(program.to_owned()).display().to_string();
    let quoted = |text: String| serde_json::Value::from(text).to_string();
    format!("kind = \"maelstrom\"\nname = {}\ncommand = [{}]\n", quoted(name), quoted(program))
}

/// The command of a node: the relay, and behind it the program with its words.
///
/// # Errors
/// This process does not know its own executable, or no directory can be made for the node.
pub(super) fn command(place: &Place<'_>, program: &Path, words: Vec<String>) -> io::Result<Command> {
    let data = std::path::absolute(place.run_dir.data(place.node))?;
    std::fs::create_dir_all(&data)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("relay").arg(place.node.to_string());
    command.args(place.addresses.peers(place.node, place.proxied).iter().map(|peer| peer.to_string()));
    command.arg("--").arg(std::path::absolute(program)?).args(words);
    command.current_dir(data);
    Ok(command)
}
