//! The order that shows that a key is linearizable, found by the engine that decided it. Whether it is right is for
//! `verify` to say, which shares nothing with the engines.

use super::{
    Budget, Op, chains, components, counted, dependencies, hint, order, relevant, run, search, serial,
};
use crate::history::KeyHistory;
use crate::model::ModelKind;

/// What took effect, in order, by position in the operations of a valid key. `None` if the search that has to find it again
/// ends before: it keeps more than the one that only answers.
pub fn certify(key: &KeyHistory, budget: Budget) -> Option<Vec<usize>> {
    if budget.deadline.passed() {
        return None;
    }
    let (model, initial) = (key.model, key.model.initial());
    if model.is_register() {
        let items = counted(&key.operations).map(|(id, o)| chains::Item {
            id,
            call: o.invoke,
            ret: o.end(),
            action: &o.action,
        });
        if let Some(order) = chains::order(items, &initial) {
            return Some(order);
        }
    }
    let ops = relevant(model, &key.operations);
    let ids = |ops: &[Op], order: Vec<usize>| order.into_iter().map(|i| ops[i].id).collect::<Vec<_>>();
    if matches!(model, ModelKind::ListAppend | ModelKind::Set)
        && order::judge(model, &ops) == order::Verdict::Linearizable
    {
        return Some(ids(&ops, order::order(model, &ops)));
    }
    if model == ModelKind::Txn
        && let dependencies::Verdict::Linearizable(order) = dependencies::judge(&ops)
    {
        return Some(ids(&ops, order));
    }
    if let Some(order) = hint::order(key, &ops, budget.deadline) {
        return Some(ids(&ops, order));
    }
    if matches!(model, ModelKind::Txn | ModelKind::TxnFrom(_))
        && let serial::Verdict::Linearizable(order) = serial::judge(&initial, &ops, budget)
    {
        return Some(ids(&ops, order));
    }
    // Operations of several objects: each at the first moment at which all before it had begun.
    let mut moments: Vec<(u64, usize)> = Vec::with_capacity(ops.len());
    for together in components(&ops) {
        let search::Answer::Valid(Some(found)) = run(model, &together, budget, true) else { return None };
        let mut latest = 0;
        for id in ids(&together, found) {
            latest = latest.max(key.operations[id].invoke);
            moments.push((latest, id));
        }
    }
    moments.sort_by_key(|(moment, _)| *moment);
    Some(moments.into_iter().map(|(_, id)| id).collect())
}
