//! What a node may promise whose disk lost something that was durable ([`Recovering`]), and how it gets over it: a leader's log
//! replaces what is lost, and until then its vote is worth what is known of its past.
//!
//! It is over when the log is on disk up to the last entry that a leader had when it *knew of this process*: a leader that
//! hears a new process forgets all that the one before acknowledged, so nothing that this node acknowledged and that can
//! still be committed by its word is missing then. If the vote is lost too, every other voter must have told its term
//! since: whoever got the lost vote is among them, in that term or a later one.

use std::collections::BTreeMap;

use super::event::{Event, Level};
use super::message::Message;
use super::types::{HardState, Index, LogId, NodeId, Record, Recovering, Term};
use super::{Effects, Raft};

/// The restriction, and what was learnt since the start.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Restriction {
    what: Recovering,
    /// The terms that others told.
    terms: BTreeMap<NodeId, Term>,
    /// What the leader of a term had.
    target: Option<(Term, Index)>,
    /// When the others were asked last.
    asked_at: Option<u64>,
}

impl Restriction {
    pub(super) fn new(what: Recovering) -> Restriction {
        Restriction { what, terms: BTreeMap::new(), target: None, asked_at: None }
    }
}

impl Raft {
    /// Whether something that was durable is not in the log yet.
    pub fn is_recovering(&self) -> bool {
        self.restriction.is_some()
    }

    /// Whether a vote of this node is worth something.
    pub(super) fn vote_is_known(&self) -> bool {
        self.restriction.as_ref().is_none_or(|r| r.what.last_known && r.what.vote_known)
    }

    /// The last entry that a candidate has to have: also what this node had and lost, for it may have been committed by its
    /// word (§5.4.1).
    pub(super) fn last_promised(&self) -> LogId {
        let lost = self.restriction.as_ref().map_or(LogId::default(), |restriction| restriction.what.last);
        lost.max(self.log.last())
    }

    /// Asks everybody, at the pace of heartbeats: when a leader is heard, and when none is.
    pub(super) fn ask_for_recovery(&mut self, now: u64, effects: &mut Effects) {
        let interval = self.config.heartbeat_interval;
        let Some(restriction) = &mut self.restriction else { return };
        if restriction.asked_at.is_none_or(|asked_at| now.saturating_sub(asked_at) >= interval) {
            restriction.asked_at = Some(now);
            for peer in self.other_voters() {
                self.send(peer, Message::Hello, 0, effects);
            }
        }
    }

    /// Another voter told its term and, if it leads, how far its log goes.
    pub(super) fn learn_for_recovery(
        &mut self,
        from: NodeId,
        term: Term,
        leads: Option<Index>,
        effects: &mut Effects,
    ) {
        let current = term == self.term();
        let Some(restriction) = &mut self.restriction else { return };
        let known = restriction.terms.entry(from).or_default();
        *known = term.max(*known);
        if let Some(last_index) = leads
            && current
            && restriction.target.is_none_or(|(of, _)| of != term)
        {
            restriction.target = Some((term, last_index));
        }
        self.end_recovery(effects);
    }

    /// Ends the restriction if everything is there.
    pub(super) fn end_recovery(&mut self, effects: &mut Effects) {
        let Some(Restriction { what, terms, target, .. }) = &self.restriction else { return };
        let (durable, term) = (self.log.durable_index(), self.term());
        let caught_up = target.is_some_and(|(of, index)| of == term && durable >= index.max(what.last.index));
        let asked = self.other_voters().iter().all(|id| terms.contains_key(id));
        if !caught_up || (!what.vote_known && !asked) {
            return;
        }
        let spent = terms.values().copied().max().unwrap_or_default().max(term);
        let vote_known = what.vote_known;
        self.restriction = None;
        self.record(Record::Recovering(None), effects);
        if !vote_known && (spent > term || self.hard_state.voted_for.is_none()) {
            // Whatever it voted for was in a term that somebody was in: in none of those does it vote again.
            self.set_hard_state(HardState { term: spent, voted_for: Some(self.config.id) }, effects);
        }
        effects.event(Level::Warn, || Event::Recovered { last: self.log.last() });
    }
}
