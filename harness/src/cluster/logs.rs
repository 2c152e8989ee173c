//! What nodes print, looked at while they run: lines that mean trouble, or tell who leads.
//! Which those are is said by the system.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Cluster, lock};
use crate::NodeId;
use crate::run_dir::RunDir;
use crate::system::{Role, System};
use crate::tail::Tail;

/// Longest line that is shown, characters.
const LINE_CHARS_MAX: usize = 500;

/// Longest end of a log that is shown, bytes.
const TAIL_BYTES_MAX: u64 = 2_000;

impl Cluster {
    /// What a node prints to, the more telling first.
    fn logs(&self, node: NodeId) -> [(&'static str, PathBuf); 2] {
        [("stderr", self.run_dir.stderr(node)), ("stdout", self.run_dir.stdout(node))]
    }

    /// Where in its stderr and its stdout the present life of a node begins.
    pub(super) fn life(&self, node: NodeId) -> [u64; 2] {
        lock(&self.logs_before).get(&node).copied().unwrap_or_default()
    }

    /// What it prints from now on is of a new incarnation.
    pub(super) fn note_logs(&self, node: NodeId) {
        lock(&self.logs_before).insert(node, self.logs(node).map(|(_, path)| length(&path)));
    }

    /// What a node printed in the life that is over is explained by a fault.
    pub(super) fn excuse_logs(&self, node: NodeId) {
        let before = self.life(node);
        let lives = self.logs(node).into_iter().zip(before);
        let lives = lives.map(|((_, path), from)| (path.clone(), from..length(&path)));
        lock(&self.excused_logs).extend(lives);
    }

    /// Whether what a node printed there is to be expected: a fault has it in its hands, or had until that life was over.
    pub(crate) fn is_log_excused(&self, node: NodeId, path: &Path, at: u64) -> bool {
        self.is_excused(node) || lock(&self.excused_logs).get(path).is_some_and(|life| life.contains(&at))
    }

    /// The end of what a node printed since its last start, behind where: stderr, or stdout if it said nothing there.
    pub(super) fn last_words(&self, node: NodeId) -> (&'static str, String) {
        let before = self.life(node);
        let tails = self.logs(node).into_iter().zip(before);
        let mut tails = tails.map(|((stream, path), from)| (stream, tail(&path, from)));
        let said = tails.find(|(_, text)| !text.trim().is_empty());
        said.unwrap_or(("stderr", String::new()))
    }
}

/// How long a log is; a log that is not there is empty.
fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}

/// The end of what was written to a log behind its first bytes.
fn tail(path: &Path, from: u64) -> String {
    let from = from.max(length(path).saturating_sub(TAIL_BYTES_MAX));
    let mut bytes = Vec::new();
    // A log that is not there says nothing.
    let _ = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)
    });
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line that means trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Who printed it.
    pub node: NodeId,
    /// The text that gave it away.
    pub text: String,
    /// The line.
    pub line: String,
}

/// What a line that a node printed is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Printed {
    /// Trouble.
    Trouble(Trouble),
    /// A role that differs from the one of which the node spoke before.
    Role {
        /// Who printed it.
        node: NodeId,
        /// What it says.
        role: Role,
        /// The line.
        line: String,
    },
}

/// The logs of a cluster, and how far they were looked at.
#[derive(Debug)]
pub struct LogWatch {
    system: Arc<dyn System>,
    tails: Vec<(NodeId, Tail)>,
    roles: BTreeMap<NodeId, Role>,
}

impl LogWatch {
    /// Watches each log from its start, if what is printed tells anything of this system.
    pub fn new(run_dir: &RunDir, nodes: u32, system: Arc<dyn System>) -> LogWatch {
        let of = |node| [run_dir.stdout(node), run_dir.stderr(node)].map(|path| (node, Tail::at_start(path)));
        let telling = !system.trouble().is_empty() || system.prints_roles();
        let tails = if telling { (1..=nodes).flat_map(of).collect() } else { Vec::new() };
        LogWatch { system, tails, roles: BTreeMap::new() }
    }

    /// What was printed since the last look: of each log the first line that means trouble and that is not `excused`, by who printed it,
    /// in which log, and where in it; and every role that is new.
    pub fn look(&mut self, excused: impl Fn(NodeId, &Path, u64) -> bool) -> Vec<Printed> {
        let mut found = Vec::new();
        for (node, tail) in &mut self.tails {
            let mut trouble = None;
            for (at, line) in tail.lines() {
                let short = || line.chars().take(LINE_CHARS_MAX).collect();
                if let Some(role) = self.system.role(&line)
                    && self.roles.insert(*node, role) != Some(role)
                {
                    found.push(Printed::Role { node: *node, role, line: short() });
                }
                if trouble.is_none()
                    && let Some(text) = self.system.trouble().iter().find(|text| line.contains(text.as_str()))
                    && !excused(*node, tail.path(), at)
                {
                    trouble = Some(Trouble { node: *node, text: text.clone(), line: short() });
                }
            }
            found.extend(trouble.map(Printed::Trouble));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Described;
    use std::fs::{OpenOptions, create_dir_all};
    use std::io::Write;

    /// Two nodes of a system with these further lines in its description.
    fn watch(dir: &Path, lines: &str) -> (RunDir, LogWatch) {
        let description = dir.join("x.toml");
        let text = format!(
            "name = \"x\"\ncommand = [\"sh\"]\n{lines}\n[ports]\nclient = \"direct\"\n\
             [driver]\ncommand = [\"sh\"]\nport = \"client\"\nfunctions = [\"write\"]\n"
        );
        std::fs::write(&description, text).unwrap();
        let system = Described::load(&description.display().to_string(), None).unwrap();
        let run_dir = RunDir::open(dir);
        create_dir_all(run_dir.node(1)).unwrap();
        create_dir_all(run_dir.node(2)).unwrap();
        let watch = LogWatch::new(&run_dir, 2, Arc::new(system));
        (run_dir, watch)
    }

    fn append(path: PathBuf, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn trouble_is_found_once_in_whole_lines_of_either_log() {
        let dir = tempfile::tempdir().unwrap();
        let (run_dir, mut watch) = watch(dir.path(), "trouble = [\"panic:\"]");
        let mut look = || watch.look(|_, path, at| path.ends_with("stdout.log") && at < 10);
        let trouble = |line: &str| {
            Printed::Trouble(Trouble { node: 2, text: "panic:".to_owned(), line: line.to_owned() })
        };
        assert_eq!(look(), []);
        append(run_dir.stderr(2), "fine\npanic: at");
        assert_eq!(look(), [], "the line is not whole");
        append(run_dir.stderr(2), " the disk\npanic: again\n");
        assert_eq!(look(), [trouble("panic: at the disk")]);
        assert_eq!(look(), []);
        append(run_dir.stdout(2), "a panic: of an earlier life\npanic: on stdout\n");
        assert_eq!(look(), [trouble("panic: on stdout")]);
    }

    #[test]
    fn a_role_is_told_when_it_changes_and_beside_trouble() {
        let dir = tempfile::tempdir().unwrap();
        let lines = "trouble = [\"lost\"]\nlog = [{ pattern = 'leads (?<term>[0-9]+)', says = \"leader\" }, \
                     { pattern = \"follows\", says = \"follower\" }]";
        let (run_dir, mut watch) = watch(dir.path(), lines);
        let mut look = || watch.look(|_, _, _| false);
        let role = |node, leads, term, line: &str| Printed::Role {
            node,
            role: Role { leads, term },
            line: line.to_owned(),
        };
        append(run_dir.stderr(1), "leads 3\nstill leads 3\n");
        append(run_dir.stdout(2), "follows n1, which leads 3\n");
        assert_eq!(
            look(),
            [role(1, true, Some(3), "leads 3"), role(2, true, Some(3), "follows n1, which leads 3")]
        );
        append(run_dir.stderr(1), "lost the quorum, follows\nleads 4\n");
        let lost = Trouble { node: 1, text: "lost".to_owned(), line: "lost the quorum, follows".to_owned() };
        let told = [role(1, false, None, &lost.line), role(1, true, Some(4), "leads 4")];
        assert_eq!(look(), [&told[..], &[Printed::Trouble(lost)]].concat());
    }

    #[test]
    fn what_tells_nothing_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(watch(dir.path(), "").1.tails.is_empty());
    }
}
