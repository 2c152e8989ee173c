//! What this machine allows, how to get the rest, and what an earlier run left that no kernel cleaned up.
//! Each question is answered by trying, never by looking at a version.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::disk::{self, SOURCE};

/// Control groups of runs begin with it.
const GROUP_PREFIX: &str = "whitewater-";
/// Where control groups are.
const GROUPS: &str = "/sys/fs/cgroup";

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
            "cgroup v1",
            "limits of processor and memory",
            told("/sys/fs/cgroup/cpu", group_in(Path::new("/sys/fs/cgroup/cpu"))),
            "one of the two versions is enough",
        ),
        finding(
            "cgroup v2",
            "limits of processor and memory",
            group_v2().err().map(|error| error.to_string()),
            "one of the two versions is enough; v2 needs its cpu and memory controllers",
        ),
        finding(
            "ptrace",
            "clocks of one process",
            child_memory().err().map(|error| error.to_string()),
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

/// Makes a control group below `path` and removes it.
fn group_in(path: &Path) -> io::Result<()> {
    if !path.join("cgroup.procs").exists() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let group = path.join(format!("{GROUP_PREFIX}probe-{}", std::process::id()));
    fs::create_dir(&group)?;
    fs::remove_dir(&group)
}

fn group_v2() -> io::Result<()> {
    let roots = [Path::new(GROUPS).to_owned(), Path::new(GROUPS).join("unified")];
    let root = roots.into_iter().find(|root| root.join("cgroup.controllers").exists());
    let root = root.ok_or_else(|| io::Error::other("it is not mounted"))?;
    let controllers = fs::read_to_string(root.join("cgroup.controllers"))?;
    let has = |name| controllers.split_whitespace().any(|controller| controller == name);
    if !has("cpu") || !has("memory") {
        return Err(io::Error::other(format!("it has the controllers {:?} alone", controllers.trim())));
    }
    group_in(&root)
}

/// Opens the memory of a child for writing.
fn child_memory() -> io::Result<()> {
    let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let opened = OpenOptions::new().read(true).write(true).open(format!("/proc/{}/mem", child.id()));
    child.kill()?;
    child.wait()?;
    opened.map(drop)
}

/// Removes what an earlier run left in this mount namespace and among the control groups: mounts whose file system has ended, groups
/// without a process. What was removed.
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
    let hierarchies = fs::read_dir(GROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([PathBuf::from(GROUPS)]) {
        let groups = fs::read_dir(&hierarchy).into_iter().flatten().flatten();
        for group in groups.filter(|group| group.file_name().to_string_lossy().starts_with(GROUP_PREFIX)) {
            // A group in which a process lives cannot be removed.
            if fs::remove_dir(group.path()).is_ok() {
                swept.push(format!("group {}", group.path().display()));
            }
        }
    }
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
        assert_eq!(names, ["fuse", "tun", "netns", "cgroup v1", "cgroup v2", "ptrace", "loop"]);
        assert!(found.iter().all(|finding| finding.hint.len() > 10 && finding.about.len() > 10));
        let group = |path: &str| group_in(Path::new(path)).unwrap_err().kind();
        assert_eq!(group("/nonexistent"), io::ErrorKind::NotFound);
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
