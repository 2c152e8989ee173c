//! One register with unique values, judged while it is used, by the zones of `linearizability::chains`: two chains of values a and b
//! contradict each other exactly if f(a) < s(b) and f(b) < s(a), where f is the first completion and s the last invoke.
//!
//! A chain can be forgotten when another one has begun to be over it for good: whoever is invoked from now on and still sees
//! it contradicts that other one, and to see a forgotten value, or one that replaced it, is a violation by itself. What an
//! indeterminate write brings is kept until it was seen. So memory is in proportion to open operations and live values.

use std::collections::BTreeMap;

use crate::hash::FastMap;
use crate::history::{Action, Value};

/// A value that an operation may bring, and that nobody saw yet.
struct Coming {
    /// Invoke of that operation.
    call: u64,
    /// The value that it replaces, of a compare-and-set.
    from: Option<Value>,
}

/// A value that was there: seen, or acknowledged.
struct Known {
    /// Place of its chain.
    chain: usize,
    /// The value that replaced it by compare-and-set.
    next: Option<Value>,
    /// First completion of an operation on it.
    min_ret: u64,
}

/// The operations on a chain of values.
#[derive(Clone, Copy)]
struct Span {
    /// First completion.
    f: u64,
    /// Last invoke.
    s: u64,
}

/// Of no operation: it contradicts nothing.
const NOTHING: Span = Span { f: u64::MAX, s: 0 };

/// A register that is followed.
pub(super) struct Register {
    coming: FastMap<Value, Coming>,
    known: FastMap<Value, Known>,
    /// Of each chain; [`NOTHING`] where there is none. By themselves, because every operation is held against all of them.
    spans: Vec<Span>,
    /// Of each chain, its values that are still known, in order.
    chains: Vec<Vec<Value>>,
    /// Places of no chain.
    free: Vec<usize>,
    /// Invokes of operations that are open, with how many share the time.
    open: BTreeMap<u64, u32>,
    /// Known values at which it is time to forget some.
    crowded: usize,
}

/// Values that are known before any is forgotten.
const CROWD: usize = 64;

/// What was found: class and sentence.
pub(super) type Found = (&'static str, String);

impl Register {
    pub(super) fn new(initial: Value) -> Register {
        let known = Known { chain: 0, next: None, min_ret: u64::MAX };
        Register {
            coming: FastMap::default(),
            known: FastMap::from_iter([(initial.clone(), known)]),
            spans: vec![Span { f: 0, s: 0 }],
            chains: vec![vec![initial]],
            free: Vec::new(),
            open: BTreeMap::new(),
            crowded: CROWD,
        }
    }

    /// An operation begins. `Err` if it brings a value that is there already: then values are not told apart any more.
    pub(super) fn invoke(&mut self, action: &Action, call: u64) -> Result<(), ()> {
        *self.open.entry(call).or_default() += 1;
        let (from, to) = match action {
            Action::Write(to) => (None, to),
            Action::Cas(from, to) => (Some(from), to),
            _ => return Ok(()),
        };
        let coming = Coming { call, from: from.cloned() };
        if self.known.contains_key(to) || self.coming.insert(to.clone(), coming).is_some() {
            return Err(());
        }
        Ok(())
    }

    /// An operation happened.
    pub(super) fn ok(&mut self, action: &Action, call: u64, ret: u64) -> Result<(), Found> {
        let done = match action {
            Action::Read(value) | Action::CasMismatch(_, _, value) => {
                self.refused(action);
                self.establish(value).and_then(|()| self.touch(value, call, ret))
            }
            Action::Write(value) | Action::Cas(_, value) => {
                self.establish(value).and_then(|()| self.touch(value, call, ret))
            }
            _ => Ok(()),
        };
        self.close(call, ret);
        done
    }

    /// An operation did not happen.
    pub(super) fn fail(&mut self, action: &Action, call: u64, now: u64) -> Result<(), Found> {
        let seen = action.brings().filter(|value| self.known.contains_key(value));
        self.refused(action);
        self.close(call, now);
        match seen {
            Some(value) => {
                Err(("aborted read", format!("{value} was seen, but the operation that brings it failed")))
            }
            None => Ok(()),
        }
    }

    /// Nobody knows whether an operation happened.
    pub(super) fn info(&mut self, call: u64, now: u64) {
        self.close(call, now);
    }

    /// How many values are remembered, for tests of how much is forgotten.
    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.known.len() + self.coming.len()
    }

    /// The value that a failed operation would have brought will never be seen.
    fn refused(&mut self, action: &Action) {
        if let Action::Write(to) | Action::Cas(_, to) | Action::CasMismatch(_, to, _) = action {
            self.coming.remove(to);
        }
    }

    /// Makes sure that a value that was seen, or acknowledged, stands in a chain.
    fn establish(&mut self, value: &Value) -> Result<(), Found> {
        let mut links = Vec::new();
        let mut at = value;
        while !self.known.contains_key(at) && !links.contains(&at) {
            let Some(coming) = self.coming.get(at) else {
                return Err((
                    "stale read",
                    format!("{at} was seen, but it had been replaced for good, or nobody ever wrote it"),
                ));
            };
            links.push(at);
            match &coming.from {
                Some(from) => at = from,
                None => break,
            }
        }
        let links: Vec<Value> = links.into_iter().cloned().collect();
        for value in links.into_iter().rev() {
            self.link(value)?;
        }
        Ok(())
    }

    /// Puts a value that comes into a chain: a new one, or behind the value that it replaces.
    fn link(&mut self, value: Value) -> Result<(), Found> {
        let Some(Coming { call, from }) = self.coming.get(&value) else { return Ok(()) };
        let call = *call;
        let chain = match from {
            None => self.free.pop().unwrap_or_else(|| {
                self.spans.push(NOTHING);
                self.chains.push(Vec::new());
                self.spans.len() - 1
            }),
            Some(from) => {
                let Some(replaced) = self.known.get_mut(from) else {
                    return Err(("phantom read", format!("{value} and {from} lead only to each other")));
                };
                if let Some(other) = replaced.next.replace(value.clone()) {
                    return Err((
                        "lost update",
                        format!(
                            "{from} was there once, but two operations replaced it: by {other} and by {value}"
                        ),
                    ));
                }
                replaced.chain
            }
        };
        self.coming.remove(&value);
        self.chains[chain].push(value.clone());
        self.known.insert(value.clone(), Known { chain, next: None, min_ret: u64::MAX });
        // When its writer will complete is not known yet, if it ever does.
        self.touch(&value, call, u64::MAX)
    }

    /// An operation on a value that stands in a chain.
    fn touch(&mut self, value: &Value, call: u64, ret: u64) -> Result<(), Found> {
        let Some(known) = self.known.get_mut(value) else { return Ok(()) };
        known.min_ret = known.min_ret.min(ret);
        let chain = known.chain;
        let mut later = &self.known[value].next;
        while let Some(next) = later {
            let Some(known) = self.known.get(next) else { break };
            if known.min_ret < call {
                return Err((
                    "stale read",
                    format!("{value} was seen by an operation that began after {next} had replaced it"),
                ));
            }
            later = &known.next;
        }
        let before = self.spans[chain];
        let (f, s) = (before.f.min(ret), before.s.max(call));
        if (f, s) == (before.f, before.s) {
            return Ok(());
        }
        // Out of the way for the comparison with the others.
        self.spans[chain] = NOTHING;
        let against = self.spans.iter().position(|other| other.f < s && f < other.s);
        self.spans[chain] = Span { f, s };
        match against {
            None => Ok(()),
            Some(other) => {
                let other = self.chains[other].last().map(ToString::to_string).unwrap_or_default();
                Err((
                    "stale read",
                    format!(
                        "{value} and {other} were both there at one time: each was seen, or acknowledged, before the other was last invoked or read"
                    ),
                ))
            }
        }
    }

    /// An operation is not open any more; forgets what nobody can see.
    fn close(&mut self, call: u64, now: u64) {
        if let Some(count) = self.open.get_mut(&call) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&call);
            }
        }
        if self.known.len() < self.crowded {
            return;
        }
        let horizon = self.open.keys().next().copied().unwrap_or(now).min(now);
        self.forget(horizon);
        self.crowded = 2 * self.known.len() + CROWD;
    }

    fn forget(&mut self, horizon: u64) {
        // Inside a chain: whoever begins at the horizon or later begins after a later value was there.
        for chain in &mut self.chains {
            let replaced = chain
                .iter()
                .rposition(|value| self.known.get(value).is_some_and(|known| known.min_ret < horizon))
                .unwrap_or(0);
            for value in chain.drain(..replaced) {
                self.known.remove(&value);
            }
        }
        // The chains that are over others, by last invoke: the latest two, so that none is over itself.
        let spans =
            || self.spans.iter().copied().enumerate().filter(|(chain, _)| !self.chains[*chain].is_empty());
        let mut over: Vec<(u64, usize)> =
            spans().filter(|(_, span)| span.f < horizon).map(|(chain, span)| (span.s, chain)).collect();
        over.sort_unstable_by(|a, b| b.cmp(a));
        over.truncate(2);
        let dead = |chain: usize, span: Span| over.iter().any(|(s, other)| *other != chain && *s > span.f);
        let alive = spans().filter(|(chain, span)| !dead(*chain, *span));
        let first_alive = alive.map(|(_, span)| span.f).min().unwrap_or(u64::MAX);
        let gone = spans().filter(|(chain, span)| dead(*chain, *span) && span.s <= first_alive);
        for chain in gone.map(|(chain, _)| chain).collect::<Vec<_>>() {
            for value in self.chains[chain].drain(..) {
                self.known.remove(&value);
            }
            self.spans[chain] = NOTHING;
            self.free.push(chain);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(v: i64) -> Action {
        Action::Write(v.into())
    }

    fn read(v: i64) -> Action {
        Action::Read(v.into())
    }

    #[test]
    fn what_is_replaced_for_good_is_forgotten_and_what_may_come_is_not() {
        let mut register = Register::new(Value::Nil);
        register.invoke(&write(-1), 1).unwrap();
        register.info(1, 2);
        for i in 0..10_000i64 {
            let time = 10 + 10 * i as u64;
            register.invoke(&write(i), time).unwrap();
            register.ok(&write(i), time, time + 2).unwrap();
            register.invoke(&read(i), time + 4).unwrap();
            register.ok(&read(i), time + 4, time + 6).unwrap();
        }
        assert!(register.remembered() < 200, "{} values", register.remembered());
        register.invoke(&read(-1), 200_000).unwrap();
        register.ok(&read(-1), 200_000, 200_001).unwrap();
        register.invoke(&read(17), 200_002).unwrap();
        assert_eq!(register.ok(&read(17), 200_002, 200_003).unwrap_err().0, "stale read");
    }

    #[test]
    fn a_long_chain_is_forgotten_from_its_beginning() {
        let mut register = Register::new(Value::Nil);
        let cas = |i: i64| Action::Cas(if i == 0 { Value::Nil } else { (i - 1).into() }, i.into());
        for i in 0..10_000i64 {
            let time = 10 + 10 * i as u64;
            register.invoke(&cas(i), time).unwrap();
            register.ok(&cas(i), time, time + 2).unwrap();
        }
        assert!(register.remembered() < 200, "{} values", register.remembered());
        let twice = Action::Cas(9998.into(), (-1).into());
        register.invoke(&twice, 200_000).unwrap();
        assert!(register.ok(&twice, 200_000, 200_001).is_err());
    }

    #[test]
    fn a_value_that_is_there_is_not_brought_again() {
        let mut register = Register::new(Value::Nil);
        register.invoke(&write(1), 1).unwrap();
        assert_eq!(register.invoke(&write(1), 2), Err(()));
    }

    /// An operation from its invoke to its end.
    fn done(register: &mut Register, action: &Action, call: u64, ret: u64) -> Result<(), Found> {
        register.invoke(action, call).unwrap();
        register.ok(action, call, ret)
    }

    fn cas(from: i64, to: i64) -> Action {
        Action::Cas(from.into(), to.into())
    }

    #[test]
    fn what_failed_was_not_seen_and_is_not_seen_later() {
        let mut register = Register::new(Value::Nil);
        register.invoke(&write(1), 1).unwrap();
        register.invoke(&write(2), 1).unwrap();
        done(&mut register, &read(1), 2, 3).unwrap();
        assert_eq!(register.fail(&write(1), 1, 4).unwrap_err().0, "aborted read");
        assert_eq!(register.fail(&write(2), 1, 4), Ok(()));
        assert_eq!(done(&mut register, &read(2), 5, 6).unwrap_err().0, "stale read");
    }

    #[test]
    fn equal_times_are_concurrent() {
        let after = |first: [(Action, u64, u64); 2], call| {
            let mut register = Register::new(Value::Nil);
            for (action, call, ret) in &first {
                done(&mut register, action, *call, *ret).unwrap();
            }
            done(&mut register, &read(1), call, call + 1).map_err(|found| found.0)
        };
        let replaced = || [(write(1), 1, 2), (cas(1, 2), 3, 4)];
        assert_eq!((after(replaced(), 4), after(replaced(), 5)), (Ok(()), Err("stale read")));
        let over = |call| [(write(1), 1, 2), (write(2), call, 4)];
        assert_eq!((after(over(3), 4), after(over(3), 5)), (Ok(()), Err("stale read")));
        assert_eq!(after(over(2), 5), Ok(()), "2 may have been there before 1");
    }

    #[test]
    fn what_an_open_operation_may_still_see_is_kept() {
        for second in [cas(1, 2), write(2)] {
            let mut register = Register::new(Value::Nil);
            register.crowded = 0;
            done(&mut register, &write(1), 1, 2).unwrap();
            register.invoke(&read(1), 4).unwrap();
            register.crowded = 0;
            done(&mut register, &second, 3, 4).unwrap();
            assert_eq!(register.ok(&read(1), 4, 9), Ok(()), "{second:?}");
            register.crowded = 0;
            done(&mut register, &read(2), 10, 11).unwrap();
            assert!(!register.known.contains_key(&1.into()), "{second:?}: nobody can see it any more");
        }
        // Neither of these is over the other.
        let mut register = Register::new(Value::Nil);
        done(&mut register, &write(1), 1, 3).unwrap();
        register.crowded = 0;
        done(&mut register, &write(2), 3, 5).unwrap();
        register.crowded = 0;
        done(&mut register, &Action::Release, 9, 9).unwrap();
        assert_eq!(done(&mut register, &read(1), 10, 11), Ok(()));
    }

    #[test]
    fn a_crowd_is_thinned_when_it_is_one() {
        let after = |writes: usize| {
            let mut register = Register::new(Value::Nil);
            for i in 0..writes {
                done(&mut register, &write(i as i64), 10 * i as u64, 10 * i as u64 + 2).unwrap();
            }
            register
        };
        assert_eq!(after(CROWD - 2).remembered(), CROWD - 1, "few are kept");
        let thinned = after(CROWD - 1);
        assert!(thinned.remembered() < 10, "{}", thinned.remembered());
        assert_eq!(thinned.crowded, 2 * thinned.remembered() + CROWD);
        let mut open = Register::new(Value::Nil);
        open.invoke(&read(0), 5).unwrap();
        open.crowded = 3;
        for i in 0..6 {
            done(&mut open, &write(i), 10 * (i as u64 + 1), 10 * (i as u64 + 1) + 2).unwrap();
        }
        assert_eq!(open.remembered(), 7, "whoever is open may have seen any of them");
        assert_eq!(open.crowded, 2 * 3 + CROWD);
    }
}
