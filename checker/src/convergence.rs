//! Whether all nodes came to one state: the values that each of them itself held at one log index, and its whole state as bytes, of which
//! the hash is compared. What was acknowledged and is missing in all of them alike is the business of [`crate::durability`].

use crate::durability::NodeState;

/// A state that differs from that of the first node with one at the same index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// In a sentence.
    pub reason: String,
    /// What each of the two held.
    pub events: Vec<String>,
}

/// The first difference between two states; `None` if nothing was recorded that can be compared, which takes two nodes at one index.
pub fn judge(states: &[NodeState]) -> Option<Result<(), Divergence>> {
    let mut compared = false;
    for (position, state) in states.iter().enumerate() {
        for other in &states[..position] {
            if let Some(index) = state.settled().filter(|_| state.settled() == other.settled()) {
                compared = true;
                if let Some(key) = state.first_difference(other) {
                    let tell = |state: &NodeState| {
                        let node = &state.node;
                        format!(
                            "{node} holds {key}={} at index {index}   (nodes/{node}/state.json)",
                            state.told(key)
                        )
                    };
                    let reason = differ(state, other, index);
                    return Some(Err(Divergence { reason, events: vec![tell(other), tell(state)] }));
                }
            }
            let (Some(image), Some(of_other)) = (&state.image, &other.image) else { continue };
            if image.index != of_other.index {
                continue;
            }
            compared = true;
            if image.hash != of_other.hash {
                let tell = |node: &str, hash: &str| {
                    format!("{node} has the hash {hash}   (nodes/{node}/state.json)")
                };
                let events = vec![tell(&other.node, &of_other.hash), tell(&state.node, &image.hash)];
                return Some(Err(Divergence { reason: differ(state, other, image.index), events }));
            }
        }
    }
    compared.then_some(Ok(()))
}

fn differ(state: &NodeState, other: &NodeState, index: u64) -> String {
    format!("the states of {} and {} at index {index} are not the same", other.node, state.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(node: &str, index: u64, value: &str, image: Option<(u64, &str)>) -> NodeState {
        let image = image
            .map_or("null".to_owned(), |(index, hash)| format!(r#"{{"index":{index},"hash":"{hash}"}}"#));
        let text = format!(
            r#"{{"node":"{node}","last_applied":{index},"until":{index},"values":{{"k":{value},"l":null}},"image":{image}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn one_value_or_one_byte_that_differs_at_one_index_is_a_divergence_and_at_another_it_is_none() {
        let of = |second: NodeState| judge(&[state("n1", 9, "7", Some((9, "aa"))), second]);
        assert_eq!(of(state("n2", 9, "7", Some((9, "aa")))), Some(Ok(())));
        let found = of(state("n2", 9, "8", Some((9, "aa")))).unwrap().unwrap_err();
        assert_eq!(found.reason, "the states of n1 and n2 at index 9 are not the same");
        assert_eq!(found.events[1], "n2 holds k=8 at index 9   (nodes/n2/state.json)");
        let found = of(state("n2", 9, "7", Some((9, "ab")))).unwrap().unwrap_err();
        assert_eq!(found.events[1], "n2 has the hash ab   (nodes/n2/state.json)");
        // Who is not as far, and whose state is of another index, says nothing of the other.
        assert_eq!(of(state("n2", 8, "6", Some((8, "ab")))), None);
        assert_eq!(of(state("n2", 8, "6", None)), None);
        assert_eq!(of(state("n2", 8, "6", Some((9, "aa")))), Some(Ok(())));
    }

    #[test]
    fn values_that_were_read_while_entries_were_applied_are_of_no_one_index() {
        let old = r#"{"node":"n2","last_applied":9,"values":{"k":8}}"#;
        let moving = r#"{"node":"n2","last_applied":9,"until":10,"values":{"k":8}}"#;
        for text in [old, moving] {
            let other = serde_json::from_str(text).unwrap();
            assert_eq!(judge(&[state("n1", 9, "7", None), other]), None);
        }
        // A key that is not told is absent, as one that is null.
        let short =
            serde_json::from_str(r#"{"node":"n2","last_applied":9,"until":9,"values":{"k":7}}"#).unwrap();
        assert_eq!(judge(&[state("n1", 9, "7", None), short]), Some(Ok(())));
    }
}
