//! One request on its way: sent, or fetched by the node that was offered it; its response received, or fetched in turn.
//! When to try again, and where, is the client's business. No socket here: datagrams in, datagrams out.

use std::net::SocketAddr;

use crate::config::PULL_WINDOW;
use crate::protocol::content::Content;
use crate::protocol::{Purpose, RESPONSE_BYTES_MAX, Request, RequestBody, Response, ResponseBody};
use crate::transport::assembly::Assembly;
use crate::transport::frame::{Kind, PAYLOAD_BYTES_MAX};
use crate::transport::object::{Chunk, ObjectId, PullRequest};

/// What is to be sent, and to whom.
pub type Outgoing = (SocketAddr, Kind, Vec<u8>);

/// What became of a datagram.
#[derive(Debug)]
pub enum Taken {
    /// It was nothing to this request.
    Nothing,
    /// The request or its response comes on: whoever sent it is alive.
    Progress,
    /// The answer.
    Answer(Response),
}

#[derive(Debug)]
struct Download {
    source: SocketAddr,
    assembly: Assembly,
}

/// One request until it is answered.
#[derive(Debug)]
pub struct Exchange {
    nonce: u64,
    sequence: u64,
    request: Vec<u8>,
    /// The first datagram: the request, or the offer of it.
    opening: Vec<u8>,
    download: Option<Download>,
    /// A source that is silent for so long (ns) may be left for another.
    patience: u64,
}

impl Exchange {
    /// A request that was not sent yet. `patience`: after so many ns of silence another node may send the response.
    pub fn new(request: &Request, patience: u64) -> Exchange {
        let bytes = request.encode();
        let purpose = match &request.body {
            RequestBody::Write { client_id, .. } => Purpose::Write { client_id: *client_id },
            RequestBody::LocalGet { .. } => Purpose::LocalRead,
            _ => Purpose::Read,
        };
        let opening = if bytes.len() <= PAYLOAD_BYTES_MAX {
            bytes.clone()
        } else {
            let body = RequestBody::Offer { purpose, content: Content::of(&bytes) };
            Request { body, ..*request }.encode()
        };
        let Request { nonce, sequence, .. } = *request;
        Exchange { nonce, sequence, request: bytes, opening, download: None, patience }
    }

    /// The payload to begin with, at every node that is tried.
    pub fn opening(&self) -> &[u8] {
        &self.opening
    }

    /// What to ask for by now.
    pub fn requests(&mut self, now: u64) -> Vec<Outgoing> {
        let Some(Download { source, assembly }) = &mut self.download else { return Vec::new() };
        let requests = assembly.requests(now, PULL_WINDOW).into_iter();
        requests.map(|request| (*source, Kind::Pull, request.encode())).collect()
    }

    /// When [`Exchange::requests`] is due.
    pub fn next_deadline(&self) -> u64 {
        self.download.as_ref().map_or(u64::MAX, |download| download.assembly.next_deadline())
    }

    /// Takes a datagram, and adds to `out` what it gives reason to send.
    pub fn take(
        &mut self,
        now: u64,
        source: SocketAddr,
        kind: Kind,
        payload: &[u8],
        out: &mut Vec<Outgoing>,
    ) -> Taken {
        match kind {
            Kind::Response => match Response::decode(payload) {
                Ok(response) if (response.nonce, response.sequence) == (self.nonce, self.sequence) => {
                    self.response(now, source, response)
                }
                _ => Taken::Nothing,
            },
            Kind::Pull => self.serve(source, payload, out),
            Kind::Chunk => self.chunk(now, payload, out),
            _ => Taken::Nothing,
        }
    }

    fn response(&mut self, now: u64, source: SocketAddr, response: Response) -> Taken {
        let ResponseBody::Offer { content } = response.body else { return Taken::Answer(response) };
        if content.size as usize > RESPONSE_BYTES_MAX {
            return Taken::Nothing;
        }
        match &mut self.download {
            // What comes on is not left for another: two nodes may offer two answers.
            Some(current) if now.saturating_sub(current.assembly.heard_at()) < self.patience => {}
            Some(current) if current.assembly.content() == content => {
                current.source = source;
                current.assembly.resume(now);
            }
            _ => {
                let (nonce, sequence) = (self.nonce, self.sequence);
                let object = ObjectId::Response { nonce, sequence, hash: content.short_hash() };
                self.download = Some(Download { source, assembly: Assembly::new(object, content, now) });
            }
        }
        Taken::Progress
    }

    fn serve(&mut self, source: SocketAddr, payload: &[u8], out: &mut Vec<Outgoing>) -> Taken {
        let mine = ObjectId::Request { nonce: self.nonce, sequence: self.sequence };
        let Ok(request) = PullRequest::decode(payload) else { return Taken::Nothing };
        if request.object != mine {
            return Taken::Nothing;
        }
        for (offset, length) in request.chunks(self.request.len() as u64) {
            let bytes = &self.request[offset as usize..][..length];
            let chunk = Chunk { object: mine, asked_at: request.asked_at, offset, bytes };
            out.push((source, Kind::Chunk, chunk.encode()));
        }
        Taken::Progress
    }

    fn chunk(&mut self, now: u64, payload: &[u8], out: &mut Vec<Outgoing>) -> Taken {
        let Ok(chunk) = Chunk::decode(payload) else { return Taken::Nothing };
        let Some(Download { source, assembly }) = &mut self.download else { return Taken::Nothing };
        let Some(bytes) = assembly.chunk(now, &chunk) else { return Taken::Progress };
        // The node may forget it. If this is lost it does so by itself, later.
        let done = PullRequest { object: chunk.object, asked_at: now, ranges: Vec::new() };
        out.push((*source, Kind::Pull, done.encode()));
        self.download = None;
        match Response::decode(&bytes) {
            Ok(response) if (response.nonce, response.sequence) == (self.nonce, self.sequence) => {
                Taken::Answer(response)
            }
            _ => Taken::Nothing,
        }
    }
}
