//! The single writer of `history.jsonl`: ranks every event and hands its line to the kernel before the caller goes on.
//! What the events mean is decided by those who record them; the format is the checker's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use checker::history::{Event, EventType, Header, Process};
use serde_json::Value;

use crate::anchor::InFlight;
use crate::host::monotonic_ns;
use crate::tally::Tally;

/// Writes one history. Shared by all workers and the nemesis.
#[derive(Debug)]
pub struct Recorder {
    started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    /// Index of the next event.
    next: u64,
    tally: Tally,
    /// Writes that are not answered yet, by process.
    in_flight: BTreeMap<u64, InFlight>,
    /// When the newest acknowledged one was asked for, nanoseconds of CLOCK_MONOTONIC.
    acknowledged: u64,
    /// The first write that the file system refused. The history is useless from there on.
    refused: Option<io::Error>,
}

impl Recorder {
    /// Creates the file and writes its header. Times count from `started`.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn create(path: &Path, header: &Header, started: Instant) -> io::Result<Recorder> {
        let mut file = File::create(path)?;
        file.write_all((serde_json::to_string(header)? + "\n").as_bytes())?;
        let (tally, in_flight) = (Tally::default(), BTreeMap::new());
        let inner = Inner { file, next: 0, tally, in_flight, acknowledged: 0, refused: None };
        Ok(Recorder { started, inner: Mutex::new(inner) })
    }

    /// Nanoseconds since the start of the run, on CLOCK_MONOTONIC.
    pub fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The instant from which times count.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Records an event of a client under the next index. `event.index` is set here.
    pub fn client(&self, event: Event) {
        self.write(event);
    }

    /// Records a line of the nemesis, stamped now.
    pub fn nemesis(&self, f: &str, value: Value) {
        self.write(Event {
            index: 0,
            time: self.now(),
            process: Process::Nemesis,
            kind: EventType::Info,
            f: f.to_owned(),
            key: None,
            value,
            error: None,
            actual: None,
            node: None,
            client: None,
            position: None,
        });
    }

    /// Writes that clients wait for now.
    pub fn in_flight(&self) -> Vec<InFlight> {
        self.lock().in_flight.values().cloned().collect()
    }

    /// When the newest write that was acknowledged was asked for, nanoseconds of CLOCK_MONOTONIC; 0 if none was.
    pub fn acknowledged(&self) -> u64 {
        self.lock().acknowledged
    }

    /// What was recorded so far.
    pub fn tally(&self) -> Tally {
        self.lock().tally.clone()
    }

    /// Ends the history.
    ///
    /// # Errors
    /// The first write that the file system refused: the file ends there.
    pub fn finish(self) -> io::Result<Tally> {
        let inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        match inner.refused {
            Some(error) => Err(error),
            None => Ok(inner.tally),
        }
    }

    fn write(&self, mut event: Event) {
        let mut inner = self.lock();
        if inner.refused.is_some() {
            return;
        }
        event.index = inner.next;
        inner.next += 1;
        inner.tally.observe(&event);
        if let Process::Client(process) = event.process {
            match (event.kind, &event.node) {
                (EventType::Invoke, Some(node)) if event.f != "read" => {
                    let write = InFlight { node: node.clone(), since: monotonic_ns() };
                    inner.in_flight.insert(process, write);
                }
                (EventType::Invoke, _) => {}
                (kind, _) => {
                    let asked = inner.in_flight.remove(&process).map(|write| write.since);
                    if let Some(asked) = asked.filter(|_| kind == EventType::Ok) {
                        inner.acknowledged = inner.acknowledged.max(asked);
                    }
                }
            }
        }
        // One write(2) a line: what a client did is in the kernel before it does it, even if the harness is killed.
        let written = serde_json::to_string(&event)
            .map_err(io::Error::from)
            .and_then(|line| inner.file.write_all((line + "\n").as_bytes()));
        inner.refused = written.err();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A poisoned lock means that a worker panicked between two lines; the file is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn event(kind: EventType, process: u64) -> Event {
        Event {
            index: 99,
            time: 5,
            process: Process::Client(process),
            kind,
            f: "write".to_owned(),
            key: Some("r0".to_owned()),
            value: json!(3),
            error: None,
            actual: None,
            node: Some("n1".to_owned()),
            client: Some("w0".to_owned()),
            position: None,
        }
    }

    #[test]
    fn every_line_is_in_the_file_at_once_ranked_and_readable_by_the_checker() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let header = Header {
            format: checker::history::FORMAT.to_owned(),
            version: checker::history::VERSION.to_owned(),
            workload: "register".to_owned(),
            models: BTreeMap::from([("r".to_owned(), "cas-register".to_owned())]),
            clock: "monotonic-ns".to_owned(),
            nodes: vec!["n1".to_owned()],
        };
        let recorder = Recorder::create(&path, &header, Instant::now()).unwrap();
        recorder.nemesis("phase", json!({"phase": "load"}));
        recorder.client(event(EventType::Invoke, 4));
        recorder.client(event(EventType::Ok, 4));

        // Read before `finish`: nothing waits in a buffer of ours.
        let mut write = event(EventType::Invoke, 5);
        (write.f, write.node) = ("write".to_owned(), Some("n1".to_owned()));
        recorder.client(write.clone());
        assert_eq!(recorder.in_flight().iter().map(|open| open.node.as_str()).collect::<Vec<_>>(), ["n1"]);
        let since = recorder.in_flight()[0].since;
        (write.kind, write.node) = (EventType::Info, None);
        recorder.client(write.clone());
        assert_eq!(recorder.in_flight(), [], "an unknown outcome is one, too");
        assert!(recorder.acknowledged() < since, "and no acknowledgement");
        (write.kind, write.node) = (EventType::Invoke, Some("n1".to_owned()));
        recorder.client(write.clone());
        let asked = recorder.in_flight()[0].since;
        write.kind = EventType::Ok;
        recorder.client(write);
        assert_eq!(recorder.acknowledged(), asked);

        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        assert_eq!(serde_json::from_str::<Header>(lines.next().unwrap()).unwrap(), header);
        let events: Vec<Event> = lines.map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(events.iter().map(|e| e.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(events[0].process, Process::Nemesis);
        assert_eq!(events[2], Event { index: 2, ..event(EventType::Ok, 4) });
        assert_eq!(recorder.finish().unwrap().ok, 2);
    }

    #[test]
    fn a_refused_write_is_an_error_of_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        std::fs::write(&path, "").unwrap();
        let inner = Inner {
            file: File::open(&path).unwrap(),
            next: 0,
            tally: Tally::default(),
            in_flight: BTreeMap::new(),
            acknowledged: 0,
            refused: None,
        };
        let recorder = Recorder { started: Instant::now(), inner: Mutex::new(inner) };
        recorder.client(event(EventType::Invoke, 1));
        recorder.client(event(EventType::Ok, 1));
        assert!(recorder.finish().is_err(), "the file was opened for reading only");
    }
}
