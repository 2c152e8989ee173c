//! Snapshots inside a replica: when the state is written to one, how others fetch it, and how one is fetched from the leader.
//! What a snapshot means for the log is Raft's; its bytes and files are the storage's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::{Destination, Replica};
use crate::kv::Store;
use crate::raft::event::{Event, Level};
use crate::raft::message::SnapshotOffer;
use crate::raft::types::{Entry, LogId, Lsn, NodeId, SnapshotMark};
use crate::raft::{Input, Role};
use crate::storage::snapshot_file::{self, Encoder, SnapshotMeta};
use crate::storage::snapshot_job::{SnapshotJob, SnapshotOutcome};
use crate::transport::frame::{DropReason, Kind};
use crate::transport::object::{CHUNK_BYTES, Chunk, ObjectId, PullRequest};
use crate::transport::pull::Pull;

/// Bytes of state that are encoded in one turn: little enough that no message waits for it.
const PIECE_BYTES: usize = 64 << 10;
/// Bytes of an image that may wait to be written.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;
/// Parts of snapshots that are being read for others at once; a request beyond is lost like any datagram.
const READS_MAX: usize = 32;
/// Chunks that are fetched at once.
const WINDOW: usize = 64;
/// Largest image that is fetched: it has to be held in memory until it is whole.
const IMAGE_BYTES_MAX: u64 = 8 << 30;
/// How long a fetch may stand still before another snapshot is fetched instead, ns.
const FETCH_PATIENCE: u64 = 2_000_000_000;
/// Bytes that an entry counts for beside its payload: its record's header.
const ENTRY_BYTES: u64 = 48;

/// An image of the own state that is being written.
#[derive(Debug)]
struct Writing {
    last: LogId,
    /// `None` once everything was encoded.
    encoder: Option<Encoder>,
    unwritten: usize,
}

/// An image of the leader's that is being fetched.
#[derive(Debug)]
struct Fetching {
    offer: SnapshotOffer,
    source: NodeId,
    pull: Pull,
    image: Vec<u8>,
}

/// A fetched image that is whole, and waits to be durable.
#[derive(Debug)]
struct Saving {
    offer: SnapshotOffer,
    mark: SnapshotMark,
    store: Box<Store>,
}

/// What a replica does with snapshots.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// Entries, and bytes of them, applied since the last multiple at which one was due.
    entries: u64,
    bytes: u64,
    writing: Option<Writing>,
    fetching: Option<Fetching>,
    saving: Option<Saving>,
    jobs: Vec<SnapshotJob>,
    reads: BTreeMap<u64, (NodeId, ObjectId, u64)>,
    next_read: u64,
    /// The newest durable ones, oldest first: two, so that one may turn out to be damaged.
    kept: VecDeque<LogId>,
    /// The mark that makes older ones unnecessary.
    prune_after: Option<Lsn>,
}

impl Snapshots {
    pub(super) fn recovered(snapshot: Option<SnapshotOffer>) -> Snapshots {
        Snapshots { kept: snapshot.map(|offer| offer.last).into_iter().collect(), ..Snapshots::default() }
    }

    /// When something is to be done without any input; 0 if now.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let encoding = self.writing.as_ref().is_some_and(Writing::may_encode);
        let fetching = self.fetching.as_ref().and_then(|fetching| fetching.pull.next_deadline());
        if encoding { Some(0) } else { fetching }
    }

    pub(super) fn take_jobs(&mut self) -> Vec<SnapshotJob> {
        std::mem::take(&mut self.jobs)
    }
}

impl Writing {
    fn may_encode(&self) -> bool {
        self.encoder.is_some() && self.unwritten < UNWRITTEN_BYTES_MAX
    }
}

impl Replica {
    /// Called for each entry right after it was applied. The rule looks at nothing but the log, so that all nodes take
    /// their snapshots at the same entries, and a transfer that one leader began another can finish.
    pub(super) fn count_for_snapshot(&mut self, entry: &Entry) {
        let snapshots = &mut self.snapshots;
        snapshots.entries += 1;
        snapshots.bytes += ENTRY_BYTES + entry.payload.bytes().len() as u64;
        if snapshots.entries < self.config.snapshot_entries && snapshots.bytes < self.config.snapshot_bytes {
            return;
        }
        (snapshots.entries, snapshots.bytes) = (0, 0);
        if snapshots.writing.is_some() || snapshots.saving.is_some() {
            return; // the disk is slower than the log grows: the next multiple will do
        }
        let last = entry.id;
        let membership = Arc::from(self.raft.membership_at(last.index).agreed().encode());
        let mut image = Vec::new();
        let encoder = Encoder::new(self.config.cluster_id, last, self.applied_chain, membership, &mut image);
        self.store.freeze();
        // An attempt of before may have failed at the same entry.
        snapshots.jobs.push(SnapshotJob::Abort);
        snapshots.writing = Some(Writing { last, encoder: Some(encoder), unwritten: 0 });
        self.write_image(image);
    }

    fn write_image(&mut self, bytes: Vec<u8>) {
        if let Some(writing) = &mut self.snapshots.writing
            && !bytes.is_empty()
        {
            writing.unwritten += bytes.len();
            self.snapshots.jobs.push(SnapshotJob::Write { last: writing.last, bytes });
        }
    }

    /// Encodes the next piece of a snapshot that is being written, and asks for what is missing of one that is fetched.
    pub(super) fn continue_snapshots(&mut self, now: u64) {
        if let Some((from, offer)) = self.effects.fetch.take() {
            self.fetch(now, from, offer);
        }
        if let Some(writing) = &mut self.snapshots.writing
            && writing.may_encode()
            && let Some(mut encoder) = writing.encoder.take()
        {
            let mut image = Vec::new();
            match self.store.thaw(PIECE_BYTES) {
                Some(state) => {
                    encoder.push(&state, &mut image);
                    writing.encoder = Some(encoder);
                    self.write_image(image);
                }
                None => {
                    let meta = encoder.finish(&mut image);
                    self.write_image(image);
                    self.snapshots.jobs.push(SnapshotJob::Finish { meta });
                }
            }
        }
        let requests = self.snapshots.fetching.as_mut().map(|fetching| {
            let SnapshotOffer { last, root, .. } = fetching.offer;
            let ranges = fetching.pull.requests(now, WINDOW);
            (fetching.source, PullRequest::all(ObjectId::Snapshot { last, root }, now, &ranges))
        });
        for (source, requests) in requests.into_iter() {
            for request in requests {
                self.send_frame(Kind::Pull, Destination::Node(source), self.raft.term(), &request.encode());
            }
        }
    }

    fn fetch(&mut self, now: u64, from: NodeId, offer: SnapshotOffer) {
        if self.snapshots.saving.is_some() || offer.size > IMAGE_BYTES_MAX {
            return;
        }
        match &mut self.snapshots.fetching {
            Some(fetching) if fetching.offer == offer => {
                if fetching.source != from {
                    fetching.source = from;
                    fetching.pull.resume(now);
                }
            }
            // One that still comes is finished first: leaders may take new ones faster than a slow link carries them.
            Some(fetching) if now.saturating_sub(fetching.pull.heard_at()) < FETCH_PATIENCE => {}
            fetching => {
                let pull = Pull::new(offer.size, CHUNK_BYTES);
                *fetching = Some(Fetching { offer, source: from, pull, image: Vec::new() });
            }
        }
    }

    /// Another node asks for parts of a snapshot.
    pub(super) fn serve_snapshot(&mut self, from: NodeId, request: &PullRequest) -> Result<(), DropReason> {
        let ObjectId::Snapshot { last, .. } = request.object else { return Err(DropReason::Kind) };
        for range in &request.ranges {
            if self.snapshots.reads.len() >= READS_MAX || !self.snapshots.kept.contains(&last) {
                return Ok(());
            }
            let token = self.snapshots.next_read;
            self.snapshots.next_read += 1;
            self.snapshots.reads.insert(token, (from, request.object, request.asked_at));
            let len = usize::try_from(range.bytes).unwrap_or(usize::MAX);
            self.snapshots.jobs.push(SnapshotJob::Read { token, last, offset: range.offset, len });
        }
        Ok(())
    }

    /// A part of the snapshot that is being fetched, or of another one.
    pub(super) fn snapshot_chunk(&mut self, now: u64, chunk: &Chunk<'_>) {
        let Some(fetching) = &mut self.snapshots.fetching else { return };
        let SnapshotOffer { last, root, size } = fetching.offer;
        if chunk.object != (ObjectId::Snapshot { last, root })
            || !fetching.pull.chunk(now, chunk.asked_at, chunk.offset, chunk.bytes)
        {
            return;
        }
        // Memory as chunks come, not as the offer claims.
        let (start, end) = (chunk.offset as usize, chunk.offset as usize + chunk.bytes.len());
        if fetching.image.len() < end {
            fetching.image.resize(end, 0);
        }
        fetching.image[start..end].copy_from_slice(chunk.bytes);
        if fetching.pull.is_complete() && fetching.image.len() as u64 == size {
            self.snapshot_whole();
        }
    }

    fn snapshot_whole(&mut self) {
        let Some(Fetching { offer, image, .. }) = self.snapshots.fetching.take() else { return };
        let verified = snapshot_file::verify(&image, Some(self.config.cluster_id));
        let whole =
            verified.ok().filter(|image| (image.meta.last, image.meta.root) == (offer.last, offer.root));
        let store = whole.as_ref().and_then(|image| Store::decode(&image.state()).ok());
        let (Some(whole), Some(store)) =
            (whole, store.filter(|store| store.last_applied() == offer.last.index))
        else {
            // The leader offers it again. Nothing of these bytes was believed.
            self.effects.event(Level::Warn, || Event::SnapshotRefused { last: offer.last });
            return;
        };
        let SnapshotMeta { last, chain, membership, .. } = whole.meta.clone();
        let mark = SnapshotMark { last, chain, base: last, base_chain: chain, membership };
        let meta = whole.meta;
        self.snapshots.saving = Some(Saving { offer, mark, store: Box::new(store) });
        self.snapshots.jobs.push(SnapshotJob::Save { meta, image: image.into() });
    }

    /// What became of a job. Takes effect with the next flush.
    pub fn snapshot_outcome(&mut self, now: u64, outcome: SnapshotOutcome) {
        match outcome {
            SnapshotOutcome::Written { last, bytes } => {
                if let Some(writing) = self.snapshots.writing.as_mut().filter(|writing| writing.last == last)
                {
                    writing.unwritten = writing.unwritten.saturating_sub(bytes);
                }
            }
            SnapshotOutcome::Durable(meta) => self.snapshot_durable(now, &meta),
            SnapshotOutcome::Failed { last, reason } => {
                if self.snapshots.writing.take_if(|writing| writing.last == last).is_some() {
                    self.store.forget_freeze();
                }
                self.snapshots.saving.take_if(|saving| saving.offer.last == last);
                self.effects.event(Level::Error, || Event::SnapshotFailed { last, reason });
            }
            SnapshotOutcome::Read { token, last, offset, bytes } => {
                let Some((to, object, asked_at)) = self.snapshots.reads.remove(&token) else { return };
                match bytes {
                    Ok(bytes) => {
                        for (chunk, offset) in bytes.chunks(CHUNK_BYTES).zip((offset..).step_by(CHUNK_BYTES))
                        {
                            let chunk = Chunk { object, asked_at, offset, bytes: chunk }.encode();
                            self.send_frame(Kind::Chunk, Destination::Node(to), self.raft.term(), &chunk);
                        }
                    }
                    Err(reason) => {
                        self.effects.event(Level::Error, || Event::SnapshotFailed { last, reason });
                    }
                }
            }
            SnapshotOutcome::Kept(Ok(())) => {}
            SnapshotOutcome::Kept(Err(reason)) => {
                let last = self.snapshots.kept.back().copied().unwrap_or_default();
                self.effects.event(Level::Error, || Event::SnapshotFailed { last, reason });
            }
        }
    }

    fn snapshot_durable(&mut self, now: u64, meta: &SnapshotMeta) {
        let SnapshotMeta { last, size, root, .. } = *meta;
        let offer = SnapshotOffer { last, size, root };
        let before = self.raft.last_lsn();
        if self.snapshots.writing.take_if(|writing| writing.last == last).is_some() {
            self.step(now, Input::SnapshotSaved(offer));
        } else if let Some(saving) = self.snapshots.saving.take_if(|saving| saving.offer == offer) {
            // A leader has everything already, and so has a node that the log has overtaken.
            if self.raft.role() != Role::Leader {
                self.step(now, Input::SnapshotFetched(offer, saving.mark));
            }
            if self.effects.restore.take() == Some(last) {
                self.restore(*saving.store);
            }
        }
        self.snapshots.kept.push_back(last);
        if self.raft.last_lsn() > before {
            self.snapshots.prune_after = Some(self.raft.last_lsn());
        }
    }

    /// Goes on from another state. Nobody who waits here can be answered from it: whether a write took effect is in the
    /// sessions, for whoever asks again.
    fn restore(&mut self, store: Store) {
        self.store = store;
        self.applied_chain = self.raft.log().chain_at(self.store.last_applied());
        (self.snapshots.entries, self.snapshots.bytes) = (0, 0);
        if self.snapshots.writing.take().is_some() {
            self.snapshots.jobs.push(SnapshotJob::Abort);
        }
    }

    /// Old snapshots go once a mark that does without them is durable.
    pub(super) fn prune_snapshots(&mut self) {
        if self.snapshots.prune_after.is_some_and(|lsn| lsn <= self.raft.durable_lsn()) {
            self.snapshots.prune_after = None;
            while self.snapshots.kept.len() > 2 {
                self.snapshots.kept.pop_front();
            }
            // One that is fetched may have its file already, though nobody has said so here yet.
            let writing = self.snapshots.writing.as_ref().map(|writing| writing.last);
            let saving = self.snapshots.saving.as_ref().map(|saving| saving.offer.last);
            let keep = self.snapshots.kept.iter().copied().chain(writing).chain(saving).collect();
            self.snapshots.jobs.push(SnapshotJob::Keep(keep));
        }
    }
}
