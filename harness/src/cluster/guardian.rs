//! A small process that outlives a harness which is killed, and ends what that leaves behind: the whole group of every node, because
//! the parent-death signal reaches the first process of a group alone, and systems start through scripts.
//!
//! It holds a pipe. The harness writes which groups are alive; at the end of the pipe, however that comes, what is alive is killed. Control
//! groups that are still there are removed then.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Knows nothing but numbers of process groups, and directories of control groups, which are empty once those are dead. `sh` is on every
/// Linux, and needs no path of ours, which tests do not have.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
live=' '
directories=
while read -r word group; do
    case $word in
    +) live="$live$group " ;;
    d) directories="$directories $group" ;;
    -) case $live in *" $group "*) live="${live%%" $group "*} ${live#*" $group "}" ;; esac ;;
    esac
done
for group in $live; do kill -KILL "-$group" 2>/dev/null; done
for directory in $directories; do
    tries=0
    while [ -d "$directory" ] && ! rmdir "$directory" 2>/dev/null && [ $tries -lt 100 ]; do
        tries=$((tries + 1))
        sleep 0.1
    done
done
"#;

/// The guardian of one cluster. Dropping it ends it, and whatever it still guards.
#[derive(Debug)]
pub(super) struct Guardian {
    child: Mutex<Child>,
}

impl Guardian {
    pub(super) fn start() -> io::Result<Guardian> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "guardian"]).stdin(Stdio::piped());
        // A group of its own, so that what ends the harness by its group does not end it; and no working directory to hold.
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).current_dir("/");
        Ok(Guardian { child: Mutex::new(command.spawn()?) })
    }

    /// From now on this group is killed when the harness ends.
    pub(super) fn guard(&self, group: u32) {
        self.tell('+', group);
    }

    /// The group ended; its number may be another's soon.
    pub(super) fn forget(&self, group: u32) {
        self.tell('-', group);
    }

    /// From now on this directory, whose name has no blank, is removed when the harness ends, if it is empty then.
    pub(super) fn guard_directory(&self, path: &Path) {
        self.tell('d', path.display());
    }

    fn tell(&self, word: char, what: impl Display) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipe) = &mut child.stdin {
            // Somebody killed the guardian: the parent-death signal is left.
            let _ = pipe.write_all(format!("{word} {what}\n").as_bytes());
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        drop(child.stdin.take());
        // It ends at the end of its pipe.
        let _ = child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn is_alive(pid: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
    }

    #[test]
    fn what_is_guarded_dies_with_its_helpers_and_what_is_forgotten_lives() {
        let dir = tempfile::tempdir().unwrap();
        // Each starts a helper, as a script that starts a server does.
        let start = |name: &str| {
            let script = format!(
                "sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait",
                dir.path().join(name).display()
            );
            let child = Command::new("/bin/sh").args(["-c", &script]).process_group(0).spawn().unwrap();
            let started = Instant::now();
            let helper = loop {
                if let Ok(text) = std::fs::read_to_string(dir.path().join(name)) {
                    break text.trim().parse::<u32>().unwrap();
                }
                assert!(started.elapsed() < Duration::from_secs(10));
            };
            (child, helper)
        };
        let guardian = Guardian::start().unwrap();
        let ((mut first, helper), (mut second, other)) = (start("a"), start("b"));
        for group in [first.id(), second.id()] {
            guardian.guard(group);
        }
        guardian.forget(second.id());
        guardian.forget(4_000_000);
        assert!(is_alive(first.id()) && is_alive(helper));
        drop(guardian);
        first.wait().unwrap();
        let started = Instant::now();
        while is_alive(helper) {
            assert!(started.elapsed() < Duration::from_secs(10), "the helper lives");
        }
        assert!(is_alive(second.id()) && is_alive(other), "not guarded any more");
        let group = nix::unistd::Pid::from_raw(second.id().cast_signed());
        nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
        second.wait().unwrap();
    }
}
