//! What the lines that a node prints tell of it, by the patterns of a description: whether it leads, and what it holds.
//! For systems that answer no questions about themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use regex_lite::Regex;
use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use super::http::history_form;
use super::{Completion, Local, Session};
use crate::NodeId;
use crate::run_dir::RunDir;
use crate::tail::Tail;
use crate::workload::{Operation, Shape, shape};

/// A pattern of a description.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogPattern {
    /// A regular expression; its named groups are `term` of a role, `key` and `value` of a value.
    pub(super) pattern: Spanned<String>,
    pub(super) says: Says,
}

/// What a line that matches says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Says {
    /// The node leads from now on.
    Leader,
    /// It does not lead any more.
    Follower,
    /// What it holds under a key from now on.
    Value,
}

impl LogPattern {
    /// Why the pattern cannot say that, with the byte of the file.
    pub(super) fn check(&self) -> Result<(), (usize, String)> {
        let complain = |message: String| Err((self.pattern.span().start, message));
        let regex = match Regex::new(self.pattern.get_ref()) {
            Ok(regex) => regex,
            Err(error) => return complain(format!("this is no regular expression: {error}")),
        };
        let (needed, allowed): (&[&str], &[&str]) = match self.says {
            Says::Leader | Says::Follower => (&[], &["term"]),
            Says::Value => (&["key", "value"], &["key", "value"]),
        };
        let named = regex.capture_names().flatten().collect::<Vec<_>>();
        if let Some(missing) = needed.iter().find(|name| !named.contains(name)) {
            return complain(format!(
                "a pattern of values has the groups (?<key>…) and (?<value>…), not {missing:?} here"
            ));
        }
        match named.iter().find(|name| !allowed.contains(name)) {
            Some(name) => complain(format!("there is no group {name:?}; there are {}", allowed.join(", "))),
            None => Ok(()),
        }
    }
}

/// A role that a node said it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Whether it leads.
    pub leads: bool,
    /// Its term, where the line tells.
    pub term: Option<u64>,
}

/// What one line tells.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Role(Role),
    Value { key: String, value: String },
}

/// The patterns of a description, ready for use.
#[derive(Debug, Default)]
pub(super) struct LogRules(Vec<(Regex, Says)>);

impl LogRules {
    /// Of patterns that were checked.
    fn of(patterns: &[LogPattern]) -> LogRules {
        let compiled =
            patterns.iter().filter_map(|log| Some((Regex::new(log.pattern.get_ref()).ok()?, log.says)));
        LogRules(compiled.collect())
    }

    /// Whether they tell who leads.
    pub(super) fn tell_leader(&self) -> bool {
        self.0.iter().any(|(_, says)| *says == Says::Leader)
    }

    /// Whether they tell what a node holds.
    pub(super) fn tell_values(&self) -> bool {
        self.0.iter().any(|(_, says)| *says == Says::Value)
    }

    /// The role that a line tells.
    pub(super) fn role(&self, line: &str) -> Option<Role> {
        match self.tell(line)? {
            Told::Role(role) => Some(role),
            Told::Value { .. } => None,
        }
    }

    /// The first pattern that matches says what the line does.
    fn tell(&self, line: &str) -> Option<Told> {
        let (found, says) = self.0.iter().find_map(|(regex, says)| Some((regex.captures(line)?, *says)))?;
        let group = |name| found.name(name).map(|group| group.as_str());
        Some(match says {
            Says::Value => Told::Value { key: group("key")?.to_owned(), value: group("value")?.to_owned() },
            Says::Leader | Says::Follower => {
                let term = group("term").and_then(|term| term.parse().ok());
                Told::Role(Role { leads: says == Says::Leader, term })
            }
        })
    }
}

/// What one node printed so far.
#[derive(Debug)]
struct NodeLog {
    tails: [Tail; 2],
    /// The role that it said last in each: the byte at which the line begins, and the number of that line among all such.
    roles: [Option<(u64, u64, Role)>; 2],
    told: u64,
    /// What it said last of each key, in any life.
    values: BTreeMap<String, String>,
}

impl NodeLog {
    fn of(dir: &RunDir, node: NodeId) -> NodeLog {
        let tails = [dir.stderr(node), dir.stdout(node)].map(Tail::at_start);
        NodeLog { tails, roles: [None; 2], told: 0, values: BTreeMap::new() }
    }

    /// Reads on.
    fn read(&mut self, rules: &LogRules) {
        for (tail, said) in self.tails.iter_mut().zip(&mut self.roles) {
            loop {
                let lines = tail.lines();
                if lines.is_empty() {
                    break;
                }
                for (at, line) in lines {
                    match rules.tell(&line) {
                        Some(Told::Role(role)) => {
                            self.told += 1;
                            *said = Some((at, self.told, role));
                        }
                        Some(Told::Value { key, value }) => _ = self.values.insert(key, value),
                        None => {}
                    }
                }
            }
        }
    }

    /// The role that it said last since its present life began, at these bytes of stderr and stdout; none is a follower's.
    fn role(&mut self, rules: &LogRules, life: [u64; 2]) -> Role {
        self.read(rules);
        let said = self.roles.iter().zip(life);
        let present = said.filter_map(|(said, life)| said.filter(|(at, ..)| *at >= life));
        present.max_by_key(|(_, number, _)| *number).map(|(.., role)| role).unwrap_or_default()
    }
}

/// A value that a node printed for a key of this harness, in history form; absent if it printed none.
fn held(key: &str, printed: Option<&String>) -> Value {
    match (printed, shape(key)) {
        (None, _) => Value::Null,
        (Some(text), Shape::Register) => history_form(key, Value::from(text.trim())),
        (Some(text), Shape::Elements) => {
            let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty());
            numbers.filter_map(|number| number.parse::<i64>().ok()).collect()
        }
    }
}

/// What the nodes of a run print, by the patterns of a description.
#[derive(Debug)]
pub(super) struct Logs {
    rules: LogRules,
    nodes: Mutex<BTreeMap<NodeId, NodeLog>>,
}

impl Logs {
    /// By patterns that were checked.
    pub(super) fn of(patterns: &[LogPattern]) -> Logs {
        Logs { rules: LogRules::of(patterns), nodes: Mutex::default() }
    }

    /// The patterns.
    pub(super) fn rules(&self) -> &LogRules {
        &self.rules
    }

    /// The role that a node printed last since its present life began, at these bytes of stderr and stdout.
    pub(super) fn role(&self, dir: &RunDir, node: NodeId, life: [u64; 2]) -> Role {
        self.with(dir, node, |log| log.role(&self.rules, life))
    }

    /// What a node printed last of every key, in any of its lives: one that restores what it holds need not tell it again.
    pub(super) fn values(&self, dir: &RunDir, node: NodeId) -> BTreeMap<String, String> {
        self.with(dir, node, |log| {
            log.read(&self.rules);
            log.values.clone()
        })
    }

    fn with<T>(&self, dir: &RunDir, node: NodeId, act: impl FnOnce(&mut NodeLog) -> T) -> T {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        act(nodes.entry(node).or_insert_with(|| NodeLog::of(dir, node)))
    }
}

/// A client of a system that can be read by what its nodes print alone.
#[derive(Debug)]
pub(super) struct LogSession {
    pub(super) writes: Box<dyn Session>,
    pub(super) logs: Arc<Logs>,
    pub(super) dir: RunDir,
    pub(super) nodes: Vec<NodeId>,
}

impl Session for LogSession {
    fn perform(&mut self, process: u64, operation: &Operation, first: usize) -> Completion {
        if !operation.is_read() {
            return self.writes.perform(process, operation, first);
        }
        let Some(node) = self.nodes.get(first).copied() else {
            return Completion::fail(operation, "no_node");
        };
        let printed = self.logs.with(&self.dir, node, |log| {
            log.read(&self.logs.rules);
            held(&operation.key, log.values.get(&operation.key))
        });
        Completion::ok(printed, node)
    }

    fn local(&mut self, _position: usize, _key: &str) -> Option<Local> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Action;
    use serde_json::json;
    use std::fs::OpenOptions;
    use std::io::Write;

    #[derive(Deserialize)]
    struct File {
        log: Vec<LogPattern>,
    }

    fn patterns(text: &str) -> Vec<LogPattern> {
        toml::from_str::<File>(text).unwrap().log
    }

    fn logs() -> Logs {
        let text = "log = [
            { pattern = 'became leader( in term (?<term>[0-9]+))?', says = 'leader' },
            { pattern = 'steps down', says = 'follower' },
            { pattern = 'applied (?<key>[a-z0-9]+) = (?<value>.*)', says = 'value' }]";
        let patterns = patterns(text);
        assert!(patterns.iter().all(|pattern| pattern.check().is_ok()));
        Logs::of(&patterns)
    }

    fn print(path: std::path::PathBuf, text: &str) -> u64 {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.metadata().unwrap().len()
    }

    #[test]
    fn the_newest_role_of_the_present_life_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, logs) = (RunDir::open(dir.path()), logs());
        let role = |leads, term| Role { leads, term };
        assert_eq!(logs.role(&dir, 1, [0, 0]), Role::default());
        print(dir.stderr(1), "n1 became leader in term 5\n");
        assert_eq!(logs.role(&dir, 1, [0, 0]), role(true, Some(5)));
        print(dir.stderr(1), "it steps down\nn1 became leader");
        assert_eq!(logs.role(&dir, 1, [0, 0]), role(false, None), "the last line is not whole");
        let life = print(dir.stderr(1), "\n");
        assert_eq!(logs.role(&dir, 1, [0, 0]), role(true, None));
        assert_eq!(logs.role(&dir, 1, [life, 0]), Role::default(), "that was in another life");
        print(dir.stdout(1), "became leader in term 7\n");
        assert_eq!(logs.role(&dir, 1, [life, 0]), role(true, Some(7)));
        // What was read as part of the life before, because nobody knew yet that another had begun.
        print(dir.stdout(4), "became leader in term 8\n");
        assert_eq!(logs.values(&dir, 4).len(), 0);
        let begins = print(dir.stdout(4), "steps down\n");
        print(dir.stdout(4), "became leader in term 9\n");
        assert_eq!(logs.role(&dir, 4, [0, 0]), role(true, Some(9)));
        assert_eq!(logs.role(&dir, 4, [0, begins]), role(true, Some(9)));
        assert_eq!(logs.role(&dir, 4, [0, begins + 24]), Role::default());
        // Who looks late sees the same.
        let late = self::logs();
        print(dir.stderr(2), "became leader in term 1\n");
        assert_eq!(
            (late.role(&dir, 1, [life, 0]), late.role(&dir, 2, [24, 0])),
            (role(true, Some(7)), Role::default())
        );
    }

    #[test]
    fn the_newest_value_of_any_life_counts_and_is_read_where_clients_cannot() {
        #[derive(Debug)]
        struct Writes;
        impl Session for Writes {
            fn perform(&mut self, _: u64, operation: &Operation, _: usize) -> Completion {
                Completion::fail(operation, "asked")
            }
            fn local(&mut self, _: usize, _: &str) -> Option<Local> {
                None
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let (dir, logs) = (RunDir::open(dir.path()), Arc::new(logs()));
        print(
            dir.stdout(3),
            "applied r1 = 4\napplied r1 =  5 \napplied a2 = [7, 8]\napplied r3 = x\nnoise\n",
        );
        let (writes, nodes) = (Box::new(Writes), vec![2, 3]);
        let mut session = LogSession { writes, logs, dir, nodes };
        let mut read = |key: &str, first| {
            let operation = Operation { key: key.into(), action: Action::Read };
            session.perform(1, &operation, first).value
        };
        let held = ["r1", "a2", "r3", "r4"].map(|key| read(key, 1));
        assert_eq!(held, [json!(5), json!([7, 8]), json!("x"), json!(null)]);
        assert_eq!(read("r1", 0), json!(null));
        let write = Operation { key: "r1".into(), action: Action::Write(6) };
        assert_eq!(session.perform(1, &write, 0).error.unwrap(), "asked");
    }

    #[test]
    fn a_pattern_that_cannot_say_what_it_shall_is_refused() {
        for (pattern, says, told) in [
            ("became (leader", "leader", "no regular expression"),
            ("(?<node>x)", "leader", "no group \"node\"; there are term"),
            ("(?<key>x)", "value", "not \"value\" here"),
            ("(?<key>x)(?<value>y)(?<term>z)", "value", "no group \"term\"; there are key, value"),
        ] {
            let patterns = patterns(&format!("log = [{{ pattern = '{pattern}', says = '{says}' }}]"));
            let (at, message) = patterns[0].check().unwrap_err();
            assert!(at > 0 && message.contains(told), "{pattern}: {message}");
        }
    }
}
