//! Lines for people, on stderr, from a thread of their own: a reader who does not read must never stop the node.
//! What is worth a line is decided where it happens.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::clock;
use crate::config::LOG_LINES_MAX;
use crate::raft::event::{Event, Level};
use crate::raft::types::NodeId;

/// How long a stopping node waits for its last lines to be read.
const LAST_LINES_WAIT: Duration = Duration::from_millis(500);
/// Lines that wait for each other no longer than it takes to write so many bytes of them at once.
const WRITE_BYTES: usize = 16 * 1024;

/// What a line says. Words are put together by the thread that writes: the node has something better to do.
enum Text {
    Event(Event),
    Words(String),
}

struct Line {
    at: SystemTime,
    level: Level,
    text: Text,
}

/// How lines look.
#[derive(Clone, Copy)]
struct Format {
    id: NodeId,
    json: bool,
}

impl Format {
    fn append(self, out: &mut String, Line { at, level, text }: &Line) {
        let name = match level {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        };
        let time = humantime::format_rfc3339_millis(*at);
        let start = out.len();
        let _ = match text {
            Text::Event(event) => write!(out, "{event}"),
            Text::Words(words) => write!(out, "{words}"),
        };
        let text = out.split_off(start);
        // Writing into a String cannot fail.
        let _ = if self.json {
            let (time, node) = (time.to_string(), format!("n{}", self.id));
            writeln!(
                out,
                "{}",
                serde_json::json!({ "time": time, "node": node, "level": name, "message": text })
            )
        } else {
            writeln!(out, "{time} n{} {name:<5} {text}", self.id)
        };
    }
}

pub(super) struct Logger {
    level: Option<Level>,
    lines: Option<SyncSender<Line>>,
    done: Receiver<()>,
    dropped: Arc<AtomicU64>,
}

impl Logger {
    pub(super) fn start(id: NodeId, level: Option<Level>, json: bool) -> Logger {
        let (lines, queue) = mpsc::sync_channel::<Line>(LOG_LINES_MAX);
        let (finished, done) = mpsc::channel();
        let dropped = Arc::new(AtomicU64::new(0));
        let missed = Arc::clone(&dropped);
        let format = Format { id, json };
        let writer = thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut stderr = std::io::stderr();
            let mut out = String::new();
            while let Ok(line) = queue.recv() {
                let lost = missed.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ = writeln!(out, "{lost} lines dropped: stderr is slower than the node");
                }
                format.append(&mut out, &line);
                // What came meanwhile leaves with it; nothing waits for more.
                while out.len() < WRITE_BYTES
                    && let Ok(line) = queue.try_recv()
                {
                    format.append(&mut out, &line);
                }
                let _ = stderr.write_all(out.as_bytes());
                out.clear();
            }
            let _ = finished.send(());
        });
        // Without the thread there are no lines, and the node serves all the same.
        Logger { level, lines: writer.is_ok().then_some(lines), done, dropped }
    }

    pub(super) fn event(&self, event: Event) {
        self.queue(event.level(), || Text::Event(event));
    }

    pub(super) fn line(&self, level: Level, words: &str) {
        self.queue(level, || Text::Words(words.to_owned()));
    }

    fn queue(&self, level: Level, text: impl FnOnce() -> Text) {
        if self.level.is_none_or(|wanted| level > wanted) {
            return;
        }
        let line = Line { at: clock::wall(), level, text: text() };
        if self.lines.as_ref().is_some_and(|lines| lines.try_send(line).is_err()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        drop(self.lines.take());
        let _ = self.done.recv_timeout(LAST_LINES_WAIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_follow_each_other_as_text_and_as_json() {
        let line = |text| Line { at: SystemTime::UNIX_EPOCH, level: Level::Info, text };
        let both = |format: Format| {
            let mut out = String::new();
            format.append(&mut out, &line(Text::Event(Event::BecameLeader { term: 3 })));
            format.append(&mut out, &line(Text::Words("a \"word\"".to_owned())));
            out
        };
        assert_eq!(
            both(Format { id: 2, json: false }),
            "1970-01-01T00:00:00.000Z n2 info  became leader for term 3\n\
             1970-01-01T00:00:00.000Z n2 info  a \"word\"\n"
        );
        let json = both(Format { id: 2, json: true });
        let lines: Vec<serde_json::Value> =
            json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["node"], &lines[0]["level"]), (&"n2".into(), &"info".into()));
        assert_eq!(
            (&lines[0]["message"], &lines[1]["message"]),
            (&"became leader for term 3".into(), &"a \"word\"".into())
        );
    }
}
