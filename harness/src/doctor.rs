//! What this machine allows, how to get the rest, and what an earlier run left that no kernel cleaned up.
//! Each question is answered by trying, never by looking at a version.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::clock;
use crate::disk::{self, SOURCE};
use crate::group::{self, Groups};

/// Something that a machine may allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is called.
    pub name: &'static str,
    /// What it is good for.
    pub about: &'static str,
    /// Why not, if not.
    pub refused: Option<String>,
    /// How to get it.
    pub hint: &'static str,
}

/// Tries everything.
pub fn examine() -> Vec<Finding> {
    let open = |path: &str| OpenOptions::new().read(true).write(true).open(path).map(drop);
    let finding = |name, about, refused: Option<String>, hint| Finding { name, about, refused, hint };
    let told = |path: &str, tried: io::Result<()>| tried.err().map(|error| format!("{path}: {error}"));
    vec![
        finding(
            "fuse",
            "disks of the harness's own: power_loss, eio, disk_full, slow_fsync, bit_flip, lost_file, truncated_file",
            disk::refused(),
            "run as root, where /dev/fuse is (modprobe fuse; in a container, --device /dev/fuse --cap-add SYS_ADMIN)",
        ),
        finding(
            "tun",
            "a network device for each node",
            told("/dev/net/tun", open("/dev/net/tun")),
            "run as root, where /dev/net/tun is (modprobe tun; in a container, --device /dev/net/tun --cap-add NET_ADMIN)",
        ),
        finding(
            "netns",
            "a network namespace for each node",
            in_thread(|| Ok(unshare(CloneFlags::CLONE_NEWNET)?)).err().map(|error| error.to_string()),
            "run as root, or with CAP_SYS_ADMIN",
        ),
        finding(
            "cgroup",
            "a control group for each node: memory_limit",
            Groups::probe().err().map(|error| error.to_string()),
            "run as root, where version 1 of control groups is mounted with its memory, or a group above this process's own has memory in its cgroup.subtree_control (in a container, --privileged)",
        ),
        finding(
            "ptrace",
            "clocks of any process; those of our own node need nothing",
            clock::refused(),
            "run as root, or allow it: sysctl kernel.yama.ptrace_scope=0",
        ),
        finding(
            "loop",
            "ext4 beside our own disks, to compare",
            told("/dev/loop-control", open("/dev/loop-control"))
                .or_else(|| told("mkfs.ext4", runs("mkfs.ext4"))),
            "run as root, where /dev/loop-control is (modprobe loop), and install e2fsprogs",
        ),
    ]
}

/// Does it on a thread that ends: a namespace of a thread ends with it.
fn in_thread(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    std::thread::spawn(work).join().unwrap_or_else(|_| Err(io::Error::other("the thread that tried is gone")))
}

fn runs(program: &str) -> io::Result<()> {
    let mut command = Command::new(program);
    command.arg("-V").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().map(drop)
}

/// Removes what an earlier run left in this mount namespace and among the control groups: mounts whose file system has ended, groups
/// whose harness has ended. What was removed.
///
/// # Errors
/// The list of mounts cannot be read.
pub fn sweep() -> io::Result<Vec<String>> {
    let mut swept = Vec::new();
    for path in dead_mounts()? {
        if umount2(&path, MntFlags::MNT_DETACH).is_ok() {
            swept.push(format!("mount {}", path.display()));
        }
    }
    swept.extend(group::sweep());
    Ok(swept)
}

/// Mounts of ours that answer nothing any more.
fn dead_mounts() -> io::Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/thread-self/mounts")?;
    let of_ours = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        (words.next() == Some(SOURCE)).then(|| words.next()).flatten()
    });
    let path = |word: &str| PathBuf::from(word.replace("\\040", " "));
    // Only ENOTCONN says that nobody serves it: a run that is alive is left alone.
    let dead = |path: &PathBuf| {
        File::open(path).is_err_and(|error| error.raw_os_error() == Some(nix::libc::ENOTCONN))
    };
    Ok(of_ours.map(path).filter(dead).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_tried_and_what_is_refused_has_a_way_out() {
        let found = examine();
        let names: Vec<_> = found.iter().map(|finding| finding.name).collect();
        assert_eq!(names, ["fuse", "tun", "netns", "cgroup", "ptrace", "loop"]);
        assert!(found.iter().all(|finding| finding.hint.len() > 10 && finding.about.len() > 10));
        assert!(runs("no-such-program").is_err());
    }

    #[test]
    fn a_mount_whose_server_ended_is_swept_and_a_living_one_is_not() {
        if let Some(reason) = disk::refused() {
            println!("skipped: no disks of the harness's own on this machine: {reason}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (dead, alive) = (dir.path().join("is dead"), dir.path().join("alive"));
        // In a namespace of its own, as the harness's are, so that nothing is left if this fails.
        let (swept, left) =
            std::thread::spawn(move || disk::leave_mounts(&dead, &alive, sweep)).join().unwrap();
        let swept = swept.unwrap();
        assert!(swept.iter().any(|what| what.ends_with("is dead")), "{swept:?}");
        assert!(!swept.iter().any(|what| what.ends_with("alive")), "{swept:?}");
        assert!(!left.contains("dead") && left.contains("alive"), "{left}");
    }
}
