//! How a configuration of a search was reached, step by step, and the order of the operations that it stands for.
//! Which steps are taken is `search`'s business.

/// What is placed: an open operation with a known outcome, by slot, or one of a class of indeterminate ones.
#[derive(Clone, Copy)]
pub(super) enum What {
    Slot(usize),
    Class(usize),
}

/// No path yet.
pub(super) const NO_PATH: u32 = u32::MAX;

/// One placement on the way to a configuration.
pub(super) struct Placed {
    pub(super) before: u32,
    pub(super) what: What,
    /// The operation, of a slot.
    pub(super) op: u32,
    /// Event before which it must have been called.
    pub(super) bound: u32,
    /// Just before the last overwriting operation, not at the end.
    pub(super) hidden: bool,
}

/// The order that a path leads to, given the operations of each class by call, and which operations overwrite.
pub(super) fn order(
    paths: &[Placed],
    mut path: u32,
    classes: &[Vec<usize>],
    overwrites: &[bool],
) -> Vec<usize> {
    let mut placed = Vec::new();
    while path != NO_PATH {
        let step = &paths[path as usize];
        placed.push(step);
        path = step.before;
    }
    placed.reverse();
    // Which of a class: what must have been called first gets the first.
    let mut of_class: Vec<Vec<(u32, usize)>> = vec![Vec::new(); classes.len()];
    for (at, step) in placed.iter().enumerate() {
        if let What::Class(class) = step.what {
            of_class[class].push((step.bound, at));
        }
    }
    let mut ops: Vec<usize> = placed.iter().map(|step| step.op as usize).collect();
    for (class, uses) in of_class.iter_mut().enumerate() {
        uses.sort_unstable();
        for ((_, at), op) in uses.iter().zip(&classes[class]) {
            ops[*at] = *op;
        }
    }
    // What is hidden gathers before the last overwriting operation, in the order in which it was placed.
    let (mut order, mut hidden, mut tail): (Vec<usize>, Vec<usize>, Vec<usize>) = Default::default();
    for (step, op) in placed.iter().zip(ops) {
        if step.hidden {
            hidden.push(op);
            continue;
        }
        if overwrites[op] {
            order.append(&mut hidden);
            order.append(&mut tail);
        }
        tail.push(op);
    }
    order.append(&mut hidden);
    order.append(&mut tail);
    order
}
