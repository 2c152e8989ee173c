//! What a long life costs: many writes over a few keys, with a look at each node's log on disk and resident set now and then.
//! Keys are overwritten over and over, so that what has to be kept stays the same: whatever grows is waste.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::whitewater::{Answer, Whitewater};
use super::{BenchError, Place};
use crate::NodeId;

/// How long an answer may take before the measurement is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What to write.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where.
    pub place: Place,
    /// How many writes.
    pub writes: u64,
    /// Over how many keys.
    pub keys: u64,
    /// Length of every value, in bytes.
    pub value_bytes: usize,
    /// From how many clients.
    pub clients: u32,
    /// How many looks are taken, at equal distances.
    pub looks: u32,
}

/// One look at one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes of all files in the data directory.
    pub disk_bytes: u64,
    /// Resident set, in bytes; zero if the process is gone.
    pub resident_bytes: u64,
}

/// One look at all nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Writes acknowledged so far.
    pub writes: u64,
    /// Since the start.
    pub at: Duration,
    /// Of each node, in order.
    pub sizes: Vec<Size>,
}

/// Writes. `observe` is told each look as it is taken; the first one is before the first write.
///
/// # Errors
/// The cluster did not start, or does not answer.
pub fn run(config: &Config, observe: &mut dyn FnMut(&Look)) -> Result<Vec<Look>, BenchError> {
    let system = Whitewater::launch(&config.place)?;
    let started = Instant::now();
    let look = |writes| -> Result<Look, BenchError> {
        let pids = system.cluster.pids();
        let sizes = (1..).zip(&pids).map(|(node, pid)| size(&config.place, node, *pid));
        Ok(Look { writes, at: started.elapsed(), sizes: sizes.collect::<Result<_, _>>()? })
    };
    let mut looks = vec![look(0)?];
    observe(&looks[0]);
    let mut clients = system.clients(config.clients)?;
    let (mut begun, mut done, mut refused) = (0, 0, 0);
    let submit = |clients: &mut super::whitewater::Clients, client, i: u64| {
        let key = format!("{:016}", i % config.keys).into_bytes();
        // Every write has a value of its own: equal ones would tell nothing of what is kept.
        let mut value = format!("{i:016}").into_bytes();
        value.resize(config.value_bytes, b'v');
        clients.write(client, key, value);
    };
    for client in 0..u64::from(config.clients).min(config.writes) {
        submit(&mut clients, client as usize, begun);
        begun += 1;
    }
    let distance = (config.writes / u64::from(config.looks)).max(1);
    while done < config.writes {
        let answers = clients.wait(ANSWER_WITHIN);
        if answers.is_empty() {
            return Err(BenchError::Late { what: "an acknowledgement", waited_s: ANSWER_WITHIN.as_secs() });
        }
        for (client, answer) in answers {
            // What was refused is written again: the count is of acknowledged writes.
            if answer == Answer::Done {
                done += 1;
                if done % distance == 0 {
                    let look = look(done)?;
                    observe(&look);
                    looks.push(look);
                }
            } else {
                refused += 1;
            }
            if begun - refused < config.writes {
                submit(&mut clients, client, begun);
                begun += 1;
            }
        }
    }
    Ok(looks)
}

/// The share by which the largest resident set of any node grew from the middle of the measurement to its end, 0 if it did not.
/// The largest, because a node may be the last to need what the others needed before.
pub fn late_growth(looks: &[Look]) -> f64 {
    let largest = |look: &Look| look.sizes.iter().map(|size| size.resident_bytes).max().unwrap_or(0);
    let (Some(middle), Some(last)) = (looks.get(looks.len() / 2), looks.last()) else { return 0.0 };
    (largest(last) as f64 / largest(middle).max(1) as f64 - 1.0).max(0.0)
}

/// The most that a node ever had on disk, in bytes.
pub fn most_on_disk(looks: &[Look]) -> u64 {
    looks.iter().flat_map(|look| &look.sizes).map(|size| size.disk_bytes).max().unwrap_or(0)
}

fn size(place: &Place, node: NodeId, pid: u32) -> Result<Size, BenchError> {
    Ok(Size { disk_bytes: bytes_below(&place.dir.data(node))?, resident_bytes: resident(pid) })
}

/// Bytes of all files below a directory. A file that is removed meanwhile has none.
fn bytes_below(dir: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => sum += bytes_below(&entry.path())?,
            Ok(metadata) => sum += metadata.len(),
            Err(_) => {}
        }
    }
    Ok(sum)
}

/// The resident set of a process in bytes, zero if it is gone.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(writes: u64, sizes: &[(u64, u64)]) -> Look {
        let size = |&(disk_bytes, resident_bytes)| Size { disk_bytes, resident_bytes };
        Look { writes, at: Duration::ZERO, sizes: sizes.iter().map(size).collect() }
    }

    #[test]
    fn growth_is_that_of_the_largest_node_in_the_second_half() {
        let looks =
            [look(0, &[(1, 10), (1, 10)]), look(1, &[(9, 100), (1, 80)]), look(2, &[(5, 100), (1, 120)])];
        assert!((late_growth(&looks) - 0.2).abs() < 1e-9);
        assert_eq!(most_on_disk(&looks), 9);
        assert_eq!((late_growth(&[]), most_on_disk(&[])), (0.0, 0));
        let caught_up = [look(0, &[(1, 10)]), look(1, &[(1, 60), (1, 50)]), look(2, &[(1, 60), (1, 60)])];
        assert_eq!(late_growth(&caught_up), 0.0, "the second needed no more than the first");
    }

    #[test]
    fn files_are_found_in_folders_and_a_process_has_a_size() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/b"), [0; 100]).unwrap();
        fs::write(dir.path().join("c"), [0; 11]).unwrap();
        assert_eq!(bytes_below(dir.path()).unwrap(), 111);
        assert!(resident(std::process::id()) > 100_000);
        assert_eq!(resident(u32::MAX), 0);
    }
}
