//! Snapshots as a search has them: when one may be made, what is in it, and what a disk makes of its mark.
//! Which file a mark means needs no model: what is in a snapshot follows from its last entry, because that is committed.

use node::raft::Recovered;
use node::raft::message::SnapshotOffer;
use node::raft::types::{Index, LogId, Record, SnapshotMark, Term};

use crate::world::{Node, Violation};

/// The snapshots that `node` may come to have: of any entry that it has applied and not forgotten, because one takes its time.
pub(crate) fn of(node: &Node) -> impl Iterator<Item = LogId> {
    let log = node.raft.log();
    let applied = log.first_index()..=node.commit_index;
    applied.filter_map(|index| log.term_at(index).map(|term| LogId { index, term }))
}

/// What others are told of a snapshot. Its root stands for the state in it.
pub(crate) fn offer(last: LogId, chain: u64) -> SnapshotOffer {
    let mut root = [0; 32];
    root[..8].copy_from_slice(&chain.to_le_bytes());
    SnapshotOffer { last, size: 1, root }
}

/// The mark that `node` is about to write of its snapshot at `last`, if the core took that.
pub(crate) fn made(node: &Node, last: LogId) -> Option<SnapshotMark> {
    let marks = node.pending.iter().rev().filter_map(|(_, record)| match record {
        Record::Snapshot(mark) => Some(mark),
        _ => None,
    });
    marks.chain([&node.disk.mark]).find(|mark| mark.last == last).cloned()
}

/// What the replica gives the core once it has fetched a snapshot.
pub(crate) fn fetched(
    wish: Option<SnapshotOffer>,
    files: &[SnapshotMark],
) -> Result<(SnapshotOffer, SnapshotMark), Violation> {
    let found = wish.and_then(|wish| {
        let made = files.iter().find(|mark| offer(mark.last, mark.chain) == wish)?;
        Some((wish, SnapshotMark { base: made.last, base_chain: made.chain, ..made.clone() }))
    });
    found.ok_or_else(|| Violation(format!("a snapshot that nobody made is fetched: {wish:?}")))
}

/// The mark is durable: the rule of [`SnapshotMark`].
pub(crate) fn replay(disk: &mut Recovered, mark: SnapshotMark) {
    let kept = term_on(disk, mark.base.index) == Some(mark.base.term);
    let gone = if kept { (mark.base.index - disk.mark.base.index) as usize } else { disk.entries.len() };
    disk.entries.drain(..gone);
    disk.snapshot = Some(offer(mark.last, mark.chain));
    disk.mark = mark;
}

/// The term of the entry at `index` on a disk, from the base of its log on.
pub(crate) fn term_on(disk: &Recovered, index: Index) -> Option<Term> {
    let base = disk.mark.base;
    let after = index.checked_sub(base.index)?;
    if after == 0 { Some(base.term) } else { disk.entries.get(after as usize - 1).map(|entry| entry.id.term) }
}

/// Whether a disk has the entry at `index` of this term, or a snapshot that stands for it.
pub(crate) fn keeps(disk: &Recovered, index: Index, term: Term) -> bool {
    index < disk.mark.base.index || term_on(disk, index) == Some(term)
}
