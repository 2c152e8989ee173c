//! Who belongs to the cluster (§6, thesis §4): voters, learners, and the two majorities of a joint configuration.
//! When a configuration changes, and who may ask for it, is in `reconfigure`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::quorum;
use super::types::{DirectoryId, Index, NodeId};
use crate::protocol::wire::{Malformed, Reader, Writer};

/// Nodes that a membership may name. Far above what a majority protocol is good for; it bounds what a datagram may claim.
pub const MEMBERS_MAX: usize = 64;
/// Length of an address in bytes: a name of the DNS and a port.
pub const ADDRESS_BYTES_MAX: usize = 261;

/// What the cluster knows of one of its nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Member {
    /// Where the others find it, unless they were told otherwise locally. Text, because the log outlives a resolver's answer.
    pub address: String,
    /// Its data directory; 0 until a leader has heard from it. What another directory promises under the same id counts for
    /// nothing: it may have forgotten what the first one promised.
    pub directory: DirectoryId,
    /// No entry says that directory yet: the node itself does that holds this, and the next leader that does writes an entry.
    pub provisional: bool,
}

/// One configuration. Joint while `outgoing` is not empty: then it takes a majority of `voters` *and* one of `outgoing` to
/// elect or to commit (§6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    /// Every node that belongs to it in any way.
    pub members: BTreeMap<NodeId, Member>,
    /// Those whose majority decides.
    pub voters: BTreeSet<NodeId>,
    /// During a change: the voters of before.
    pub outgoing: BTreeSet<NodeId>,
    /// Those who had a vote and lost their directory: learners, or about to be, that get it back once they have caught up.
    pub returning: BTreeSet<NodeId>,
}

impl Membership {
    /// `voters`, of whom only the addresses are known.
    pub fn of_voters(voters: impl IntoIterator<Item = (NodeId, String)>) -> Membership {
        let members = voters.into_iter().map(|(id, address)| (id, Member { address, ..Member::default() }));
        let members: BTreeMap<_, _> = members.collect();
        Membership { voters: members.keys().copied().collect(), members, ..Membership::default() }
    }

    /// Whether a change is half done.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `id` has a vote, in either half.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether `id` gets the log and has no vote.
    pub fn is_learner(&self, id: NodeId) -> bool {
        self.members.contains_key(&id) && !self.is_voter(id)
    }

    /// Whether those for whom `agrees` holds decide: a majority of each half.
    pub fn decides(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        let majority = |half: &BTreeSet<NodeId>| {
            half.iter().filter(|id| agrees(**id)).count() >= quorum::majority(half.len())
        };
        // Nobody decides in the name of no voters: a node that knows of none waits to be told.
        !self.voters.is_empty()
            && majority(&self.voters)
            && (self.outgoing.is_empty() || majority(&self.outgoing))
    }

    /// The highest index that a majority of each half has reached.
    pub fn committed(&self, matched: impl Fn(NodeId) -> Index) -> Index {
        let half = |half: &BTreeSet<NodeId>| quorum::committed(half.iter().map(|id| matched(*id)).collect());
        let index = half(&self.voters);
        if self.outgoing.is_empty() { index } else { index.min(half(&self.outgoing)) }
    }

    /// The second half of a joint change: the new voters alone. Those who only had a vote before are gone, unless they are to
    /// get it back.
    pub fn settled(&self) -> Membership {
        let mut settled = self.clone();
        let left: BTreeSet<NodeId> = settled.outgoing.difference(&settled.voters).copied().collect();
        settled.outgoing.clear();
        settled.members.retain(|id, _| !left.contains(id) || self.returning.contains(id));
        settled
    }

    /// What all nodes know of it: without the directories that no entry says. Snapshots hold this, and so are the same bytes
    /// everywhere.
    pub fn agreed(&self) -> Membership {
        let mut agreed = self.clone();
        for member in agreed.members.values_mut().filter(|member| member.provisional) {
            (member.directory, member.provisional) = (0, false);
        }
        agreed
    }

    /// Names the directories that it does not and that are known otherwise.
    #[must_use]
    pub fn bound_by(mut self, known: impl Fn(NodeId) -> DirectoryId) -> Membership {
        for (id, member) in self.members.iter_mut().filter(|(_, member)| member.directory == 0) {
            member.directory = known(*id);
            member.provisional = member.directory != 0;
        }
        self
    }

    /// Whether two encoded memberships are one, but for the directories that no entry says.
    pub fn agree(one: &[u8], other: &[u8]) -> bool {
        let agreed = |bytes| Membership::decode(bytes).map(|membership| membership.agreed());
        one == other || agreed(one).is_ok_and(|one| agreed(other) == Ok(one))
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u8(self.members.len() as u8);
        for (id, member) in &self.members {
            writer.u32(*id);
            let roles = [
                u8::from(self.voters.contains(id)),
                u8::from(self.outgoing.contains(id)) << 1,
                u8::from(self.returning.contains(id)) << 2,
                u8::from(member.provisional) << 3,
            ];
            writer.u8(roles.into_iter().sum());
            writer.u64(member.directory);
            writer.bytes(member.address.as_bytes());
        }
        writer.into_bytes()
    }

    /// The membership in `bytes`.
    ///
    /// # Errors
    /// When they are not one that [`Membership::encode`] makes.
    pub fn decode(bytes: &[u8]) -> Result<Membership, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut membership = Membership::default();
        let mut last = 0;
        for _ in 0..reader.u8()? {
            let id = reader.u32()?;
            let roles = reader.u8()?;
            let directory = reader.u64()?;
            let address = std::str::from_utf8(reader.slice()?).map_err(|_| Malformed)?;
            if id <= last || roles > 15 || address.len() > ADDRESS_BYTES_MAX {
                return Err(Malformed);
            }
            last = id;
            if roles & 1 != 0 {
                membership.voters.insert(id);
            }
            if roles & 2 != 0 {
                membership.outgoing.insert(id);
            }
            if roles & 4 != 0 {
                membership.returning.insert(id);
            }
            membership
                .members
                .insert(id, Member { address: address.to_owned(), directory, provisional: roles & 8 != 0 });
        }
        reader.finish()?;
        // A majority of nobody would be no majority at all: such a configuration could never be left.
        let stuck = membership.voters.is_empty() && !membership.members.is_empty();
        if membership.members.len() > MEMBERS_MAX || stuck { Err(Malformed) } else { Ok(membership) }
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &mut dyn Iterator<Item = &NodeId>| {
            ids.map(|id| format!("n{id}")).collect::<Vec<_>>().join(" ")
        };
        write!(f, "voters {}", list(&mut self.voters.iter()))?;
        if self.is_joint() {
            write!(f, ", outgoing {}", list(&mut self.outgoing.iter()))?;
        }
        let learners = list(&mut self.members.keys().filter(|id| self.is_learner(**id)));
        if learners.is_empty() { Ok(()) } else { write!(f, ", learners {learners}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joint() -> Membership {
        let mut membership = Membership::of_voters((1..=5).map(|id| (id, format!("127.0.0.1:800{id}"))));
        membership.voters = [1, 2, 4].into();
        membership.outgoing = [1, 2, 3].into();
        membership.members.entry(4).or_default().directory = 77;
        membership
    }

    #[test]
    fn settling_keeps_who_is_to_return() {
        let mut membership = joint();
        membership.returning.insert(3);
        assert_eq!(Membership::decode(&membership.encode()), Ok(membership.clone()));
        let settled = membership.settled();
        assert!(settled.is_learner(3) && settled.returning.contains(&3));
    }

    #[test]
    fn a_membership_survives_its_bytes_and_nothing_else_decodes() {
        for membership in [joint(), joint().settled(), Membership::default()] {
            let bytes = membership.encode();
            assert_eq!(Membership::decode(&bytes), Ok(membership));
            for cut in 0..bytes.len() {
                assert_eq!(Membership::decode(&bytes[..cut]), Err(Malformed));
            }
            assert_eq!(Membership::decode(&[&bytes[..], &[0]].concat()), Err(Malformed));
        }
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = joint().encode();
            change(&mut bytes);
            Membership::decode(&bytes) == Err(Malformed)
        };
        // The first id is in bytes 1 to 4, its roles follow; the second begins after its directory and address.
        assert!(!refused(&|bytes| bytes[5] = 15) && refused(&|bytes| bytes[5] = 16));
        let second = 1 + 4 + 1 + 8 + 2 + "127.0.0.1:8001".len();
        assert!(refused(&|bytes| bytes[second] = 1), "the same id twice");
        let addressed = |length| {
            let membership = Membership::of_voters([(1, "a".repeat(length))]);
            Membership::decode(&membership.encode()).map(|decoded| decoded == membership)
        };
        assert_eq!(
            (addressed(ADDRESS_BYTES_MAX), addressed(ADDRESS_BYTES_MAX + 1)),
            (Ok(true), Err(Malformed))
        );
        let of = |members: u32| {
            Membership::decode(&Membership::of_voters((1..=members).map(|id| (id, String::new()))).encode())
        };
        let most = MEMBERS_MAX as u32;
        assert_eq!(of(most).map(|membership| membership.voters.len()), Ok(MEMBERS_MAX));
        assert_eq!(of(most + 1), Err(Malformed));
        let mut voterless = joint();
        voterless.voters.clear();
        assert_eq!(Membership::decode(&voterless.encode()), Err(Malformed));
    }

    #[test]
    fn what_no_entry_says_is_not_agreed() {
        let membership = joint();
        let mut here = membership.clone();
        let member = here.members.entry(2).or_default();
        (member.directory, member.provisional) = (55, true);
        assert_eq!(Membership::decode(&here.encode()), Ok(here.clone()));
        assert_eq!(here.agreed(), membership);
        assert!(Membership::agree(&here.encode(), &membership.encode()));
        here.members.entry(2).or_default().provisional = false;
        assert!(!Membership::agree(&here.encode(), &membership.encode()), "an entry says it");
        assert!(
            Membership::agree(&[1, 2], &[1, 2]) && !Membership::agree(&[1, 2], &[1, 3]),
            "whatever it is"
        );
    }

    #[test]
    fn a_joint_configuration_needs_both_majorities() {
        let membership = joint();
        let decides = |ids: &[NodeId]| membership.decides(|id| ids.contains(&id));
        assert!(decides(&[1, 2]));
        assert!(!decides(&[1, 4]), "no majority of the outgoing");
        assert!(!decides(&[1, 3]), "no majority of the incoming");
        assert!(decides(&[1, 3, 4]));
        assert!(!decides(&[5, 4, 3]), "a learner counts for nothing");
        let matched = |id: NodeId| [0, 9, 3, 8, 7, 9][id as usize];
        assert_eq!(membership.committed(matched), 7);
        assert!(!Membership::default().decides(|_| true), "nobody decides for nobody");
    }

    #[test]
    fn a_directory_that_is_known_otherwise_is_provisional() {
        let known = |id| if id == 2 { 55 } else { 0 };
        let bound = joint().bound_by(known).members;
        let told = |id| (bound[&id].directory, bound[&id].provisional);
        assert_eq!([1, 2, 4].map(told), [(0, false), (55, true), (77, false)]);
        assert_eq!(joint().members[&3].address, "127.0.0.1:8003");
    }

    #[test]
    fn each_half_has_voters_and_whoever_has_no_vote_learns() {
        let membership = joint();
        assert!(membership.is_joint() && !membership.settled().is_joint());
        assert_eq!([1, 3, 4, 5, 6].map(|id| membership.is_voter(id)), [true, true, true, false, false]);
        assert_eq!([1, 3, 4, 5, 6].map(|id| membership.is_learner(id)), [false, false, false, true, false]);
        assert_eq!(membership.to_string(), "voters n1 n2 n4, outgoing n1 n2 n3, learners n5");
    }

    #[test]
    fn settling_drops_who_only_had_a_vote_before() {
        let settled = joint().settled();
        assert_eq!(settled.voters, [1, 2, 4].into());
        assert_eq!(settled.members.keys().copied().collect::<Vec<_>>(), [1, 2, 4, 5]);
        assert!(settled.is_learner(5) && !settled.is_joint());
    }
}
