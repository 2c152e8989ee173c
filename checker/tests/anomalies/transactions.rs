//! The same for transactions on lists and on registers: each anomaly has the name that the field gives it.

use checker::history::Micro;

use super::*;

/// What is injected: whether into lists, and the class that it has to be called.
const CASES: [(bool, &str); 26] = [
    (true, "write cycle"),
    (true, "circular information flow"),
    (true, "intermediate read"),
    (true, "read skew"),
    (true, "write skew"),
    (true, "fractured read"),
    (true, "lost update"),
    (true, "lost write"),
    (true, "stale read"),
    (true, "aborted read"),
    (true, "future read"),
    (true, "phantom read"),
    (true, "duplicate apply"),
    (true, "split brain"),
    (true, "internal inconsistency"),
    (false, "circular information flow"),
    (false, "read skew"),
    (false, "write skew"),
    (false, "intermediate read"),
    (false, "fractured read"),
    (false, "lost update"),
    (false, "lost write"),
    (false, "stale read"),
    (false, "aborted read"),
    (false, "future read"),
    (false, "internal inconsistency"),
];

const KEYS: [&str; 3] = ["x", "y", "z"];
/// Transactions of a core.
const CORE_MAX: usize = 4;

struct Draft {
    lists: bool,
    steps: Vec<Step>,
    now: u64,
    last: i64,
    /// What each key holds, of a register all that it ever held.
    held: [Vec<Value>; KEYS.len()],
    rng: ChaCha8Rng,
}

impl Draft {
    /// A step that brings a new value to a key.
    fn bring(&mut self, key: usize) -> Micro {
        self.last += 1;
        self.held[key].push(self.last.into());
        self.bring_again(key)
    }

    /// The same as the last one.
    fn bring_again(&self, key: usize) -> Micro {
        let (name, value) = (KEYS[key].into(), self.last.into());
        if self.lists { Micro::Append(name, value) } else { Micro::Write(name, value) }
    }

    /// A step that sees these of a key.
    fn shows(&self, key: usize, held: &[Value]) -> Micro {
        let seen =
            if self.lists { Value::List(held.into()) } else { held.last().cloned().unwrap_or(Value::Nil) };
        Micro::Read(KEYS[key].into(), Some(seen))
    }

    fn sees(&self, key: usize) -> Micro {
        self.shows(key, &self.held[key])
    }

    /// A step that sees a key as it was before the last `count` were brought.
    fn misses(&self, key: usize, count: usize) -> Micro {
        self.shows(key, &self.held[key][..self.held[key].len() - count])
    }

    /// Transactions of one to three steps that overlap and take effect one after the other, some with unknown outcomes.
    fn ordinary(&mut self, count: u64) {
        for _ in 0..count {
            self.now += 10;
            let (call, ret) =
                (self.now - self.rng.random_range(0..25), self.now + self.rng.random_range(0..25));
            let unknown = self.rng.random_bool(0.1);
            let before = self.held.clone();
            let mut steps = Vec::new();
            for _ in 0..self.rng.random_range(1..=3) {
                let key = self.rng.random_range(0..KEYS.len());
                let brings = self.rng.random_bool(0.5);
                steps.push(if brings { self.bring(key) } else { self.sees(key) });
            }
            if unknown && self.rng.random_bool(0.5) {
                self.held = before;
            }
            let action = Action::Txn(steps.into());
            let (outcome, action) = if unknown { (Info, untold(&action)) } else { (Ok, action) };
            self.steps.push((call, ret, outcome, action));
        }
        self.now += 100;
    }

    /// A transaction from `at` after now on.
    fn txn(&mut self, at: u64, length: u64, outcome: Outcome, steps: &[Micro]) -> usize {
        self.steps.push((self.now + at, self.now + at + length, outcome, Action::Txn(steps.into())));
        self.steps.len() - 1
    }
}

/// The same transaction, of which nobody said what it saw.
fn untold(action: &Action) -> Action {
    let Action::Txn(steps) = action else { return action.clone() };
    let untold = |step: &Micro| match step {
        Micro::Read(key, _) => Micro::Read(key.clone(), None),
        other => other.clone(),
    };
    Action::Txn(steps.iter().map(untold).collect())
}

/// Puts an anomaly behind what is there; returns how its near miss differs.
fn inject(draft: &mut Draft, class: &str) -> Near {
    let unknown =
        |i: usize| -> Near { Box::new(move |steps| (steps[i].2, steps[i].3) = (Info, untold(&steps[i].3))) };
    let x = draft.rng.random_range(0..KEYS.len());
    let y = (x + 1) % KEYS.len();
    // What an indeterminate one wrote before may still be to come: what is old here is certain.
    let certain = [0, 1, 2].map(|key| draft.bring(key));
    draft.txn(0, 5, Ok, &certain);
    draft.now += 10;
    let near: Near = match class {
        "write cycle" => {
            let one = [draft.bring(x), draft.bring(y)];
            let two = [draft.bring(x), draft.bring(y)];
            let last = draft.held[y].len();
            draft.held[y].swap(last - 1, last - 2);
            draft.txn(0, 40, Ok, &one);
            draft.txn(1, 40, Ok, &two);
            let reader = [draft.sees(x), draft.sees(y)];
            unknown(draft.txn(2, 40, Ok, &reader))
        }
        "circular information flow" => {
            let (one, two) = (draft.bring(x), draft.bring(y));
            let first = draft.txn(0, 40, Ok, &[one, draft.sees(y)]);
            draft.txn(1, 40, Ok, &[two, draft.sees(x)]);
            unknown(first)
        }
        "intermediate read" => {
            let both = [draft.bring(x), draft.bring(x)];
            draft.txn(0, 40, Ok, &both);
            let half = draft.misses(x, 1);
            unknown(draft.txn(1, 40, Ok, &[half]))
        }
        "read skew" => {
            let one = draft.bring(x);
            draft.txn(0, 40, Ok, &[one]);
            let two = [draft.sees(x), draft.bring(y)];
            let second = draft.txn(1, 40, Ok, &two);
            draft.txn(2, 40, Ok, &[draft.sees(y), draft.misses(x, 1)]);
            unknown(second)
        }
        "write skew" => {
            let (one, two) = (draft.bring(y), draft.bring(x));
            let first = draft.txn(0, 40, Ok, &[draft.misses(x, 1), one]);
            draft.txn(1, 40, Ok, &[draft.misses(y, 1), two]);
            unknown(first)
        }
        "fractured read" => {
            let both = [draft.bring(x), draft.bring(y)];
            draft.txn(0, 40, Ok, &both);
            unknown(draft.txn(1, 40, Ok, &[draft.sees(x), draft.misses(y, 1)]))
        }
        "lost update" => {
            let one = [draft.sees(x), draft.bring(x)];
            let two = [draft.misses(x, 1), draft.bring(x)];
            draft.txn(0, 40, Ok, &one);
            unknown(draft.txn(1, 40, Ok, &two))
        }
        "lost write" => {
            let write = draft.bring(x);
            let lost = draft.txn(0, 5, Ok, &[write]);
            draft.txn(10, 5, Ok, &[draft.misses(x, 1)]);
            draft.held[x].pop();
            unknown(lost)
        }
        "stale read" => {
            let write = draft.bring(x);
            draft.txn(0, 5, Ok, &[write]);
            let stale = draft.txn(10, 5, Ok, &[draft.misses(x, 1), draft.sees(y)]);
            draft.txn(20, 5, Ok, &[draft.sees(x)]);
            Box::new(move |steps| steps[stale].0 -= 7)
        }
        "aborted read" => {
            let write = draft.bring(x);
            let aborted = draft.txn(0, 5, Fail, &[write]);
            draft.txn(10, 5, Ok, &[draft.sees(x)]);
            unknown(aborted)
        }
        "future read" => {
            let write = draft.bring(x);
            let early = draft.txn(0, 5, Ok, &[draft.sees(x)]);
            draft.txn(10, 5, Ok, &[write]);
            Box::new(move |steps| steps[early].1 += 7)
        }
        "phantom read" => {
            draft.bring(x);
            let reader = draft.txn(0, 5, Ok, &[draft.sees(x), draft.sees(y)]);
            draft.held[x].pop();
            unknown(reader)
        }
        "duplicate apply" => {
            let write = draft.bring(x);
            draft.txn(0, 5, Ok, std::slice::from_ref(&write));
            let value = draft.last.into();
            draft.held[x].push(value);
            draft.txn(20, 5, Ok, &[draft.sees(x)]);
            let (call, ret) = (draft.now + 10, draft.now + 15);
            let again = Action::Txn([write].into());
            // A retry that nobody heard of may have been applied.
            Box::new(move |steps| steps.push((call, ret, Info, again.clone())))
        }
        "split brain" => {
            let one = draft.bring(x);
            draft.txn(0, 40, Ok, &[one]);
            draft.txn(10, 5, Ok, &[draft.sees(x)]);
            let first = draft.held[x].clone();
            let two = draft.bring(x);
            draft.txn(1, 40, Ok, &[two]);
            let alone = [&first[..first.len() - 1], &draft.held[x][first.len()..]].concat();
            unknown(draft.txn(20, 5, Ok, &[draft.shows(x, &alone)]))
        }
        "internal inconsistency" => {
            let write = draft.bring(x);
            unknown(draft.txn(0, 5, Ok, &[write, draft.misses(x, 1)]))
        }
        other => unreachable!("{other}"),
    };
    draft.now += 100;
    near
}

#[test]
fn every_anomaly_of_transactions_is_called_by_its_name_and_its_near_miss_is_valid() {
    let histories = std::env::var("CHECKER_ANOMALIES").ok().map_or(HISTORIES, |text| text.parse().unwrap());
    let mut wrong = Vec::new();
    let mut largest: BTreeMap<(bool, &str), usize> = BTreeMap::new();
    for seed in 0..histories {
        let (lists, class) = CASES[seed as usize % CASES.len()];
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draft = Draft { lists, steps: Vec::new(), now: 100, last: 0, held: Default::default(), rng };
        let (before, after) = (draft.rng.random_range(0..30), draft.rng.random_range(0..10));
        draft.ordinary(before);
        let near = inject(&mut draft, class);
        // What is lost is told by what comes after: it never shows again. What shows two orders of writes would be told from a
        // third reader as two histories.
        if class != "write cycle" && (class != "lost write" || lists) {
            draft.ordinary(after);
        }
        let key = recorded(ModelKind::Txn, &draft.steps);
        let context = format!("seed {seed}, lists {lists}, {class}\n{}", told(&key));
        match judge(&key, Engine::Portfolio, AMPLE) {
            Judgement::Invalid(finding) => {
                assert!(!finding.reason.is_empty());
                certified(&key, Result::Ok(&finding), &context);
                if finding.class != class || finding.core.len() > CORE_MAX {
                    wrong.push(format!("{finding:?}\n{context}"));
                }
                let size = largest.entry((lists, class)).or_default();
                *size = finding.core.len().max(*size);
            }
            other => panic!("{other:?}\n{context}"),
        }
        near(&mut draft.steps);
        let key = recorded(ModelKind::Txn, &draft.steps);
        let context = format!("near miss of seed {seed}, lists {lists}, {class}\n{}", told(&key));
        assert_eq!(judge(&key, Engine::Portfolio, AMPLE), Judgement::Valid, "{context}");
        certified(&key, Err(certify(&key, AMPLE).unwrap()), &context);
    }
    let shown = wrong[..wrong.len().min(5)].join("\n");
    assert!(wrong.is_empty(), "{} of {histories} have another name, or a large core:\n{shown}", wrong.len());
    println!(
        "{histories} anomalies of transactions, each called by its name; the largest core of each kind:"
    );
    for ((lists, class), size) in &largest {
        println!("  {}, {class}: {size}", if *lists { "lists" } else { "registers" });
    }
    assert_eq!(largest.len(), CASES.len().min(histories as usize));
}
