//! `GET /status` and `GET /metrics` over HTTP, from a thread of its own: a slow reader costs the node nothing.
//! What the pages say is the status's and [`crate::metrics`]'; the loop leaves a fresh status here now and then.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::ServerError;
use crate::client::Status;
use crate::metrics::{self, Latency};
use crate::storage::scrub::Scrubbed;

/// How old what is served may be, ns.
const REFRESH_INTERVAL: u64 = 100_000_000;
/// How long one request may take altogether. One is served at a time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a request that are read; what is asked for stands in the first line.
const REQUEST_BYTES_MAX: usize = 8 << 10;

type Latest = Arc<Mutex<Option<(Status, Latency, Scrubbed)>>>;

/// Handle of the event loop.
pub(super) struct Http {
    latest: Latest,
    refreshed_at: u64,
}

impl Http {
    pub(super) fn start(address: SocketAddr) -> Result<Http, ServerError> {
        let listen = |source| ServerError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        let latest = Latest::default();
        let theirs = Arc::clone(&latest);
        thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || {
                for stream in listener.incoming() {
                    match stream {
                        // Whatever goes wrong with one reader is over with it.
                        Ok(stream) => drop(serve(stream, &theirs)),
                        // Out of descriptors, most likely: do not spin.
                        Err(_) => thread::sleep(Duration::from_millis(100)),
                    }
                }
            })
            .map_err(|source| ServerError::System { action: "start the HTTP thread", source })?;
        Ok(Http { latest, refreshed_at: 0 })
    }

    /// Leaves a status for the next reader, if the last one has become old.
    pub(super) fn refresh(
        &mut self,
        now: u64,
        status: impl FnOnce() -> Status,
        fsync: Latency,
        scrubbed: Scrubbed,
    ) {
        if now.saturating_sub(self.refreshed_at) >= REFRESH_INTERVAL {
            self.refreshed_at = now;
            *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some((status(), fsync, scrubbed));
        }
    }
}

fn serve(mut stream: TcpStream, latest: &Latest) -> io::Result<()> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer)? {
            0 => break,
            length => request.extend_from_slice(&buffer[..length]),
        }
    }
    let latest = latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (status, kind, body) = answer(&request, latest);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    // HEAD asks for the head alone.
    if request.starts_with(b"HEAD ") { Ok(()) } else { stream.write_all(body.as_bytes()) }
}

/// Status line, content type and body.
fn answer(
    request: &[u8],
    latest: Option<(Status, Latency, Scrubbed)>,
) -> (&'static str, &'static str, String) {
    const TEXT: &str = "text/plain; charset=utf-8";
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !words.next().is_some_and(|version| version.starts_with(b"HTTP/1.")) {
        return ("400 Bad Request", TEXT, "this is no HTTP/1 request\n".to_owned());
    }
    if method != b"GET" && method != b"HEAD" {
        return ("405 Method Not Allowed", TEXT, "only GET and HEAD\n".to_owned());
    }
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match (path, latest) {
        (b"/status" | b"/metrics", None) => {
            ("503 Service Unavailable", TEXT, "the node is starting\n".to_owned())
        }
        (b"/status", Some((status, ..))) => {
            let json = serde_json::to_string(&status).unwrap_or_default();
            ("200 OK", "application/json", json + "\n")
        }
        (b"/metrics", Some((status, fsync, scrubbed))) => {
            let page = metrics::render(&status, metrics::process(), &fsync, scrubbed);
            ("200 OK", "text/plain; version=0.0.4; charset=utf-8", page)
        }
        _ => ("404 Not Found", TEXT, "there are /status and /metrics\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_a_request_for_a_page_gets_an_answer_that_says_so() {
        let code = |request: &[u8]| answer(request, None).0.split(' ').next().unwrap().to_owned();
        assert_eq!(code(b"GET /status HTTP/1.1\r\n\r\n"), "503");
        assert_eq!(code(b"GET /metrics?x=1 HTTP/1.0\r\n\r\n"), "503");
        assert_eq!(code(b"GET /other HTTP/1.1\r\n\r\n"), "404");
        assert_eq!(code(b"POST /status HTTP/1.1\r\n\r\n"), "405");
        for request in
            [&b""[..], b"\r\n\r\n", b"GET", b"GET /status", b"\xff\xfe \x00 nonsense", b"GET / HTTP/2"]
        {
            assert_eq!(code(request), "400", "{request:?}");
        }
    }
}
