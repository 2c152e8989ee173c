//! The file behind [`crate::trace`]: one write(2) for all lines of a turn, before anything that they explain leaves.
//! It is appended to over restarts; the last line that a SIGKILL tore is removed at the next start.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::ServerError;
use crate::clock;
use crate::trace::{TraceEvent, TraceLine};

/// Name of the trace in the data directory.
const FILE_NAME: &str = "trace.jsonl";

pub(super) struct TraceFile {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
}

impl TraceFile {
    pub(super) fn open(data_dir: &Path) -> Result<TraceFile, ServerError> {
        let path = data_dir.join(FILE_NAME);
        let open = || {
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            let end = end_of_last_line(&mut file)?;
            file.set_len(end)?;
            file.seek(SeekFrom::Start(end))?;
            Ok(file)
        };
        match open() {
            Ok(file) => Ok(TraceFile { path, file, buffer: Vec::new() }),
            Err(source) => Err(ServerError::Trace { path, source }),
        }
    }

    pub(super) fn write(&mut self, events: &[TraceEvent]) -> Result<(), ServerError> {
        if events.is_empty() {
            return Ok(());
        }
        self.buffer.clear();
        let (at, shown) = (clock::machine_ns(), clock::shown());
        let lines = events.iter().try_for_each(|event| {
            serde_json::to_writer(&mut self.buffer, &TraceLine { at, shown, event: event.clone() })?;
            self.buffer.push(b'\n');
            Ok::<(), io::Error>(())
        });
        lines
            .and_then(|()| self.file.write_all(&self.buffer))
            .map_err(|source| ServerError::Trace { path: self.path.clone(), source })
    }
}

/// Where the last whole line ends. A torn line was never handed over whole, so nothing that it explains has left.
fn end_of_last_line(file: &mut File) -> io::Result<u64> {
    const BLOCK: u64 = 64 * 1024;
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = vec![0; (end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_line_is_removed_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let event = [TraceEvent::Durable { lsn: 7 }];
        TraceFile::open(dir.path()).unwrap().write(&event).unwrap();
        let path = dir.path().join(FILE_NAME);
        let whole = std::fs::read(&path).unwrap();
        let torn = [&whole[..], &vec![b'x'; 200_000]].concat();
        std::fs::write(&path, torn).unwrap();
        TraceFile::open(dir.path()).unwrap().write(&event).unwrap();
        let lines = std::fs::read_to_string(&path).unwrap();
        let read: Vec<TraceLine> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.as_bytes().starts_with(&whole) && read.len() == 2, "{lines}");
        assert_eq!([&read[0].event, &read[1].event], [&event[0]; 2]);
    }
}
