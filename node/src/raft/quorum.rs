//! Arithmetic of majorities. No messages, no state.

use super::types::Index;

/// How many of `voters` are more than half of them.
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The highest index that a majority has reached, given the index of every voter.
pub fn committed(mut matched: Vec<Index>) -> Index {
    if matched.is_empty() {
        return 0;
    }
    matched.sort_unstable_by(|a, b| b.cmp(a));
    matched[majority(matched.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half() {
        assert_eq!([1, 2, 3, 4, 5, 6].map(majority), [1, 2, 2, 3, 3, 4]);
    }

    /// Against the definition: an index is committed if more than half of the voters reached it.
    #[test]
    fn agrees_with_counting() {
        for code in 0..5_u64.pow(4) {
            for voters in 1..=4_usize {
                let matched: Vec<Index> = (0..voters as u32).map(|i| code / 5_u64.pow(i) % 5).collect();
                let counted = (0..=5)
                    .rev()
                    .find(|at| 2 * matched.iter().filter(|m| *m >= at).count() > voters)
                    .expect("everybody reached 0");
                assert_eq!(committed(matched.clone()), counted, "{matched:?}");
            }
        }
    }
}
