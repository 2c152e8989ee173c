//! One operating-system process under test: started, killed, stopped, seen to be so.
//! Which node it is, and whether it may be touched, is the cluster's business.

use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getppid};

use super::guardian::Guardian;
use crate::dud::{self, Reach};

/// How long a signal may take to show in /proc. It takes a fraction of a millisecond unless the machine is starved.
const SIGNAL_SHOWS_MAX: Duration = Duration::from_secs(2);

/// Starts processes, all from one thread that lives as long as this: the kernel ties the parent-death signal to the forking *thread*,
/// so that a child of a thread that ends is killed at once.
#[derive(Debug)]
pub(crate) struct Spawner {
    requests: SyncSender<Request>,
    guardian: Arc<Guardian>,
}

type Request = (Command, SyncSender<io::Result<Child>>);

impl Spawner {
    pub(crate) fn new() -> io::Result<Spawner> {
        let (requests, queue) = sync_channel::<Request>(1);
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            for (mut command, reply) in queue {
                // Whoever asked may have given up; then the child is dropped, and dies with this thread.
                let _ = reply.send(command.spawn());
            }
        })?;
        Ok(Spawner { requests, guardian: Arc::new(Guardian::start()?) })
    }

    /// From now on this directory of a control group is removed when the harness ends.
    pub(crate) fn guard_group(&self, path: &Path) {
        self.guardian.guard_directory(path);
    }

    /// Starts `command` in a process group of its own; it dies when this process dies, however that dies.
    pub(crate) fn spawn(&self, mut command: Command) -> io::Result<Process> {
        let parent = Pid::this();
        command.stdin(Stdio::null()).process_group(0);
        // SAFETY: between fork and exec only two system calls are made, which are async-signal-safe and allocate nothing.
        unsafe {
            command.pre_exec(move || {
                set_pdeathsig(Signal::SIGKILL)?;
                // The parent died between fork and the line above: the signal will never come.
                if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
            });
        }
        let (reply, answer) = sync_channel(1);
        let gone = |_| io::Error::other("the spawning thread is gone");
        self.requests.send((command, reply)).map_err(|_| io::Error::other("the spawning thread is gone"))?;
        let child = answer.recv().map_err(gone)??;
        self.guardian.guard(child.id());
        Ok(Process { child, guardian: self.guardian.clone() })
    }
}

/// A child that has not been reaped, so that its pid is its own.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    guardian: Arc<Guardian>,
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It and the others of its group: systems start through scripts.
    pub(crate) fn members(&self) -> Vec<u32> {
        let mut members = vec![self.pid()];
        members.extend(group_of(self.pid()));
        members
    }

    /// How it ended, if it has.
    pub(crate) fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.guardian.forget(self.child.id());
        }
        Ok(status)
    }

    /// Sends SIGKILL to it and its group; the dead are reaped by [`Process::reap`].
    pub(crate) fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Sends SIGTERM to it alone: a helper in its group ends when it does, or is the system's own affair.
    pub(super) fn terminate(&self) {
        if !dud::is_at(Reach::Signal) {
            let _ = nix::sys::signal::kill(self.group(), Signal::SIGTERM);
        }
    }

    /// To the whole group.
    fn signal(&self, signal: Signal) {
        if !dud::is_at(Reach::Signal) {
            // The group exists as long as its leader is not reaped; there is no other reason to fail.
            let _ = killpg(self.group(), signal);
        }
    }

    /// How it ended, if it does within this time.
    pub(crate) fn ended_within(&mut self, within: Duration) -> io::Result<Option<ExitStatus>> {
        let started = Instant::now();
        loop {
            let status = self.exited()?;
            if status.is_some() || started.elapsed() >= within {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Waits for its end. Only after [`Process::kill`], or it may never come.
    pub(crate) fn reap(mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait();
        self.guardian.forget(self.child.id());
        status
    }

    /// Sends SIGSTOP; the states of its threads as soon as all are stopped, or what they are when it took too long.
    pub(super) fn pause(&self) -> String {
        self.signal(Signal::SIGSTOP);
        self.wait_states(is_stopped)
    }

    /// Sends SIGSTOP, and does not wait.
    pub(super) fn send_stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Waits until every thread is stopped or waits in the kernel for what cannot be interrupted, at most so long.
    pub(super) fn wait_quiet(&self, within: Duration) {
        let started = Instant::now();
        while started.elapsed() < within && self.states().chars().any(|state| !"TDZ".contains(state)) {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Sends SIGCONT; the states of its threads as soon as none is stopped, or what they are when it took too long.
    pub(super) fn resume(&self) -> String {
        self.signal(Signal::SIGCONT);
        self.wait_states(|states| !states.contains('T'))
    }

    /// The states of all threads as /proc shows them, each letter once: `T` is "all stopped". Empty if the process is gone.
    pub(super) fn states(&self) -> String {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.pid())) else { return String::new() };
        let mut states = threads
            .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("stat")).ok())
            // The name in parentheses may contain anything; the state follows the last of them.
            .filter_map(|stat| stat.rsplit_once(')')?.1.trim_start().chars().next())
            .collect::<Vec<_>>();
        states.sort_unstable();
        states.dedup();
        states.into_iter().collect()
    }

    fn wait_states(&self, done: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let states = self.states();
            if done(&states) || started.elapsed() >= dud::patience(Reach::Signal, SIGNAL_SHOWS_MAX) {
                return states;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }
}

/// The processes of a group, beside its leader.
pub(crate) fn group_of(leader: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let group = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // pid (name) state ppid pgrp; the name may hold anything.
        let after = stat.rsplit_once(')').map(|(_, after)| after.to_owned()).unwrap_or_default();
        after.split_whitespace().nth(2).and_then(|group| group.parse::<u32>().ok())
    };
    pids.filter(|pid| *pid != leader && group(pid) == Some(leader)).collect()
}

/// Whether [`Process::states`] says that every thread is stopped.
pub(super) fn is_stopped(states: &str) -> bool {
    states == "T"
}

/// `exit 101` or `signal 9`.
pub(super) fn status_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(spawner: &Spawner) -> Process {
        let mut command = Command::new("sleep");
        command.arg("1000");
        spawner.spawn(command).unwrap()
    }

    fn wait_until(what: &str, condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < Duration::from_secs(10), "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_killed_process_is_reaped_with_signal_9() {
        let spawner = Spawner::new().unwrap();
        let process = sleeper(&spawner);
        let proc = format!("/proc/{}", process.pid());
        assert!(fs::exists(&proc).unwrap());
        process.kill();
        assert_eq!(status_text(process.reap().unwrap()), "signal 9");
        assert!(!fs::exists(&proc).unwrap());
    }

    #[test]
    fn a_paused_process_shows_t_and_goes_on_and_can_be_killed() {
        let spawner = Spawner::new().unwrap();
        let process = sleeper(&spawner);
        assert_eq!(process.pause(), "T");
        assert!(is_stopped(&process.states()));
        assert!(!process.resume().contains('T'));
        process.pause();
        process.kill();
        assert_eq!(status_text(process.reap().unwrap()), "signal 9");
    }

    #[test]
    fn an_exit_of_its_own_is_seen() {
        let spawner = Spawner::new().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exit 3"]);
        let mut process = spawner.spawn(command).unwrap();
        let started = Instant::now();
        let status = loop {
            if let Some(status) = process.exited().unwrap() {
                break status;
            }
            assert!(started.elapsed() < Duration::from_secs(10));
        };
        assert_eq!(status_text(status), "exit 3");
    }

    #[test]
    fn children_outlive_the_thread_that_asked_and_die_with_the_spawner() {
        let spawner = Spawner::new().unwrap();
        let process = std::thread::scope(|scope| scope.spawn(|| sleeper(&spawner)).join().unwrap());
        // The thread that asked for it is gone; a child tied to it would be dead or dying by now.
        std::thread::sleep(Duration::from_millis(20));
        assert!(!process.states().contains('Z'), "{}", process.states());
        drop(spawner);
        wait_until("killed by the kernel when the spawner ends", || process.states().contains('Z'));
        assert_eq!(status_text(process.reap().unwrap()), "signal 9");
    }

    #[test]
    fn a_missing_executable_is_an_error() {
        let spawner = Spawner::new().unwrap();
        assert_eq!(
            spawner.spawn(Command::new("/nonexistent/node")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
