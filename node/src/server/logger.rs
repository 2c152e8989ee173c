//! Lines for people, on stderr, from a thread of their own: a reader who does not read must never stop the node.
//! What is worth a line is decided where it happens.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::config::LOG_LINES_MAX;
use crate::raft::event::{Event, Level};
use crate::raft::types::NodeId;

/// How long a stopping node waits for its last lines to be read.
const LAST_LINES_WAIT: Duration = Duration::from_millis(500);

pub(super) struct Logger {
    id: NodeId,
    level: Option<Level>,
    json: bool,
    lines: Option<SyncSender<String>>,
    done: Receiver<()>,
    dropped: Arc<AtomicU64>,
}

impl Logger {
    pub(super) fn start(id: NodeId, level: Option<Level>, json: bool) -> Logger {
        let (lines, queue) = mpsc::sync_channel::<String>(LOG_LINES_MAX);
        let (finished, done) = mpsc::channel();
        let dropped = Arc::new(AtomicU64::new(0));
        let missed = Arc::clone(&dropped);
        let writer = thread::Builder::new().name("log".to_owned()).spawn(move || {
            let mut stderr = std::io::stderr();
            while let Ok(line) = queue.recv() {
                let lost = missed.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ = writeln!(stderr, "{lost} lines dropped: stderr is slower than the node");
                }
                let _ = stderr.write_all(line.as_bytes());
            }
            let _ = finished.send(());
        });
        // Without the thread there are no lines, and the node serves all the same.
        Logger { id, level, json, lines: writer.is_ok().then_some(lines), done, dropped }
    }

    pub(super) fn event(&self, event: &Event) {
        self.line(event.level(), &event.to_string());
    }

    pub(super) fn line(&self, level: Level, text: &str) {
        if self.level.is_none_or(|wanted| level > wanted) {
            return;
        }
        let name = match level {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        };
        let time = humantime::format_rfc3339_millis(SystemTime::now());
        let line = if self.json {
            let (time, node) = (time.to_string(), format!("n{}", self.id));
            format!("{}\n", serde_json::json!({ "time": time, "node": node, "level": name, "message": text }))
        } else {
            format!("{time} n{} {name:<5} {text}\n", self.id)
        };
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
