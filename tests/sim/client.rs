//! A client: a session, one operation at a time, sent again to another node until it is answered or given up.
//! Where a request goes and how long it takes is left to the world.

use std::collections::BTreeMap;

use checker::history::Action;
use checker::history::Value;
use node::kv::command::{Operation, Reply};
use node::kv::session::Verdict;
use node::protocol::error::ErrorCode;
use node::protocol::{Request, RequestBody, Response, ResponseBody};
use node::replica::Replica;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::history::{History, OperationId, value_of};
use crate::tally::Tally;

const MS: u64 = 1_000_000;
/// After so long without an answer the same request goes to another node.
const ATTEMPT_TIMEOUT: u64 = 150 * MS;
/// Operations of one client on one key before it goes on to the next: no list outgrows the largest value.
const OPERATIONS_PER_KEY: u64 = 12;

struct Open {
    request: Request,
    operation: Option<OperationId>,
    give_up_at: u64,
}

/// One client.
pub(crate) struct Client {
    /// Draws nonces of its own: a client that lost its session is a new one.
    nonce: u64,
    name: u64,
    rng: ChaCha8Rng,
    session: Option<u64>,
    /// How many sessions it gave up.
    lives: u64,
    sequence: u64,
    open: Option<Open>,
    retry_at: u64,
    /// Shortest and longest patience with one operation.
    patience: (u64, u64),
    /// The last value of each register that it saw.
    seen: BTreeMap<String, Option<Vec<u8>>>,
    /// Its last acknowledged write: the sequence, and the index at which it was applied.
    acknowledged: Option<(u64, u64)>,
    /// Operations that ended, one way or the other.
    ended: u64,
    /// Operations that were acknowledged.
    pub(crate) done: u64,
}

impl Client {
    /// `patience` is drawn anew for each operation.
    pub(crate) fn new(name: u64, patience: (u64, u64), mut rng: ChaCha8Rng) -> Client {
        Client {
            nonce: rng.random(),
            name,
            rng,
            session: None,
            lives: 0,
            sequence: 0,
            open: None,
            retry_at: 0,
            patience,
            seen: BTreeMap::new(),
            acknowledged: None,
            ended: 0,
            done: 0,
        }
    }

    /// From now on it is as patient as it takes.
    pub(crate) fn take_heart(&mut self) {
        self.patience = (u64::MAX / 4, u64::MAX / 4);
        if let Some(open) = &mut self.open {
            open.give_up_at = u64::MAX;
        }
    }

    pub(crate) fn idle(&self) -> bool {
        self.open.is_none()
    }

    /// The request to send now, if any: a new one unless `finish`, or the open one again.
    pub(crate) fn poll(
        &mut self,
        now: u64,
        finish: bool,
        history: &mut History,
        tally: &mut Tally,
    ) -> Option<Vec<u8>> {
        if !finish && self.open.as_ref().is_some_and(|open| now >= open.give_up_at) {
            tally.abandoned += 1;
            // Nobody will ever know what becomes of it: the session ends here, as that of a client that died does.
            self.open = None;
            self.session = None;
            self.acknowledged = None;
            self.nonce = self.rng.random();
            self.lives += 1;
            self.ended += 1;
        }
        match &self.open {
            None if finish => return None,
            None => self.begin(now, history),
            Some(_) if now < self.retry_at => return None,
            Some(_) => {}
        }
        self.retry_at = now + ATTEMPT_TIMEOUT;
        self.open.as_ref().map(|open| open.request.encode())
    }

    fn begin(&mut self, now: u64, history: &mut History) {
        self.sequence += 1;
        let epoch = self.ended / OPERATIONS_PER_KEY;
        let (body, operation) = match self.session {
            None => (RequestBody::OpenSession, None),
            Some(client_id) => {
                let list = self.rng.random_bool(0.4);
                let key = format!("{}{epoch}", if list { 'l' } else { 'r' });
                let unique = format!("{}.{}.{}", self.name, self.lives, self.sequence);
                let text = Value::Text(unique.as_str().into());
                let (operation, action) = match self.rng.random_range(0..10) {
                    0..3 => (Operation::Get { key: key.clone().into() }, Action::Read(Value::Nil)),
                    _ if list => {
                        let value = format!("{unique} ").into_bytes();
                        (Operation::Append { key: key.clone().into(), value }, Action::Append(text))
                    }
                    3..6 => {
                        let value = unique.into_bytes();
                        (Operation::Set { key: key.clone().into(), value }, Action::Write(text))
                    }
                    _ => {
                        let expected = self.seen.get(&key).cloned().flatten();
                        let from = value_of(&key, expected.as_deref());
                        let new = unique.into_bytes();
                        (Operation::Cas { key: key.clone().into(), expected, new }, Action::Cas(from, text))
                    }
                };
                let id = history.invoke(now, self.name, &key, action);
                let body = match operation {
                    Operation::Get { key } => RequestBody::Get { key },
                    operation => RequestBody::Write { client_id, operation },
                };
                (body, Some(id))
            }
        };
        let request = Request { nonce: self.nonce, sequence: self.sequence, body };
        let give_up_at = now + self.rng.random_range(self.patience.0..=self.patience.1);
        self.open = Some(Open { request, operation, give_up_at });
    }

    /// An answer. Returns whether the open operation ended with it.
    pub(crate) fn receive(
        &mut self,
        now: u64,
        response: Response,
        history: &mut History,
        tally: &mut Tally,
    ) -> bool {
        let Some(open) = &self.open else { return false };
        if (response.nonce, response.sequence) != (open.request.nonce, open.request.sequence) {
            return false;
        }
        if let ResponseBody::Error { error } = response.body {
            if error.row().retry {
                // Somebody else may know better, soon.
                self.retry_at = now + 10 * MS;
                return false;
            }
            assert_eq!(
                error,
                ErrorCode::TooLarge,
                "client {} was told so of {:?}",
                self.name,
                open.request.body
            );
            if let Some(id) = &open.operation {
                history.fail(id);
            }
            self.open = None;
            self.ended += 1;
            return true;
        }
        let Some(Open { request, operation, .. }) = self.open.take() else { return false };
        match (&request.body, response.body) {
            (RequestBody::OpenSession, ResponseBody::SessionOpened { client_id }) => {
                self.session = Some(client_id);
            }
            (body, ResponseBody::Applied { position, reply }) => {
                self.applied(now, body, operation, position, reply, history);
            }
            (body, answer) => panic!("client {}: {body:?} was answered with {answer:?}", self.name),
        }
        tally.operations += 1;
        self.done += 1;
        self.ended += 1;
        true
    }

    fn applied(
        &mut self,
        now: u64,
        body: &RequestBody,
        operation: Option<OperationId>,
        position: u64,
        reply: Reply,
        history: &mut History,
    ) {
        let Some(id) = operation else { panic!("client {}: {body:?} is no operation", self.name) };
        let key = id.0.clone();
        let action = match (history.action(&id), reply) {
            (Some(Action::Read(_)), Reply::Value(value)) => {
                let seen = value_of(&key, value.as_deref());
                self.seen.insert(key, value.map(|value| value.to_vec()));
                Action::Read(seen)
            }
            (Some(Action::Cas(from, to)), Reply::Mismatch(actual)) => {
                let saw = value_of(&key, actual.as_deref());
                self.seen.insert(key, actual.map(|value| value.to_vec()));
                Action::CasMismatch(from, to, saw)
            }
            (Some(action @ (Action::Write(_) | Action::Append(_) | Action::Cas(..))), Reply::Done) => {
                if let RequestBody::Write {
                    operation: Operation::Set { value, .. } | Operation::Cas { new: value, .. },
                    ..
                } = body
                {
                    self.seen.insert(key, Some(value.clone()));
                }
                action
            }
            (action, reply) => panic!("client {}: {action:?} was answered with {reply:?}", self.name),
        };
        if matches!(body, RequestBody::Write { .. }) {
            self.acknowledged = Some((self.sequence, position));
        }
        history.complete(now, &id, action);
    }

    /// A node that has applied an acknowledged write knows it as done: the session never goes back.
    pub(crate) fn check_session(&self, replica: &Replica) {
        if let (Some(session), Some((sequence, position))) = (self.session, self.acknowledged)
            && replica.store().last_applied() >= position
        {
            let verdict = replica.store().sessions().look_up(session, sequence);
            assert!(
                matches!(verdict, Verdict::Done(_) | Verdict::Superseded),
                "session {session} at n{}: operation {sequence}, applied at {position}, is {verdict:?}",
                replica.raft().id()
            );
        }
    }
}
