//! HTTP/1.1 as a client of one server needs it: kept connections, answers of known length, in chunks or to the end.
//! Knows nothing of what is asked; tells apart what was never sent from what may have arrived.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

/// Largest answer that is read, bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Shortest wait that the kernel is asked for: zero would mean for ever.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// No byte of the request left.
    #[error("{0}")]
    NotSent(String),
    /// The request may have arrived.
    #[error("{0}")]
    Lost(String),
}

/// A connection to one server, made when it is needed and kept while it works.
#[derive(Debug)]
pub(super) struct Connection {
    addr: SocketAddr,
    stream: Option<TcpStream>,
}

impl Connection {
    pub(super) fn to(addr: SocketAddr) -> Connection {
        Connection { addr, stream: None }
    }

    /// Sends one request and reads its answer: status and body.
    pub(super) fn exchange(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
        deadline: Instant,
    ) -> Result<(u16, Vec<u8>), ExchangeError> {
        let not_sent = |error: io::Error| ExchangeError::NotSent(error.to_string());
        // A server that went away has closed its end: noticed before anything is sent, the request is not lost with it.
        let mut stream = match self.stream.take().filter(is_open) {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.addr, left(deadline)).map_err(not_sent)?;
                stream.set_nodelay(true).map_err(not_sent)?;
                stream
            }
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.addr,
            body.len()
        );
        let lost = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ExchangeError::Lost("timeout".to_owned()),
            _ => ExchangeError::Lost(error.to_string()),
        };
        stream.set_write_timeout(Some(left(deadline))).map_err(not_sent)?;
        stream.write_all(request.as_bytes()).map_err(lost)?;
        let answer = Answer::read(&mut stream, deadline).map_err(lost)?;
        self.stream = answer.keep.then_some(stream);
        Ok((answer.status, answer.body))
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(WAIT_MIN)
}

/// Whether nothing, not even the end, waits to be read: between two requests a server has nothing to say.
fn is_open(stream: &TcpStream) -> bool {
    let waiting = recv(stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
    waiting == Err(Errno::EAGAIN)
}

struct Answer {
    status: u16,
    body: Vec<u8>,
    keep: bool,
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP answer: {what}"))
}

/// Reads from a stream until a deadline.
struct Reader<'a> {
    stream: &'a mut TcpStream,
    deadline: Instant,
    bytes: Vec<u8>,
    /// What was taken so far.
    at: usize,
}

impl Reader<'_> {
    /// False at the end of the stream.
    fn more(&mut self) -> io::Result<bool> {
        if self.bytes.len() > ANSWER_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        if Instant::now() >= self.deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left(self.deadline)))?;
        let mut chunk = [0; 16 << 10];
        let count = self.stream.read(&mut chunk)?;
        self.bytes.extend_from_slice(&chunk[..count]);
        Ok(count > 0)
    }

    fn need(&mut self) -> io::Result<()> {
        if self.more()? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.bytes[self.at..].iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&self.bytes[self.at..self.at + end]).trim_end().to_owned();
                self.at += end + 1;
                return Ok(line);
            }
            self.need()?;
        }
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        if count > ANSWER_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        while self.bytes.len() - self.at < count {
            self.need()?;
        }
        self.at += count;
        Ok(self.bytes[self.at - count..self.at].to_vec())
    }
}

impl Answer {
    fn read(stream: &mut TcpStream, deadline: Instant) -> io::Result<Answer> {
        let mut reader = Reader { stream, deadline, bytes: Vec::new(), at: 0 };
        let (mut status, mut length, mut chunked, mut keep);
        // Answers that only announce another one are skipped.
        loop {
            let first = reader.line()?;
            let mut words = first.split(' ');
            let version = words.next().filter(|word| word.starts_with("HTTP/1."));
            status = words.next().and_then(|word| word.parse::<u16>().ok());
            (length, chunked, keep) = (None, false, version == Some("HTTP/1.1"));
            if version.is_none() {
                return Err(malformed(&first));
            }
            loop {
                let line = reader.line()?;
                let Some((name, value)) = line.split_once(':') else {
                    if line.is_empty() {
                        break;
                    }
                    return Err(malformed(&line));
                };
                let value = value.trim();
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => {
                        length = Some(value.parse::<usize>().map_err(|_| malformed("its length"))?);
                    }
                    "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                    "connection" if value.eq_ignore_ascii_case("close") => keep = false,
                    _ => {}
                }
            }
            if status.is_none_or(|status| status >= 200) {
                break;
            }
        }
        let status = status.ok_or_else(|| malformed("its status"))?;
        let body = if status == 204 || status == 304 {
            Vec::new()
        } else if chunked {
            Answer::chunks(&mut reader)?
        } else if let Some(length) = length {
            reader.take(length)?
        } else {
            keep = false;
            while reader.more()? {}
            reader.bytes.split_off(reader.at)
        };
        Ok(Answer { status, body, keep })
    }

    fn chunks(reader: &mut Reader<'_>) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = reader.line()?;
            let size = line.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).map_err(|_| malformed("the size of a chunk"))?;
            if size == 0 {
                // Trailers end with an empty line.
                while !reader.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(reader.take(size)?);
            reader.line()?;
            if body.len() > ANSWER_BYTES_MAX {
                return Err(malformed("it is too long"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that answers each request on one connection with the next of `answers`, then closes it.
    fn serve(answers: &'static [&'static str]) -> (SocketAddr, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut requests = Vec::new();
            for answer in answers {
                let mut buffer = [0; 1024];
                let count = stream.read(&mut buffer).unwrap();
                requests.push(String::from_utf8(buffer[..count].to_vec()).unwrap());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            requests
        });
        (addr, thread)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn a_connection_is_kept_and_every_framing_is_read() {
        let (addr, server) = serve(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n3\r\nabc\r\n2;e=1\r\nde\r\n0\r\nx: y\r\n\r\n",
            "HTTP/1.1 204 None\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\nto the end",
        ]);
        let mut connection = Connection::to(addr);
        let mut ask = || {
            connection
                .exchange("POST", "/p", "{}", soon())
                .map(|(status, body)| (status, String::from_utf8(body).unwrap()))
                .unwrap()
        };
        assert_eq!(ask(), (200, "{}".to_owned()));
        assert_eq!(ask(), (400, "abcde".to_owned()));
        assert_eq!(ask(), (204, String::new()));
        assert_eq!(ask(), (200, "to the end".to_owned()));
        let requests = server.join().unwrap();
        assert_eq!(requests.len(), 4, "all on one connection");
        assert!(
            requests[0].starts_with("POST /p HTTP/1.1\r\n")
                && requests[0].ends_with("Content-Length: 2\r\n\r\n{}")
        );
    }

    #[test]
    fn what_was_not_sent_is_told_from_what_may_have_arrived() {
        let (addr, server) = serve(&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]);
        let mut connection = Connection::to(addr);
        connection.exchange("GET", "/", "", soon()).unwrap();
        server.join().unwrap();
        // The server and its kept connection are gone: nothing is sent into the void.
        let error = connection.exchange("GET", "/", "", soon()).unwrap_err();
        assert!(matches!(error, ExchangeError::NotSent(_)), "{error:?}");

        let (addr, server) = serve(&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"]);
        let error = Connection::to(addr).exchange("GET", "/", "", soon()).unwrap_err();
        assert!(matches!(error, ExchangeError::Lost(_)), "{error:?}");
        server.join().unwrap();

        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connection = Connection::to(silent.local_addr().unwrap());
        let error =
            connection.exchange("GET", "/", "", Instant::now() + Duration::from_millis(30)).unwrap_err();
        assert_eq!(error.to_string(), "timeout");
    }
}
