//! As much of gRPC as a load on etcd needs: unary calls over HTTP/2, and the few protobuf messages of its `KV` and
//! `Maintenance` services, written out by hand from etcd's `rpc.proto` and `kv.proto`. HTTP/2 itself is `h2`'s.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Method, Request};
use tokio::net::TcpStream;

/// Sets a key: `PutRequest { key = 1, value = 2 }`.
pub(super) const PUT: &str = "/etcdserverpb.KV/Put";
/// Reads a key, linearizably unless asked otherwise: `RangeRequest { key = 1 }`.
pub(super) const RANGE: &str = "/etcdserverpb.KV/Range";
/// What a member says of itself: `StatusRequest {}`.
pub(super) const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// A connection; clones share it.
#[derive(Clone)]
pub(super) struct Channel {
    requests: SendRequest<Bytes>,
    authority: String,
}

impl Channel {
    /// Connects to `host:port`. The connection is driven by a task of the current runtime.
    pub(super) async fn connect(authority: &str) -> Result<Channel, String> {
        let socket = TcpStream::connect(authority).await.map_err(|error| error.to_string())?;
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let (requests, connection) =
            h2::client::handshake(socket).await.map_err(|error| error.to_string())?;
        // Its end is seen by every call that is open.
        tokio::spawn(connection);
        Ok(Channel { requests, authority: authority.to_owned() })
    }

    /// Calls `path` with an encoded message; the message of the answer, or why there is none.
    pub(super) async fn call(&mut self, path: &str, message: &[u8]) -> Result<Bytes, String> {
        let text = |error: h2::Error| error.to_string();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|error| error.to_string())?;
        let mut requests = self.requests.clone().ready().await.map_err(text)?;
        let (response, mut body) = requests.send_request(request, false).map_err(text)?;
        let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
        framed.put_u8(0);
        framed.put_u32(message.len() as u32);
        framed.put_slice(message);
        body.send_data(framed.freeze(), true).map_err(text)?;
        let (head, mut body) = response.await.map_err(text)?.into_parts();
        // An error comes without a body, its status among the headers.
        check_status(&head.headers)?;
        let mut answer = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(text)?;
            body.flow_control().release_capacity(data.len()).map_err(text)?;
            answer.extend_from_slice(&data);
        }
        if let Some(trailers) = body.trailers().await.map_err(text)? {
            check_status(&trailers)?;
        }
        if answer.len() < PREFIX_BYTES || answer[0] != 0 {
            return Err("an answer without a message".to_owned());
        }
        answer.advance(PREFIX_BYTES);
        Ok(answer.freeze())
    }
}

fn check_status(headers: &http::HeaderMap) -> Result<(), String> {
    match headers.get("grpc-status").map(|status| status.as_bytes()) {
        None | Some(b"0") => Ok(()),
        Some(status) => {
            let message = headers.get("grpc-message").map_or(&b""[..], |message| message.as_bytes());
            Err(format!("status {}: {}", status.escape_ascii(), message.escape_ascii()))
        }
    }
}

/// A message whose fields 1, 2, … are `fields`, each of them bytes.
pub(super) fn message(fields: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, bytes) in (1_u8..).zip(fields) {
        out.push(number << 3 | 2);
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
    }
    out
}

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    /// An integer.
    Number(u64),
    /// Bytes, text or a message.
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    /// The bytes, if it is such.
    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Field::Bytes(bytes) => Some(bytes),
            Field::Number(_) => None,
        }
    }

    /// The integer, if it is one.
    pub(super) fn number(self) -> Option<u64> {
        match self {
            Field::Number(number) => Some(number),
            Field::Bytes(_) => None,
        }
    }
}

/// The first field `wanted` of a message, if it has one that can be read.
pub(super) fn field(mut message: &[u8], wanted: u64) -> Option<Field<'_>> {
    loop {
        let tag = varint(&mut message)?;
        let value = match tag & 7 {
            0 => Field::Number(varint(&mut message)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Field::Bytes(bytes)
            }
            _ => return None, // fixed-size numbers occur in none of the messages that are read here
        };
        if tag >> 3 == wanted {
            return Some(value);
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_what_protobuf_says() {
        // The encoding guide's own example: field 2, "testing".
        assert_eq!(message(&[b"", b"testing"]), b"\x0a\x00\x12\x07testing");
        let long = message(&[&[b'x'; 300]]);
        assert_eq!(long[..3], [0x0a, 0xac, 0x02]);
        assert_eq!(field(&long, 1), Some(Field::Bytes(&[b'x'; 300])));
    }

    #[test]
    fn fields_are_found_behind_others_and_damage_is_none() {
        // field 1 = 150 (the guide's example), then field 2 = "ab".
        let bytes = b"\x08\x96\x01\x12\x02ab";
        assert_eq!(field(bytes, 1), Some(Field::Number(150)));
        assert_eq!(field(bytes, 2).and_then(Field::bytes), Some(&b"ab"[..]));
        assert_eq!(field(bytes, 3), None);
        assert_eq!(field(&bytes[..6], 2), None);
        assert_eq!(field(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1), None);
    }
}
