//! Leadership transfer (thesis §3.10): the leader stops taking commands, brings one follower up to its own last entry, and
//! tells it to stand for election at once. What the follower does then is in `election`.

use super::event::{Event, Level};
use super::fingerprint::Names;
use super::message::Message;
use super::types::NodeId;
use super::{Effects, Raft, Role};

/// A transfer under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transfer {
    to: NodeId,
    /// A leader that could not hand over by then serves on: a cluster without commands is worse than the old leader.
    deadline: u64,
}

impl Transfer {
    /// To whom under other names, and how long it still tries.
    pub(super) fn aged(self, now: u64, names: Names<'_>) -> (NodeId, u64) {
        (names.of(self.to), self.deadline.saturating_sub(now))
    }
}

impl Raft {
    /// To whom this leader is handing over. Until that is done or given up it should be given no commands.
    pub fn transferring_to(&self) -> Option<NodeId> {
        self.transfer.map(|transfer| transfer.to)
    }

    /// Who would lead after a transfer to `to`, or to the follower that is furthest among those that were heard lately;
    /// `None` if there is nobody.
    pub fn transfer_target(&self, now: u64, to: Option<NodeId>) -> Option<NodeId> {
        let patience = self.config.election_timeout_min;
        let voters = self.membership().voters.iter().copied().filter(|id| *id != self.config.id);
        let mut counted = voters.filter_map(|id| Some((id, self.counted(id)?)));
        match to {
            Some(to) => counted.any(|(id, _)| id == to).then_some(to),
            None => {
                let heard = counted.filter(|(_, p)| now.saturating_sub(p.heard_at) < patience);
                heard.max_by_key(|(_, progress)| progress.match_index).map(|(id, _)| id)
            }
        }
    }

    pub(super) fn transfer_leader(&mut self, now: u64, to: Option<NodeId>, effects: &mut Effects) {
        assert!(self.role == Role::Leader, "only a leader hands over; this node is {}", self.role.name());
        let Some(to) = self.transfer_target(now, to) else { return };
        let term = self.term();
        effects.event(Level::Info, || Event::TransferStarted { to, term });
        self.transfer = Some(Transfer { to, deadline: now + self.config.election_timeout_max });
        self.continue_transfer(now, effects);
    }

    /// Sends the order to stand as soon as the follower has everything, and again at every occasion: datagrams get lost,
    /// and a second one finds a candidate of a later term, which ignores it.
    pub(super) fn continue_transfer(&mut self, now: u64, effects: &mut Effects) {
        let Some(Transfer { to, deadline }) = self.transfer else { return };
        if now >= deadline {
            self.transfer = None;
            effects.event(Level::Warn, || Event::TransferAborted { to, term: self.hard_state.term });
        } else if self.progress.get(&to).is_some_and(|p| p.match_index == self.log.last().index) {
            self.give_up_lease();
            self.send(to, Message::TimeoutNow, 0, effects);
        }
    }
}
