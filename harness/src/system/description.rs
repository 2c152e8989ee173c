//! The description of a system that others wrote: a TOML file, checked before anything starts, errors named by line.
//! What is made of it is in `described`, its clients in `http` and `program`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::log::{LogPattern, Says};
use super::maelstrom;
use super::pointer::Pointer;
use super::template::expand;
use crate::fault::FaultKind;
use crate::spec::WorkloadKind;

/// Descriptions that come with the harness, by name.
pub const SHIPPED: [(&str, &str); 1] = [("etcd", include_str!("../../systems/etcd.toml"))];
/// Ports of one node: more do not fit beside the links of the largest cluster.
const PORTS_MAX: usize = 16;

/// Why a description is of no use.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DescriptionError {
    /// Neither a shipped name nor a file.
    #[error("there is no description {name:?}: {reason}")]
    Missing {
        /// What was asked for.
        name: String,
        /// What the system said.
        reason: String,
    },
    /// A line is wrong.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

impl DescriptionError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            DescriptionError::Missing { .. } => {
                let shipped = SHIPPED.map(|(name, _)| name).join(", ");
                format!("name a file such as mine.toml, or one of: {shipped}")
            }
            DescriptionError::Line { .. } => {
                "the format is described in harness/README.md, \"Any system\"; harness/systems/etcd.toml is one".to_owned()
            }
        }
    }
}

/// How nodes use a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PortKind {
    /// Clients and nodes reach it directly.
    Direct,
    /// Nodes reach it through the harness, which passes streams on.
    Tcp,
    /// Nodes reach it through the harness, which passes datagrams on. At most one port.
    Udp,
}

/// How a system's nodes are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// They listen at ports.
    #[default]
    Server,
    /// They talk over stdin and stdout, as Maelstrom has it.
    Maelstrom,
}

/// A description.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    #[serde(default)]
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) command: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    pub(super) files: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    pub(super) peers: Option<Spanned<String>>,
    #[serde(default = "comma")]
    pub(super) peers_separator: String,
    #[serde(default = "no_ports")]
    pub(super) ports: Spanned<BTreeMap<String, PortKind>>,
    #[serde(default)]
    pub(super) ready: Option<Ready>,
    #[serde(default)]
    pub(super) survives_wipe: bool,
    #[serde(default)]
    pub(super) tolerates: Option<u32>,
    #[serde(default)]
    pub(super) expected_exit: Vec<i32>,
    #[serde(default)]
    pub(super) refused_exit: Vec<i32>,
    #[serde(default)]
    pub(super) torn_exit: Vec<i32>,
    #[serde(default)]
    pub(super) trouble: Vec<String>,
    #[serde(default)]
    pub(super) log: Vec<LogPattern>,
    #[serde(default)]
    pub(super) admin: BTreeMap<String, Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    pub(super) run: Defaults,
    #[serde(default)]
    pub(super) http: Option<Spanned<Http>>,
    #[serde(default)]
    pub(super) driver: Option<Spanned<Driver>>,
}

fn no_ports() -> Spanned<BTreeMap<String, PortKind>> {
    Spanned::new(0..0, BTreeMap::new())
}

fn comma() -> String {
    ",".to_owned()
}

/// When a node is ready, where no status tells it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(super) enum Ready {
    /// This port takes connections.
    Tcp(Spanned<String>),
    /// Its output contains this text.
    Log(String),
}

/// What a run of this system is, unless the command line says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Nodes.
    pub nodes: Option<u32>,
    /// Workers.
    pub clients: Option<u32>,
    /// Operations a second; 0 is as fast as they go.
    pub rate: Option<u32>,
    /// What clients do.
    pub workload: Option<WorkloadKind>,
    /// How long.
    pub time: Option<String>,
    /// How long a fresh cluster may take to serve.
    pub ready_within: Option<String>,
    /// Kinds of faults.
    pub faults: Option<Vec<FaultKind>>,
    /// Profile of faults.
    pub profile: Option<String>,
}

/// The built-in HTTP driver.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub(super) port: Spanned<String>,
    #[serde(default = "timeout_ms")]
    pub(super) timeout_ms: u64,
    #[serde(default)]
    pub(super) definite: Vec<String>,
    #[serde(default)]
    pub(super) definite_status: Vec<u16>,
    pub(super) status: Option<StatusRequest>,
    pub(super) read: Option<Request>,
    pub(super) elements: Option<Request>,
    pub(super) write: Option<Request>,
    pub(super) cas: Option<Request>,
    pub(super) append: Option<Request>,
    pub(super) add: Option<Request>,
}

fn timeout_ms() -> u64 {
    1_000
}

/// A request of a client, and where its answer says what.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    #[serde(default = "post")]
    pub(super) method: String,
    pub(super) path: Spanned<String>,
    #[serde(default)]
    pub(super) body: Option<Spanned<String>>,
    /// Of a read: what was read.
    pub(super) value: Option<Pointer>,
    /// True if it was done; without it, an answer of success says so.
    pub(super) done: Option<Pointer>,
    /// Of a `cas` that was not done: what was there.
    pub(super) actual: Option<Pointer>,
    /// An HTTP status that says that the key is absent.
    pub(super) absent_status: Option<u16>,
}

fn post() -> String {
    "POST".to_owned()
}

/// The question for a node's status.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatusRequest {
    #[serde(default = "post")]
    pub(super) method: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) body: Option<String>,
    pub(super) id: Option<Pointer>,
    pub(super) leader: Option<Pointer>,
    pub(super) term: Option<Pointer>,
    pub(super) applied: Option<Pointer>,
}

/// A driver of somebody else's.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Driver {
    pub(super) command: Spanned<Vec<String>>,
    pub(super) port: Spanned<String>,
    pub(super) functions: Vec<Spanned<String>>,
    #[serde(default = "one")]
    pub(super) processes: u32,
}

fn one() -> u32 {
    1
}

/// Names that stand for something of one node.
pub(super) const OF_A_NODE: [&str; 3] = ["id", "name", "ip"];
/// The same with a port behind a colon.
pub(super) const OF_A_PORT: [&str; 3] = ["port", "addr", "public"];
/// Names that a node's own texts may hold beside these.
pub(super) const OF_ITSELF: [&str; 4] = ["data", "dir", "peers", "nodes"];

/// A complaint, and the byte of the file that it is about.
type Complaint = (usize, String);

impl Description {
    /// Reads a shipped description or a file; also its text, for the run directory.
    ///
    /// # Errors
    /// There is none, or a line of it is wrong.
    pub(super) fn load(name: &str) -> Result<(Description, String), DescriptionError> {
        let shipped = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
        let (path, text) = match shipped {
            Some((name, text)) => (PathBuf::from(format!("{name}.toml")), (*text).to_owned()),
            None => {
                let path = PathBuf::from(name);
                let missing = |error: std::io::Error| DescriptionError::Missing {
                    name: name.to_owned(),
                    reason: error.to_string(),
                };
                let text = std::fs::read_to_string(&path).map_err(missing)?;
                (path, text)
            }
        };
        Description::parse(&path, &text).map(|description| (description, text))
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Description, DescriptionError> {
        let at = |offset: usize, message: String| {
            let line = text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
            DescriptionError::Line { path: path.to_owned(), line, message }
        };
        let parsed: Result<Description, toml::de::Error> = toml::from_str(text);
        let mut description = parsed.map_err(|error| {
            // A field that is missing at the top level has no place: the first line stands for the file.
            at(error.span().map_or(0, |span| span.start), error.message().to_owned())
        })?;
        description.check().map_err(|(offset, message)| at(offset, message))?;
        if description.kind == Kind::Maelstrom {
            description.complete();
        }
        Ok(description)
    }

    /// What goes without saying of nodes of Maelstrom.
    fn complete(&mut self) {
        let messages = BTreeMap::from([("messages".to_owned(), PortKind::Udp)]);
        self.ports = Spanned::new(0..0, messages);
        self.run.nodes.get_or_insert(5);
        self.run.rate.get_or_insert(200);
        self.run.workload.get_or_insert(WorkloadKind::Register);
        self.run.time.get_or_insert_with(|| "60s".to_owned());
        self.run.profile.get_or_insert_with(|| "elections".to_owned());
        self.run.faults.get_or_insert_with(|| maelstrom::FAULTS.to_vec());
    }

    fn check(&self) -> Result<(), Complaint> {
        let complain = |at: usize, message: String| Err((at, message));
        if self.command.get_ref().is_empty() {
            return complain(self.command.span().start, "the command is empty".to_owned());
        }
        self.log.iter().try_for_each(LogPattern::check)?;
        let values = self.log.iter().find(|log| log.says == Says::Value);
        if let Some(log) = values.filter(|_| self.has_reads()) {
            let message = "clients that can read need no pattern of values".to_owned();
            return complain(log.pattern.span().start, message);
        }
        for command in self.admin.values() {
            if command.get_ref().is_empty() {
                return complain(command.span().start, "the command is empty".to_owned());
            }
            command.get_ref().iter().try_for_each(|text| self.placeholders(text, &OF_ITSELF))?;
        }
        let ports = self.ports.get_ref();
        if self.kind == Kind::Maelstrom {
            let ports = (!ports.is_empty()).then(|| self.ports.span());
            let http = self.http.as_ref().map(Spanned::span);
            let driver = self.driver.as_ref().map(Spanned::span);
            if let Some(span) = ports.or(http).or(driver) {
                let message = "nodes of Maelstrom have no [ports], no [http] and no [driver]";
                return complain(span.start, message.to_owned());
            }
            let own = self.command.get_ref().iter().chain(self.env.values()).chain(self.files.values());
            return own.chain(self.peers.iter()).try_for_each(|text| self.placeholders(text, &OF_ITSELF));
        }
        let udp = ports.values().filter(|kind| **kind == PortKind::Udp).count();
        if ports.is_empty() || ports.len() > PORTS_MAX || udp > 1 || (udp == 1 && self.tcp().is_some()) {
            let message = format!(
                "a system has 1 to {PORTS_MAX} ports; those between nodes are all tcp, or one is udp"
            );
            return complain(self.ports.span().start, message);
        }
        let own = self.command.get_ref().iter().chain(self.env.values()).chain(self.files.values());
        own.chain(self.peers.iter()).try_for_each(|text| self.placeholders(text, &OF_ITSELF))?;
        if let Some(Ready::Tcp(port)) = &self.ready {
            self.port(port)?;
        }
        match (&self.http, &self.driver) {
            (Some(http), None) => self.check_http(http),
            (None, Some(driver)) => {
                let span = driver.span().start;
                let driver = driver.get_ref();
                self.port(&driver.port)?;
                for function in &driver.functions {
                    if !["read", "write", "cas", "append", "add"].contains(&function.get_ref().as_str()) {
                        let message = format!(
                            "there is no function {:?}; there are read, write, cas, append, add",
                            function.get_ref()
                        );
                        return complain(function.span().start, message);
                    }
                }
                if driver.command.get_ref().is_empty() || driver.processes == 0 {
                    return complain(span, "a driver is a command, and at least one process".to_owned());
                }
                Ok(())
            }
            (_, driver) => {
                let at = driver.as_ref().map_or(0, |driver| driver.span().start);
                complain(at, "a system has a client: either [http] or [driver]".to_owned())
            }
        }
    }

    /// Whether clients can read.
    fn has_reads(&self) -> bool {
        let http = self.http.as_ref().map(Spanned::get_ref);
        let driver = self.driver.as_ref().map(Spanned::get_ref);
        self.kind == Kind::Maelstrom
            || http.is_some_and(|http| http.read.is_some() || http.elements.is_some())
            || driver
                .is_some_and(|driver| driver.functions.iter().any(|function| function.get_ref() == "read"))
    }

    fn check_http(&self, http: &Spanned<Http>) -> Result<(), Complaint> {
        let at = http.span().start;
        let http = http.get_ref();
        self.port(&http.port)?;
        let requests = [
            (&http.read, &["key"][..]),
            (&http.elements, &["key"]),
            (&http.write, &["key", "value"]),
            (&http.cas, &["key", "from", "to"]),
            (&http.append, &["key", "value"]),
            (&http.add, &["key", "value"]),
        ];
        for (request, known) in requests {
            let Some(request) = request else { continue };
            for text in std::iter::once(&request.path).chain(&request.body) {
                let fill = |word: &str| known.contains(&word).then(String::new);
                expand(text.get_ref(), &fill).map_err(|word| {
                    (
                        text.span().start,
                        format!("there is no {{{word}}} here; there are {{{}}}", known.join("}, {")),
                    )
                })?;
            }
        }
        for (reads, name) in [(&http.read, "read"), (&http.elements, "elements")] {
            if let Some(request) = reads
                && request.value.is_none()
            {
                let message = format!("[http.{name}] does not say where its answer has the value");
                return Err((request.path.span().start, message));
            }
        }
        if self.log.iter().any(|log| log.says == Says::Value) {
            return Ok(());
        }
        if (http.write.is_some() || http.cas.is_some()) && http.read.is_none() {
            return Err((
                at,
                "what [http.write] and [http.cas] write needs [http.read], or a [[log]] of values".to_owned(),
            ));
        }
        if (http.append.is_some() || http.add.is_some()) && http.elements.is_none() {
            return Err((
                at,
                "what [http.append] and [http.add] write needs [http.elements], or a [[log]] of values"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    fn port(&self, name: &Spanned<String>) -> Result<(), Complaint> {
        let ports = self.ports.get_ref();
        if ports.contains_key(name.get_ref()) {
            return Ok(());
        }
        let known = ports.keys().cloned().collect::<Vec<_>>().join(", ");
        Err((name.span().start, format!("there is no port {:?}; [ports] has {known}", name.get_ref())))
    }

    fn placeholders(&self, text: &Spanned<String>, own: &[&str]) -> Result<(), Complaint> {
        let ports = self.ports.get_ref();
        let fill = |word: &str| {
            let known = match word.split_once(':') {
                Some((first, port)) => OF_A_PORT.contains(&first) && ports.contains_key(port),
                None => OF_A_NODE.contains(&word) || own.contains(&word),
            };
            known.then(String::new)
        };
        expand(text.get_ref(), &fill).map(drop).map_err(|word| {
            let ports =
                ports.keys().map(|port| format!("{{port:{port}}}, {{addr:{port}}}, {{public:{port}}}"));
            let names = OF_A_NODE.iter().chain(own).map(|name| format!("{{{name}}}"));
            let known = names.chain(ports).collect::<Vec<_>>().join(", ");
            let message =
                format!("there is no {{{word}}}; there are {known}; {{{{{word}}}}} is {{{word}}} itself");
            (text.span().start, message)
        })
    }

    /// The first port on which nodes pass streams through the harness.
    pub(super) fn tcp(&self) -> Option<&str> {
        self.ports.get_ref().iter().find(|(_, kind)| **kind == PortKind::Tcp).map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"name = "x"
command = ["server", "{name}"]
[ports]
client = "direct"
[driver]
command = ["python3", "driver.py"]
port = "client"
functions = ["read", "write"]
"#;

    fn check(text: &str, line: usize, said: &str) {
        let error = Description::parse(Path::new("x.toml"), text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("x.toml:{line}: ")) && error.contains(said), "{error}");
    }

    #[test]
    fn shipped_descriptions_are_right_and_short() {
        for (name, text) in SHIPPED {
            let (description, kept) = Description::load(name).unwrap();
            assert_eq!((description.name.as_str(), kept.as_str()), (name, text));
            let lines = text.lines().filter(|line| !line.is_empty()).count();
            assert!(lines <= 60, "{name}: {lines} lines");
        }
    }

    #[test]
    fn a_wrong_description_is_refused_by_line() {
        assert!(Description::parse(Path::new("x.toml"), MINIMAL).is_ok());
        check(&MINIMAL.replace("{name}", "{nane}"), 2, "there is no {nane}; there are {id}, {name}");
        check(&MINIMAL.replace("{name}", "{port:peer}"), 2, "{port:client}");
        check(&MINIMAL.replace("{name}", "return {true}"), 2, "{{true}} is {true} itself");
        check(&MINIMAL.replace("\"direct\"", "\"carrier pigeon\""), 4, "carrier pigeon");
        check(
            &MINIMAL.replace("port = \"client\"", "port = \"web\""),
            7,
            "there is no port \"web\"; [ports] has client",
        );
        check(&MINIMAL.replace("\"write\"", "\"wirte\""), 8, "there is no function \"wirte\"");
        check(&MINIMAL.replace("[driver]", "[driver]\ncolour = 1"), 6, "colour");
        check(&MINIMAL.replace("command = [\"server\", \"{name}\"]", "command = []"), 2, "empty");
        check(&MINIMAL.replace("name = \"x\"", "name = "), 1, "");
        check(MINIMAL.split("[driver]").next().unwrap(), 1, "either [http] or [driver]");
        let http = MINIMAL.split("[driver]").next().unwrap().to_owned() + "[http]\nport = \"client\"\n";
        check(
            &(http.clone() + "[http.read]\npath = \"/{kee}\"\nvalue = \"/v\"\n"),
            8,
            "there is no {kee} here; there are {key}",
        );
        check(&(http.clone() + "[http.read]\npath = \"/\"\nvalue = \"v\"\n"), 9, "no pointer");
        check(&(http.clone() + "[http.read]\npath = \"/\"\n"), 8, "does not say where");
        let adds = http + "[http.add]\npath = \"/{value}\"\n";
        check(&adds, 5, "needs [http.elements]");
        let values = "[[log]]\npattern = '(?<key>a) (?<value>b)'\nsays = \"value\"\n";
        assert!(
            Description::parse(Path::new("x.toml"), &(adds + values)).is_ok(),
            "they are read in what is printed"
        );
        check(&(MINIMAL.to_owned() + values), 10, "clients that can read need no pattern of values");
        let leads = MINIMAL.to_owned() + "[[log]]\npattern = '(leads'\nsays = \"leader\"\n";
        check(&leads, 10, "no regular expression");
        check(&(MINIMAL.to_owned() + "[admin]\ndefragment = []\n"), 10, "the command is empty");
        check(
            &(MINIMAL.to_owned() + "[admin]\ntidy = [\"tidy\", \"{addr:web}\"]\n"),
            10,
            "there is no {addr:web}",
        );
        check(&leads.replace("(leads", "leads").replace("\"leader\"", "\"boss\""), 11, "boss");
    }

    #[test]
    fn nodes_of_maelstrom_need_a_name_and_a_command_alone() {
        let text = "kind = \"maelstrom\"\nname = \"x\"\ncommand = [\"node\", \"{id}\"]\n";
        let description = Description::parse(Path::new("x.toml"), text).unwrap();
        let run = &description.run;
        assert_eq!(
            (run.nodes, run.workload, run.faults.as_deref()),
            (Some(5), Some(WorkloadKind::Register), Some(&maelstrom::FAULTS[..]))
        );
        assert_eq!((run.time.as_deref(), run.profile.as_deref()), (Some("60s"), Some("elections")));
        let own = text.to_owned() + "[run]\nnodes = 5\nfaults = [\"kill\"]\n";
        let run = Description::parse(Path::new("x.toml"), &own).unwrap().run;
        assert_eq!((run.nodes, run.faults.as_deref()), (Some(5), Some(&[FaultKind::Kill][..])));
        check(&text.replace("{id}", "{addr:web}"), 3, "there is no {addr:web}");
        check(&(text.to_owned() + "[ports]\nweb = \"tcp\"\n"), 4, "no [ports]");
        check(&(text.to_owned() + "[http]\nport = \"web\"\n"), 4, "no [ports]");
        check(&text.replace("maelstrom", "storm"), 1, "storm");
        let program = maelstrom::description(Path::new("/a \"b\"/node"));
        let described = Description::parse(Path::new("x.toml"), &program).unwrap();
        assert_eq!(
            (described.name.as_str(), described.command.get_ref()[0].get_ref().as_str()),
            ("node", "/a \"b\"/node")
        );
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let error = Description::load("etdc").unwrap_err();
        assert!(error.to_string().contains("\"etdc\"") && error.hint().contains("etcd"), "{error}");
    }
}
