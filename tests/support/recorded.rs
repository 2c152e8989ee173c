//! A run directory, read back: what was planned, what happened, what the judge said.
//! Read as plain JSON, so that the tests see the files as any other program would.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A run directory.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Where it is.
    pub path: PathBuf,
}

impl Recorded {
    /// The run in `path`.
    pub fn at(path: &Path) -> Recorded {
        Recorded { path: path.to_owned() }
    }

    /// The bytes of one of its files.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn bytes(&self, file: &str) -> Vec<u8> {
        let path = self.path.join(file);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A file of JSON.
    ///
    /// # Panics
    /// When it is not one.
    pub fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&self.bytes(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// The lines of a file of JSON Lines.
    ///
    /// # Panics
    /// When a line is no JSON.
    pub fn lines(&self, file: &str) -> Vec<Value> {
        let text = String::from_utf8(self.bytes(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let parse = |(number, line): (usize, &str)| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{file}:{}: {error}", number + 1))
        };
        text.lines().enumerate().map(parse).collect()
    }

    /// Lines of `history.jsonl` that are complete so far; none while there is no such file. For looking at a run under way.
    pub fn events_so_far(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path.join("history.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Values of the nemesis' lines of this `f`, in order.
    pub fn nemesis(&self, f: &str) -> Vec<Value> {
        let of_it = |event: &Value| event["process"] == "nemesis" && event["f"] == f;
        self.lines("history.jsonl").into_iter().filter(of_it).map(|mut event| event["value"].take()).collect()
    }

    /// Number of client operations that ended with this type.
    pub fn operations(&self, kind: &str) -> usize {
        let of_it = |event: &&Value| event["process"] != "nemesis" && event["type"] == kind;
        self.lines("history.jsonl").iter().filter(of_it).count()
    }

    /// The verdict in `verdict.json`.
    pub fn verdict(&self) -> String {
        self.json("verdict.json")["verdict"].as_str().unwrap_or_default().to_owned()
    }

    /// Names of the checks in `verdict.json` with this verdict.
    pub fn checks(&self, verdict: &str) -> Vec<String> {
        let checks = self.json("verdict.json");
        let checks = checks["checks"].as_object().into_iter().flatten();
        checks.filter(|(_, check)| check["verdict"] == verdict).map(|(name, _)| name.clone()).collect()
    }
}
