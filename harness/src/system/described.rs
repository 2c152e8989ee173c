//! A system that a file describes: its commands, files and addresses, and the clients that talk to it.
//! What a description may say, and how it is checked, is in `description`.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::description::{Defaults, Description, DescriptionError, Kind, PortKind, Ready, StatusRequest};
use super::http::{self, HttpSession};
use super::log::{LogSession, Logs};
use super::maelstrom;
use super::program::{Program, ProgramSession};
use super::template::expand;
use super::{Place, Role, Session, Status, System, ToldMoment, Transport};
use crate::NodeId;
use crate::anchor::Moment;
use crate::cluster::Addresses;
use crate::run_dir::{RunDir, node_name};
use crate::run_file::Binary;
use crate::translate::{Damage, Election, TranslateError};

/// A described system.
#[derive(Debug)]
pub struct Described {
    description: Description,
    text: String,
    /// The program that nodes run.
    program: PathBuf,
    /// Where its driver writes its stderr.
    driver_log: PathBuf,
    /// Where its nodes print to.
    dir: Option<RunDir>,
    logs: Arc<Logs>,
    /// The processes of its driver, started when the first client needs them.
    drivers: Mutex<Vec<Arc<Program>>>,
    /// Clients so far: they take turns with the processes.
    sessions: std::sync::atomic::AtomicUsize,
}

/// Why there is no such system.
#[derive(Debug, thiserror::Error)]
pub enum DescribedError {
    /// The description.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// No program to run.
    #[error("there is no program {program:?} {place}, which {name} runs")]
    NoProgram {
        /// As the description or the command line has it.
        program: String,
        /// Where it was looked for.
        place: &'static str,
        /// The system.
        name: String,
    },
}

impl DescribedError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            DescribedError::Description(error) => error.hint(),
            DescribedError::NoProgram { .. } => "install it, or say where it is: --binary FILE".to_owned(),
        }
    }
}

impl Described {
    /// The system of this shipped name or description file. `binary` is run in place of the first word of its command.
    ///
    /// # Errors
    /// The description is wrong, or its program is nowhere.
    pub fn load(name: &str, binary: Option<&Path>) -> Result<Described, DescribedError> {
        let (description, text) = Description::load(name)?;
        Described::of(description, text, binary)
    }

    /// The nodes of Maelstrom that run this program.
    ///
    /// # Errors
    /// There is no such program.
    pub fn maelstrom(program: &Path) -> Result<Described, DescribedError> {
        let text = maelstrom::description(program);
        Described::of(Description::parse(program, &text)?, text, Some(program))
    }

    fn of(
        description: Description,
        text: String,
        binary: Option<&Path>,
    ) -> Result<Described, DescribedError> {
        let wanted = match (binary, description.command.get_ref().first()) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(word)) => word.get_ref().clone(),
            (None, None) => String::new(),
        };
        let program = find_program(&wanted, binary.is_some()).map_err(|place| DescribedError::NoProgram {
            program: wanted,
            place,
            name: description.name.clone(),
        })?;
        Ok(Described {
            logs: Arc::new(Logs::of(&description.log)),
            dir: None,
            description,
            text,
            program,
            driver_log: PathBuf::new(),
            drivers: Mutex::default(),
            sessions: 0.into(),
        })
    }

    /// The same in a run directory, where its driver's stderr goes and its nodes print to.
    #[must_use]
    pub fn in_run(self, dir: &RunDir) -> Described {
        Described { driver_log: dir.driver_log(), dir: Some(dir.clone()), ..self }
    }

    /// Whether what keys hold is known by what its nodes print, because its clients cannot read.
    pub fn prints_values(&self) -> bool {
        self.logs.rules().tell_values()
    }

    fn status_request(&self) -> Option<&StatusRequest> {
        self.description.http.as_ref().and_then(|http| http.get_ref().status.as_ref())
    }

    /// What a run of it is, unless the command line says otherwise.
    pub fn defaults(&self) -> &Defaults {
        &self.description.run
    }

    fn rank(&self, port: &str) -> u16 {
        let rank = self.description.ports.get_ref().keys().position(|name| name == port);
        u16::try_from(rank.unwrap_or_default()).unwrap_or_default()
    }

    fn kind(&self, port: &str) -> PortKind {
        self.description.ports.get_ref().get(port).copied().unwrap_or(PortKind::Direct)
    }

    /// Where a node listens.
    fn listens(&self, addresses: &Addresses, node: NodeId, port: &str) -> SocketAddr {
        match self.kind(port) {
            PortKind::Udp => addresses.node(node),
            PortKind::Direct | PortKind::Tcp => addresses.port(node, self.rank(port)),
        }
    }

    /// Where `viewer` reaches a node.
    fn public(&self, place: &Place<'_>, node: NodeId, port: &str) -> SocketAddr {
        match self.kind(port) {
            PortKind::Udp if place.proxied && node != place.node => place.addresses.proxy(place.node, node),
            PortKind::Tcp if place.proxied => place.addresses.front(node, self.rank(port)),
            _ => self.listens(place.addresses, node, port),
        }
    }

    fn of_node(&self, place: &Place<'_>, node: NodeId, word: &str) -> Option<String> {
        let addresses = place.addresses;
        if let Some((first, port)) = word.split_once(':') {
            return match first {
                "port" => Some(self.listens(addresses, node, port).port().to_string()),
                "addr" => Some(self.listens(addresses, node, port).to_string()),
                "public" => Some(self.public(place, node, port).to_string()),
                _ => None,
            };
        }
        match word {
            "id" => Some(node.to_string()),
            "name" => Some(node_name(node)),
            "ip" => Some(addresses.node(node).ip().to_string()),
            _ => None,
        }
    }

    /// Fills in a text of the node at `place`.
    fn expand(&self, place: &Place<'_>, text: &str) -> io::Result<String> {
        let absolute = |path: PathBuf| std::path::absolute(path).map(|path| path.display().to_string()).ok();
        let fill = |word: &str| match word {
            "data" => absolute(place.run_dir.data(place.node)),
            "dir" => absolute(place.run_dir.node(place.node)),
            "nodes" => Some(place.addresses.nodes().to_string()),
            "peers" => {
                let each = self.description.peers.as_ref()?.get_ref();
                let of = |node| expand(each, &|word| self.of_node(place, node, word)).ok();
                let all = (1..=place.addresses.nodes()).map(of).collect::<Option<Vec<_>>>()?;
                Some(all.join(&self.description.peers_separator))
            }
            word => self.of_node(place, place.node, word),
        };
        // Checked when the description was read, except that a path may be no text.
        expand(text, &fill).map_err(|word| io::Error::other(format!("nothing to put in for {{{word}}}")))
    }

    fn is_of_maelstrom(&self) -> bool {
        self.description.kind == Kind::Maelstrom
    }

    fn client_port(&self) -> &str {
        match (&self.description.http, &self.description.driver) {
            (Some(http), _) => http.get_ref().port.get_ref(),
            (None, Some(driver)) => driver.get_ref().port.get_ref(),
            (None, None) => "",
        }
    }

    /// The client that the description has for these nodes.
    fn client(&self, nodes: &[(NodeId, SocketAddr)], patience: Duration) -> io::Result<Box<dyn Session>> {
        if self.is_of_maelstrom() {
            return Ok(Box::new(maelstrom::Session::new(nodes, patience)?));
        }
        if let Some(program) = self.driver()? {
            return Ok(Box::new(ProgramSession::new(program, nodes, patience)));
        }
        let http = self.description.http.as_ref().map(|http| http.get_ref().clone());
        let http = http.ok_or_else(|| io::Error::other("the description has no client"))?;
        Ok(Box::new(HttpSession::new(http, nodes, patience)))
    }

    /// The process of the driver for the next client.
    fn driver(&self) -> io::Result<Option<Arc<Program>>> {
        let Some(driver) = &self.description.driver else { return Ok(None) };
        let driver = driver.get_ref();
        let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        let turn =
            self.sessions.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % driver.processes as usize;
        while drivers.len() <= turn {
            drivers.push(Arc::new(Program::start(driver.command.get_ref(), &self.driver_log)?));
        }
        Ok(drivers.get(turn).cloned())
    }
}

/// The program that a word of a command means.
fn find_program(word: &str, given: bool) -> Result<PathBuf, &'static str> {
    use std::os::unix::fs::PermissionsExt;
    let executable = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let file = PathBuf::from(word);
    if word.contains('/') || (given && executable(&file)) {
        return if executable(&file) { Ok(file) } else { Err("that may be executed") };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(word)).find(|file| executable(file));
    found.ok_or(if given { "that may be executed, neither here nor on the PATH" } else { "on the PATH" })
}

impl System for Described {
    fn name(&self) -> &str {
        &self.description.name
    }

    fn description(&self) -> Option<&str> {
        Some(&self.text)
    }

    fn functions(&self) -> Vec<String> {
        if self.is_of_maelstrom() {
            return ["read", "write", "cas"].map(str::to_owned).to_vec();
        }
        if let Some(driver) = &self.description.driver {
            return driver.get_ref().functions.iter().map(|function| function.get_ref().clone()).collect();
        }
        let Some(http) = &self.description.http else { return Vec::new() };
        let http = http.get_ref();
        let has = [
            ("read", http.read.is_some()),
            ("write", http.write.is_some()),
            ("cas", http.cas.is_some()),
            ("append", http.append.is_some()),
            ("add", http.add.is_some()),
        ];
        has.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect()
    }

    fn transport(&self) -> Transport {
        let kinds = || self.description.ports.get_ref().values();
        if self.description.tcp().is_some() {
            Transport::Tcp
        } else if kinds().any(|kind| *kind == PortKind::Udp) {
            Transport::Udp
        } else {
            Transport::Direct
        }
    }

    fn fronts(&self, addresses: &Addresses) -> Vec<(NodeId, SocketAddr, SocketAddr)> {
        let ports = self.description.ports.get_ref().iter().filter(|(_, kind)| **kind == PortKind::Tcp);
        ports
            .flat_map(|(port, _)| {
                let rank = self.rank(port);
                (1..=addresses.nodes())
                    .map(move |node| (node, addresses.front(node, rank), addresses.port(node, rank)))
            })
            .collect()
    }

    fn survives_wipe(&self) -> bool {
        self.description.survives_wipe
    }

    fn forgets(&self) -> bool {
        self.is_of_maelstrom()
    }

    fn tolerates(&self) -> Option<u32> {
        self.description.tolerates
    }

    fn files(&self, place: &Place<'_>) -> io::Result<Vec<(PathBuf, String)>> {
        let home = std::path::absolute(place.run_dir.node(place.node))?;
        let of = |(path, text): (&String, &toml::Spanned<String>)| {
            Ok((home.join(self.expand(place, path)?), self.expand(place, text.get_ref())?))
        };
        self.description.files.iter().map(of).collect()
    }

    fn command(&self, place: &Place<'_>) -> io::Result<Command> {
        let words = self.description.command.get_ref().iter().skip(1);
        let words = words.map(|word| self.expand(place, word.get_ref())).collect::<io::Result<Vec<_>>>()?;
        let mut command = if self.is_of_maelstrom() {
            maelstrom::command(place, &self.program, words)?
        } else {
            // Many programs want to be given a directory that is there.
            std::fs::create_dir_all(place.run_dir.data(place.node))?;
            let mut command = Command::new(&self.program);
            command.args(words);
            command
        };
        for (name, value) in &self.description.env {
            command.env(name, self.expand(place, value.get_ref())?);
        }
        Ok(command)
    }

    fn client_addr(&self, addresses: &Addresses, node: NodeId) -> SocketAddr {
        if self.is_of_maelstrom() {
            return addresses.node(node);
        }
        self.listens(addresses, node, self.client_port())
    }

    fn tells_leader(&self) -> bool {
        self.tells_followed() || self.tells_moment(Moment::Leader)
    }

    fn tells_followed(&self) -> bool {
        self.status_request().is_some_and(|status| status.id.is_some() && status.leader.is_some())
    }

    fn tells_applied(&self) -> bool {
        self.status_request().is_some_and(|status| status.applied.is_some())
    }

    fn status(&self, place: &Place<'_>, timeout: Duration) -> Option<Status> {
        let addr = self.client_addr(place.addresses, place.node);
        if self.is_of_maelstrom() {
            let ready = maelstrom::is_ready(addr, timeout);
            return ready.then(|| Status { id: place.node.to_string(), ..Status::default() });
        }
        if let Some(status) = self.status_request() {
            return http::status(status, addr, timeout);
        }
        let ready = match &self.description.ready {
            Some(Ready::Log(text)) => {
                let logs = [place.run_dir.stderr(place.node), place.run_dir.stdout(place.node)];
                let said = |(path, life): (PathBuf, u64)| {
                    let log = std::fs::read(path).unwrap_or_default();
                    let new = log.get(usize::try_from(life).unwrap_or(usize::MAX)..).unwrap_or_default();
                    String::from_utf8_lossy(new).contains(text)
                };
                logs.into_iter().zip(place.life).any(said)
            }
            Some(Ready::Tcp(port)) => {
                let addr = self.listens(place.addresses, place.node, port.get_ref());
                TcpStream::connect_timeout(&addr, timeout).is_ok()
            }
            None => TcpStream::connect_timeout(&addr, timeout).is_ok(),
        };
        ready.then(|| {
            let role = self.logs.role(place.run_dir, place.node, place.life);
            let term = role.term.unwrap_or_default();
            Status { id: place.node.to_string(), leads: role.leads, term, ..Status::default() }
        })
    }

    fn session(&self, nodes: &[(NodeId, SocketAddr)], patience: Duration) -> io::Result<Box<dyn Session>> {
        let session = self.client(nodes, patience)?;
        match &self.dir {
            Some(dir) if self.prints_values() => {
                let nodes = nodes.iter().map(|(id, _)| *id).collect();
                Ok(Box::new(LogSession { writes: session, logs: self.logs.clone(), dir: dir.clone(), nodes }))
            }
            _ => Ok(session),
        }
    }

    fn printed(&self, dir: &RunDir, node: NodeId) -> Option<BTreeMap<String, String>> {
        self.prints_values().then(|| self.logs.values(dir, node))
    }

    fn prints_roles(&self) -> bool {
        self.logs.rules().tell_leader()
    }

    fn role(&self, line: &str) -> Option<Role> {
        self.logs.rules().role(line)
    }

    fn tells_moment(&self, moment: Moment) -> bool {
        moment == Moment::Leader && self.prints_roles()
    }

    fn moment_files(&self, dir: &RunDir, node: NodeId) -> Vec<PathBuf> {
        vec![dir.stderr(node), dir.stdout(node)]
    }

    fn moment(&self, line: &str) -> Option<ToldMoment> {
        let role = self.role(line).filter(|role| role.leads)?;
        Some(ToldMoment { moment: Moment::Leader, at: None, term: role.term })
    }

    fn trouble(&self) -> &[String] {
        &self.description.trouble
    }

    fn commands(&self) -> Vec<&str> {
        self.description.admin.keys().map(String::as_str).collect()
    }

    fn operation(&self, name: &str, place: &Place<'_>) -> io::Result<Command> {
        let missing = || io::Error::other(format!("the description has no command {name:?}"));
        let words = self.description.admin.get(name).ok_or_else(missing)?.get_ref();
        let words =
            words.iter().map(|word| self.expand(place, word.get_ref())).collect::<io::Result<Vec<_>>>()?;
        let (program, args) = words.split_first().ok_or_else(missing)?;
        let mut command = Command::new(program);
        command.args(args);
        Ok(command)
    }

    fn broken(&self) -> Option<String> {
        let drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        drivers.iter().find_map(|driver| driver.ended())
    }

    fn binary(&self) -> io::Result<Binary> {
        Binary::foreign(&self.program)
    }

    fn expected_exits(&self) -> &[i32] {
        &self.description.expected_exit
    }

    fn torn_exits(&self) -> &[i32] {
        &self.description.torn_exit
    }

    fn refused_exits(&self) -> &[i32] {
        &self.description.refused_exit
    }

    fn translate(
        &self,
        _dir: &RunDir,
        _nodes: u32,
        _damages: &[Damage],
    ) -> Result<Option<Vec<Election>>, TranslateError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_started_as_described() {
        let addresses = Addresses::claim(3).unwrap();
        let run_dir = RunDir::open(Path::new("/run"));
        let place = Place { node: 2, addresses: &addresses, proxied: true, run_dir: &run_dir, life: [0; 2] };
        let system = Described::load("etcd", Some(Path::new("/bin/sh"))).unwrap();
        let command = system.command(&place).unwrap();
        let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>();
        // Ports by name: client is the first, peer the second.
        let (client, peer) = (addresses.port(2, 0), addresses.port(2, 1));
        let fronts = [1, 2, 3].map(|node| addresses.front(node, 1));
        for expected in [
            "--data-dir=/run/nodes/n2/data".to_owned(),
            format!("--listen-client-urls=http://{client}"),
            format!("--listen-peer-urls=http://{peer}"),
            format!("--initial-advertise-peer-urls=http://{}", fronts[1]),
            format!(
                "--initial-cluster=n1=http://{},n2=http://{},n3=http://{}",
                fronts[0], fronts[1], fronts[2]
            ),
        ] {
            assert!(args.contains(&expected), "{expected} is not in {args:?}");
        }
        assert_eq!(system.functions(), ["read", "write", "cas", "append", "add"]);
        assert_eq!((system.transport(), system.fronts(&addresses).len()), (Transport::Tcp, 3));
        assert_eq!(system.client_addr(&addresses, 2), client);
    }

    #[test]
    fn words_of_an_earlier_life_make_no_node_ready() {
        let dir = tempfile::tempdir().unwrap();
        let text = "name = \"x\"\ncommand = [\"sh\"]\nready = { log = \"serving\" }\n[ports]\nweb = \"direct\"\n\
                    [driver]\ncommand = [\"sh\"]\nport = \"web\"\nfunctions = [\"read\", \"write\"]\n";
        let file = dir.path().join("x.toml");
        std::fs::write(&file, text).unwrap();
        let system = Described::load(file.to_str().unwrap(), None).unwrap();
        let (addresses, run_dir) = (Addresses::claim(1).unwrap(), RunDir::open(dir.path()));
        std::fs::create_dir_all(run_dir.node(1)).unwrap();
        std::fs::write(run_dir.stdout(1), "serving\n").unwrap();
        let ready = |life| {
            let place = Place { node: 1, addresses: &addresses, proxied: false, run_dir: &run_dir, life };
            system.status(&place, Duration::from_millis(10)).is_some()
        };
        assert!(ready([0, 0]) && ready([99, 0]) && !ready([0, 8]) && !ready([0, 99]));
        std::fs::write(run_dir.stdout(1), "serving\nserving\n").unwrap();
        assert!(ready([0, 8]));
    }

    #[test]
    fn a_file_of_a_description_is_in_the_directory_of_its_node() {
        let dir = tempfile::tempdir().unwrap();
        let described = dir.path().join("store.toml");
        let text = "name = \"store\"\ncommand = [\"sh\"]\n[files]\n\"etc/own.conf\" = \"I am {name}\"\n\"{data}/id\" = \"{id}\"\n\
                    [ports]\nclient = \"direct\"\n[driver]\ncommand = [\"cat\"]\nport = \"client\"\nfunctions = [\"read\", \"add\"]\n";
        std::fs::write(&described, text).unwrap();
        let system = Described::load(described.to_str().unwrap(), None).unwrap();
        let (addresses, run_dir) = (Addresses::claim(1).unwrap(), RunDir::open(dir.path()));
        let place = Place { node: 1, addresses: &addresses, proxied: false, run_dir: &run_dir, life: [0; 2] };
        let file = |path: &str, text: &str| (dir.path().join(path), text.to_owned());
        assert_eq!(
            system.files(&place).unwrap(),
            [file("nodes/n1/etc/own.conf", "I am n1"), file("nodes/n1/data/id", "1")]
        );
    }

    #[test]
    fn a_program_that_is_nowhere_is_named() {
        let error = Described::load("etcd", Some(Path::new("/nonexistent/etcd"))).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/etcd"), "{error}");
        assert!(error.hint().contains("--binary"));
        assert_eq!(find_program("no-such-program", false), Err("on the PATH"));
        assert_eq!(
            find_program("sh", false),
            find_program("sh", true),
            "what is named is found as what is described"
        );
        assert!(find_program("sh", true).is_ok());
        assert_eq!(
            find_program("no-such-program", true),
            Err("that may be executed, neither here nor on the PATH")
        );
    }
}
