//! One register with unique values, judged while it is used, by the zones of `linearizability::chains`: two chains of values a and b
//! contradict each other exactly if f(a) < s(b) and f(b) < s(a), where f is the first completion and s the last invoke.
//!
//! A chain can be forgotten when another one has begun to be over it for good: whoever is invoked from now on and still sees
//! it contradicts that other one, and to see a forgotten value, or one that replaced it, is a violation by itself. What an
//! indeterminate write brings is kept until it was seen. So memory is in proportion to open operations and live values.

use std::collections::BTreeMap;

use crate::hash::FastMap;
use crate::history::{Action, Value};

/// Who brought a value, and who saw it.
#[derive(Clone, Debug)]
struct Known {
    /// Invoke of its writer; `None` for the initial value.
    call: u64,
    /// Completion of its writer, once it is known.
    ret: u64,
    /// The value that it replaced, of a compare-and-set.
    from: Option<Value>,
    chain: Option<u32>,
    /// The value that replaced it by compare-and-set.
    next: Option<Value>,
    /// First completion of an operation on it.
    min_ret: u64,
}

struct Chain {
    /// First completion.
    f: u64,
    /// Last invoke.
    s: u64,
    /// Its values that are still known, in order.
    values: Vec<Value>,
}

/// A register that is followed.
pub(super) struct Register {
    values: FastMap<Value, Known>,
    chains: FastMap<u32, Chain>,
    next_chain: u32,
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
        let known = Known { call: 0, ret: 0, from: None, chain: Some(0), next: None, min_ret: u64::MAX };
        let chain = Chain { f: 0, s: 0, values: vec![initial.clone()] };
        Register {
            values: FastMap::from_iter([(initial, known)]),
            chains: FastMap::from_iter([(0, chain)]),
            next_chain: 1,
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
        if self.values.contains_key(to) {
            return Err(());
        }
        let known =
            Known { call, ret: u64::MAX, from: from.cloned(), chain: None, next: None, min_ret: u64::MAX };
        self.values.insert(to.clone(), known);
        Ok(())
    }

    /// An operation happened.
    pub(super) fn ok(&mut self, action: &Action, call: u64, ret: u64) -> Result<(), Found> {
        let done = match action {
            Action::Read(value) | Action::CasMismatch(_, _, value) => {
                self.refused(action);
                self.establish(value, ret).and_then(|()| self.touch(value, call, ret))
            }
            Action::Write(value) | Action::Cas(_, value) => {
                if let Some(known) = self.values.get_mut(value) {
                    known.ret = ret;
                }
                let was_seen = self.values.get(value).is_some_and(|known| known.chain.is_some());
                let done = self.establish(value, ret);
                if was_seen { done.and_then(|()| self.touch(value, call, ret)) } else { done }
            }
            _ => Ok(()),
        };
        self.close(call, ret);
        done
    }

    /// An operation did not happen.
    pub(super) fn fail(&mut self, action: &Action, call: u64, now: u64) -> Result<(), Found> {
        let seen = action
            .brings()
            .filter(|value| self.values.get(value).is_some_and(|known| known.chain.is_some()))
            .cloned();
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

    /// How many values are known, for tests of how much is forgotten.
    #[cfg(test)]
    fn known(&self) -> usize {
        self.values.len()
    }

    /// The value that a failed operation would have brought will never be seen.
    fn refused(&mut self, action: &Action) {
        let (Action::Write(to) | Action::Cas(_, to) | Action::CasMismatch(_, to, _)) = action else { return };
        if self.values.get(to).is_some_and(|known| known.chain.is_none()) {
            self.values.remove(to);
        }
    }

    /// Makes sure that a value that was seen, or acknowledged, stands in a chain.
    fn establish(&mut self, value: &Value, now: u64) -> Result<(), Found> {
        let mut links = Vec::new();
        let mut at = value.clone();
        loop {
            let Some(known) = self.values.get(&at) else {
                return Err((
                    "stale read",
                    format!("{at} was seen, but it had been replaced for good, or nobody ever wrote it"),
                ));
            };
            if known.chain.is_some() || links.contains(&at) {
                break;
            }
            links.push(at.clone());
            match &known.from {
                Some(from) => at = from.clone(),
                None => break,
            }
        }
        while let Some(value) = links.pop() {
            let (call, ret, from) = {
                let known = &self.values[&value];
                (known.call, known.ret, known.from.clone())
            };
            let chain = match &from {
                None => {
                    self.next_chain += 1;
                    let chain = self.next_chain - 1;
                    self.chains.insert(chain, Chain { f: u64::MAX, s: 0, values: Vec::new() });
                    chain
                }
                Some(from) => {
                    let Some(replaced) = self.values.get_mut(from) else {
                        return Err((
                            "phantom read",
                            format!("{from} was replaced, but nobody ever wrote it"),
                        ));
                    };
                    if let Some(other) = replaced.next.replace(value.clone()) {
                        return Err((
                            "lost update",
                            format!(
                                "{from} was there once, but two operations replaced it: by {other} and by {value}"
                            ),
                        ));
                    }
                    let Some(chain) = replaced.chain else {
                        return Err(("phantom read", format!("{value} and {from} lead only to each other")));
                    };
                    chain
                }
            };
            if let Some(known) = self.values.get_mut(&value) {
                known.chain = Some(chain);
            }
            if let Some(chain) = self.chains.get_mut(&chain) {
                chain.values.push(value.clone());
            }
            self.touch(&value, call, ret.min(if ret == u64::MAX { u64::MAX } else { now }))?;
        }
        Ok(())
    }

    /// An operation on a value that stands in a chain.
    fn touch(&mut self, value: &Value, call: u64, ret: u64) -> Result<(), Found> {
        let Some(known) = self.values.get_mut(value) else { return Ok(()) };
        known.min_ret = known.min_ret.min(ret);
        let Some(id) = known.chain else { return Ok(()) };
        let mut later = known.next.clone();
        while let Some(next) = later {
            let Some(known) = self.values.get(&next) else { break };
            if known.min_ret < call {
                return Err((
                    "stale read",
                    format!("{value} was seen by an operation that began after {next} had replaced it"),
                ));
            }
            later = known.next.clone();
        }
        let Some(chain) = self.chains.get_mut(&id) else { return Ok(()) };
        chain.f = chain.f.min(ret);
        chain.s = chain.s.max(call);
        let (f, s) = (chain.f, chain.s);
        let against = self.chains.iter().find(|(other, c)| **other != id && c.f < s && f < c.s);
        match against {
            None => Ok(()),
            Some((_, other)) => {
                let other = other.values.last().map(ToString::to_string).unwrap_or_default();
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
        if self.values.len() < self.crowded {
            return;
        }
        let horizon = self.open.keys().next().copied().unwrap_or(now).min(now);
        self.forget(horizon);
        self.crowded = 2 * self.values.len() + CROWD;
    }

    fn forget(&mut self, horizon: u64) {
        // Inside a chain: whoever begins at the horizon or later begins after a later value was there.
        for chain in self.chains.values_mut() {
            let replaced = chain
                .values
                .iter()
                .rposition(|value| self.values.get(value).is_some_and(|known| known.min_ret < horizon))
                .unwrap_or(0);
            for value in chain.values.drain(..replaced) {
                self.values.remove(&value);
            }
        }
        // The chains that are over others, by last invoke: the latest two, so that none is over itself.
        let mut over: Vec<(u64, u32)> =
            self.chains.iter().filter(|(_, c)| c.f < horizon).map(|(id, c)| (c.s, *id)).collect();
        over.sort_unstable_by(|a, b| b.cmp(a));
        over.truncate(2);
        let dead = |id: u32, chain: &Chain| over.iter().any(|(s, other)| *other != id && *s > chain.f);
        let first_alive = self
            .chains
            .iter()
            .filter(|(id, chain)| !dead(**id, chain))
            .map(|(_, chain)| chain.f)
            .min()
            .unwrap_or(u64::MAX);
        let values = &mut self.values;
        self.chains.retain(|id, chain| {
            if !dead(*id, chain) || chain.s > first_alive {
                return true;
            }
            for value in &chain.values {
                values.remove(value);
            }
            false
        });
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
        assert!(register.known() < 200, "{} values", register.known());
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
        assert!(register.known() < 200, "{} values", register.known());
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
}
