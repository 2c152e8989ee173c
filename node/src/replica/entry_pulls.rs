//! Appends whose payloads do not fit into a datagram: what is there is taken, the rest waits while the payloads are fetched.
//! Raft sees none of it: it gets appends that are complete, later, as if the network had been slow.
//!
//! What waits is bounded, and all of it can be lost: the leader sends again what is not acknowledged. Meanwhile every append
//! and heartbeat is answered up to the last entry that is here, so a leader is heard and hears its follower all along.

use std::collections::BTreeMap;

use super::{Destination, Replica};
use crate::protocol::content::Content;
use crate::raft::Input;
use crate::raft::message::{Envelope, Message};
use crate::raft::types::{Entry, Index, LogId, NodeId, Payload, ProcessId, Term};
use crate::transport::assembly::{Assembly, Window};
use crate::transport::frame::{DropReason, Kind};
use crate::transport::message_codec::{self, AppendInParts, Incoming, Part};
use crate::transport::object::{Chunk, ObjectId};

/// Whose append it was. Entries of one leader in one term follow from each other, those of two need not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) from: NodeId,
    pub(super) term: Term,
    pub(super) process: ProcessId,
}

#[derive(Debug)]
enum State {
    Coming(Box<Assembly>),
    /// Fetched, and not in the log yet.
    Here(Payload),
}

#[derive(Debug)]
struct EntryPull {
    kind: u8,
    content: Content,
    /// Who is asked.
    source: NodeId,
    /// When the leader last spoke of it or it came on, ns.
    used_at: u64,
    state: State,
}

/// What is being fetched, and the appends that wait for it.
#[derive(Debug, Default)]
pub(super) struct EntryPulls {
    pulls: BTreeMap<LogId, EntryPull>,
    /// By the index of the entry before their first one. All of one origin.
    held: BTreeMap<Index, AppendInParts>,
    origin: Option<Origin>,
}

impl EntryPulls {
    /// Bytes that are fetched, or wait for their append.
    pub(super) fn bytes(&self) -> usize {
        self.pulls.values().map(|pull| pull.content.size as usize).sum()
    }

    /// How many appends wait.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// The entry up to which the log of the origin is here, if something after it is missing.
    fn hold_point(&self) -> Option<LogId> {
        self.held.values().next().map(|append| append.prev)
    }
}

impl Replica {
    /// Takes a message of a peer.
    pub(super) fn peer_message(&mut self, now: u64, origin: Origin, incoming: Incoming) {
        match incoming {
            Incoming::InParts(append) => self.append_in_parts(now, origin, append),
            Incoming::Whole(Message::Append { prev, commit_index, round, entries })
                if self.must_wait(origin, prev) =>
            {
                let entries = entries.into_iter().map(|entry| (entry.id, Part::Here(entry.payload)));
                let entries = entries.collect();
                self.append_in_parts(now, origin, AppendInParts { prev, commit_index, round, entries });
            }
            Incoming::Whole(message) => self.step_message(now, origin, message),
        }
    }

    /// Whether an append only fits behind others of its leader that wait.
    fn must_wait(&self, origin: Origin, prev: LogId) -> bool {
        self.entry_pulls.origin == Some(origin)
            && self.entry_pulls.hold_point().is_some_and(|point| prev.index > point.index)
            && !self.raft.log().contains(prev)
    }

    fn append_in_parts(&mut self, now: u64, origin: Origin, append: AppendInParts) {
        if self.entry_pulls.origin != Some(origin) && origin.term >= self.raft.term() {
            self.entry_pulls.held.clear();
            self.entry_pulls.origin = Some(origin);
        }
        let rest = if self.must_wait(origin, append.prev) {
            // Neither accepted nor rejected: a rejection would make the leader send all of it again, now.
            if let Some(prev) = self.entry_pulls.hold_point() {
                let AppendInParts { commit_index, round, .. } = append;
                let message = Message::Append { prev, commit_index, round, entries: Vec::new() };
                self.step_message(now, origin, message);
            }
            Some(append)
        } else {
            self.take_what_is_here(now, origin, append)
        };
        if let Some(rest) = rest
            && self.follows(origin)
        {
            let held = &mut self.entry_pulls.held;
            let known = held.get(&rest.prev.index).map_or(0, |append| append.entries.len());
            if !rest.entries.is_empty() && rest.entries.len() >= known {
                held.insert(rest.prev.index, rest);
            }
            while held.len() > self.config.held_appends_max {
                held.pop_last(); // the leader sends it again when its turn comes
            }
        }
        self.start_entry_pulls(now);
    }

    /// Steps with the entries before the first one that is missing. Returns the rest, if there is one and it may wait.
    fn take_what_is_here(
        &mut self,
        now: u64,
        origin: Origin,
        append: AppendInParts,
    ) -> Option<AppendInParts> {
        let AppendInParts { prev, commit_index, round, entries } = append;
        let mut here = Vec::new();
        let mut entries = entries.into_iter().peekable();
        while let Some((id, part)) = entries.peek() {
            let Some(payload) = self.payload_of(*id, part) else { break };
            here.push(Entry { id: *id, payload });
            entries.next();
        }
        let last = here.last().map_or(prev, |entry| entry.id);
        self.step_message(now, origin, Message::Append { prev, commit_index, round, entries: here });
        let entries: Vec<_> = entries.collect();
        let waits = !entries.is_empty() && self.raft.log().contains(last);
        waits.then_some(AppendInParts { prev: last, commit_index, round, entries })
    }

    fn payload_of(&self, id: LogId, part: &Part) -> Option<Payload> {
        match part {
            Part::Here(payload) => Some(payload.clone()),
            Part::Elsewhere { kind, content } => {
                // Entries of one index and term are the same entry, so what the log has need not be fetched.
                if self.raft.log().contains(id)
                    && let Some(entry) = self.raft.log().entry(id.index)
                {
                    return Some(entry.payload.clone());
                }
                match self.entry_pulls.pulls.get(&id) {
                    Some(EntryPull { state: State::Here(payload), kind: k, content: c, .. })
                        if k == kind && c == content =>
                    {
                        Some(payload.clone())
                    }
                    _ => None,
                }
            }
        }
    }

    fn step_message(&mut self, now: u64, origin: Origin, mut message: Message) {
        if let Message::Append { entries, .. } = &mut message
            && !entries.is_empty()
            && (self.out_of_space || self.unsynced_bytes > self.config.unsynced_bytes_max)
        {
            // The leader is heard all the same: a slow disk is no reason for an election.
            entries.clear();
            self.drop_datagram(DropReason::DiskBacklog);
        }
        let Origin { from, term, process } = origin;
        let envelope = Envelope { from, to: self.config.raft.id, term, message };
        self.step(now, Input::Message(envelope, process));
    }

    /// Whether this node follows that leader, in that term.
    fn follows(&self, origin: Origin) -> bool {
        self.raft.term() == origin.term && self.raft.leader() == Some(origin.from)
    }

    /// Begins to fetch what the held appends miss, the lowest index first, within the bound. One entry is always fetched.
    fn start_entry_pulls(&mut self, now: u64) {
        let Some(origin) = self.entry_pulls.origin else { return };
        let log = self.raft.log();
        let parts = self.entry_pulls.held.values().flat_map(|append| &append.entries);
        let elsewhere = parts.filter_map(|(id, part)| match part {
            Part::Elsewhere { kind, content } if !log.contains(*id) => Some((*id, (*kind, *content))),
            _ => None,
        });
        let missing: BTreeMap<LogId, (u8, Content)> = elsewhere.collect();
        let pulls = &mut self.entry_pulls.pulls;
        // Another entry under the same name would come from a leader that broke its promise.
        pulls.retain(|id, pull| missing.get(id).is_none_or(|wanted| *wanted == (pull.kind, pull.content)));
        for (id, (kind, content)) in &missing {
            if let Some(pull) = self.entry_pulls.pulls.get_mut(id) {
                pull.used_at = now;
                if pull.source != origin.from {
                    pull.source = origin.from;
                    if let State::Coming(assembly) = &mut pull.state {
                        assembly.resume(now);
                    }
                }
                continue;
            }
            let room = |pulls: &EntryPulls| {
                let bytes = pulls.bytes() + content.size as usize;
                bytes <= self.config.entry_pull_bytes_max || pulls.pulls.is_empty()
            };
            if !room(&self.entry_pulls) {
                self.entry_pulls.pulls.retain(|id, _| missing.contains_key(id));
            }
            if !room(&self.entry_pulls) {
                break;
            }
            let assembly = Box::new(Assembly::new(ObjectId::Entry(*id), *content, now));
            let (kind, content, source) = (*kind, *content, origin.from);
            let state = State::Coming(assembly);
            self.entry_pulls.pulls.insert(*id, EntryPull { kind, content, source, used_at: now, state });
        }
    }

    /// Takes a part of a payload, from whoever had it: the hash says whether it is the right one.
    pub(super) fn entry_chunk(&mut self, now: u64, id: LogId, chunk: &Chunk<'_>) {
        let Some(pull) = self.entry_pulls.pulls.get_mut(&id) else { return };
        let State::Coming(assembly) = &mut pull.state else { return };
        let bytes = assembly.chunk(now, chunk);
        pull.used_at = assembly.heard_at().max(pull.used_at);
        let Some(bytes) = bytes else { return };
        match message_codec::payload(pull.kind, &bytes) {
            Ok(payload) => pull.state = State::Here(payload),
            Err(_) => {
                self.entry_pulls.pulls.remove(&id);
                return self.drop_datagram(DropReason::Malformed);
            }
        }
        self.release_held(now);
    }

    /// Gives Raft the held appends that are complete by now.
    fn release_held(&mut self, now: u64) {
        let Some(origin) = self.entry_pulls.origin else { return };
        while let Some((_, append)) = self.entry_pulls.held.first_key_value() {
            let (prev, first_here) = (append.prev, append.entries.first());
            let comes_on = first_here.is_some_and(|(id, part)| self.payload_of(*id, part).is_some());
            if self.raft.log().contains(prev) && !comes_on {
                break;
            }
            let Some((_, append)) = self.entry_pulls.held.pop_first() else { break };
            if !self.follows(origin) {
                continue;
            }
            // One that does not fit is rejected, and then the leader knows where to go on.
            if let Some(rest) = self.take_what_is_here(now, origin, append) {
                self.entry_pulls.held.insert(rest.prev.index, rest);
                break;
            }
        }
        self.start_entry_pulls(now);
    }

    /// Forgets what nobody waits for any more, and asks for what is missing.
    pub(super) fn pull_entries(&mut self, now: u64) {
        if self.entry_pulls.pulls.is_empty() && self.entry_pulls.held.is_empty() {
            return;
        }
        if self.entry_pulls.origin.is_none_or(|origin| !self.follows(origin)) {
            self.entry_pulls.held.clear();
            self.entry_pulls.origin = None;
        }
        let (log, patience) = (self.raft.log(), self.config.transfer_idle);
        let wanted =
            |id: &LogId, pull: &EntryPull| !log.contains(*id) && now.saturating_sub(pull.used_at) < patience;
        self.entry_pulls.pulls.retain(|id, pull| wanted(id, pull));
        let mut window = Window::new(self.config.pull_window);
        let mut requests = Vec::new();
        for pull in self.entry_pulls.pulls.values_mut() {
            if let State::Coming(assembly) = &mut pull.state {
                requests.extend(window.requests(now, assembly).into_iter().map(|ask| (pull.source, ask)));
            }
        }
        for (source, request) in requests {
            let term = self.raft.term();
            self.send_frame(Kind::Pull, Destination::Node(source), term, &request.encode());
        }
    }

    /// When [`Replica::pull_entries`] has something to do.
    pub(super) fn entry_pulls_deadline(&self) -> u64 {
        let mut window = Window::new(self.config.pull_window);
        let mut deadline = u64::MAX;
        for pull in self.entry_pulls.pulls.values() {
            deadline = deadline.min(pull.used_at + self.config.transfer_idle);
            if let State::Coming(assembly) = &pull.state {
                deadline = deadline.min(window.next_deadline(assembly));
            }
        }
        deadline
    }
}
