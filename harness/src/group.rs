//! Control groups for the memory of nodes: one group each, below the one that the harness itself is in, so that whatever limits that
//! limits them, too. Both versions; which, is found out by trying. Removed on drop, or by the guardian, or by `harness doctor`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::NodeId;
use crate::dud::{self, Reach};

/// Control groups of runs are called so, then the pid of their harness and a number.
pub(crate) const PREFIX: &str = "whitewater-";
/// How long a group may take to be empty once its processes are reaped.
const EMPTY_WITHIN: Duration = Duration::from_secs(1);
/// By how much a limit is raised that the kernel refuses because it cannot get below, bytes.
const STEP_BYTES: u64 = 64 << 10;
/// How often.
const STEPS_MAX: u32 = 64;

/// The two interfaces of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// What the kernel counted in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// How often something was wanted that the limit had no room for: memory was reclaimed then, or a process killed.
    pub(crate) hits: u64,
    /// Processes that were killed for it.
    pub(crate) kills: u64,
}

impl Counts {
    /// What was counted since.
    pub(crate) fn since(self, before: Counts) -> Counts {
        let since = |now: u64, before| now.saturating_sub(before);
        Counts { hits: since(self.hits, before.hits), kills: since(self.kills, before.kills) }
    }
}

/// The groups of one run, in order of nodes.
#[derive(Debug)]
pub struct Groups {
    version: Version,
    all: Vec<PathBuf>,
}

impl Groups {
    /// Makes a group for each of so many nodes.
    ///
    /// # Errors
    /// The kernel has no such groups, or refuses: what it refused is said.
    pub fn create(nodes: u32) -> io::Result<Groups> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let (version, parent) = parent()?;
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let mut groups = Groups { version, all: Vec::new() };
        for node in 1..=nodes {
            let path = parent.join(format!("{PREFIX}{}-{run}-n{node}", std::process::id()));
            fs::create_dir(&path).map_err(|error| told(&path, error))?;
            groups.all.push(path);
            groups.prepare(node)?;
        }
        Ok(groups)
    }

    /// Without swap, and killed as a whole, where the kernel can do that.
    fn prepare(&self, node: NodeId) -> io::Result<()> {
        let limit = self.file(node, self.limit_name());
        // Whether it is one for memory shows here.
        fs::metadata(&limit).map_err(|error| told(&limit, error))?;
        let wishes: &[(&str, &str)] = match self.version {
            Version::One => &[("memory.swappiness", "0")],
            Version::Two => &[("memory.swap.max", "0"), ("memory.oom.group", "1")],
        };
        for (name, value) in wishes {
            let _ = fs::write(self.file(node, name), value);
        }
        Ok(())
    }

    /// Why this process can make none, if it cannot.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn probe() -> io::Result<()> {
        Groups::create(1).map(drop)
    }

    /// Their directories.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.all
    }

    /// Has a command run in the group of this node.
    pub(crate) fn place(&self, node: NodeId, command: &mut Command) -> io::Result<()> {
        let path = self.file(node, "cgroup.procs");
        let mut procs = OpenOptions::new().write(true).open(&path).map_err(|error| told(&path, error))?;
        // SAFETY: between fork and exec one system call is made, which is async-signal-safe and allocates nothing.
        unsafe {
            // 0 is whoever writes it.
            command.pre_exec(move || procs.write_all(b"0"));
        }
        Ok(())
    }

    /// What the processes of a node use, bytes: their own memory, files of theirs that the kernel keeps in its own, and what the kernel needs
    /// for them.
    pub(crate) fn usage(&self, node: NodeId) -> io::Result<u64> {
        let name = match self.version {
            Version::One => "memory.usage_in_bytes",
            Version::Two => "memory.current",
        };
        let text = fs::read_to_string(self.file(node, name))?;
        text.trim().parse().map_err(io::Error::other)
    }

    /// Lets a node use so many bytes; what the limit became. Version 1 refuses a limit that it cannot get below by reclaiming: then it is
    /// what is left after that.
    pub(crate) fn limit(&self, node: NodeId, bytes: u64) -> io::Result<u64> {
        let mut wanted = bytes;
        for _ in 0..STEPS_MAX {
            match self.set(node, &wanted.to_string()) {
                Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
                    wanted = self.usage(node)?.max(wanted + STEP_BYTES);
                }
                set => return set.map(|()| wanted),
            }
        }
        Err(io::Error::other(format!("it uses more than {wanted} bytes again and again")))
    }

    /// Takes the limit away.
    pub(crate) fn unlimit(&self, node: NodeId) -> io::Result<()> {
        self.set(node, if self.version == Version::One { "-1" } else { "max" })
    }

    fn set(&self, node: NodeId, value: &str) -> io::Result<()> {
        if dud::is_at(Reach::Limit) {
            return Ok(());
        }
        fs::write(self.file(node, self.limit_name()), value)
    }

    /// What the kernel counted so far. Nothing of what is written here is looked at.
    pub(crate) fn counts(&self, node: NodeId) -> Counts {
        let read = |name| fs::read_to_string(self.file(node, name)).unwrap_or_default();
        match self.version {
            Version::One => Counts {
                hits: read("memory.failcnt").trim().parse().unwrap_or(0),
                kills: field(&read("memory.oom_control"), "oom_kill"),
            },
            Version::Two => {
                let events = read("memory.events");
                Counts { hits: field(&events, "max"), kills: field(&events, "oom_kill") }
            }
        }
    }

    fn limit_name(&self) -> &'static str {
        if self.version == Version::One { "memory.limit_in_bytes" } else { "memory.max" }
    }

    fn file(&self, node: NodeId, name: &str) -> PathBuf {
        self.all[node as usize - 1].join(name)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let started = Instant::now();
        for path in &self.all {
            // A process that is reaped may still be on its way out of its group.
            while fs::remove_dir(path).is_err() && path.exists() && started.elapsed() < EMPTY_WITHIN {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Removes groups that runs left whose harness is gone, wherever they are; what was removed.
pub(crate) fn sweep() -> Vec<String> {
    let mut swept = Vec::new();
    let mut left: Vec<PathBuf> = mounts().into_iter().map(|(_, mount)| mount).collect();
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            match owner(&entry.file_name().to_string_lossy()) {
                None if entry.file_type().is_ok_and(|kind| kind.is_dir()) => left.push(path),
                // A group in which a process lives cannot be removed.
                Some(pid)
                    if !Path::new(&format!("/proc/{pid}")).exists() && fs::remove_dir(&path).is_ok() =>
                {
                    swept.push(format!("group {}", path.display()));
                }
                _ => {}
            }
        }
    }
    swept
}

/// The harness that made a group of this name.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

/// Where groups for memory can be made: in version 1 below that of this process, in version 2 beside it or beside one above it, because there
/// a group with processes has no others below it.
fn parent() -> io::Result<(Version, PathBuf)> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let own = |is_it: &dyn Fn(&str) -> bool| {
        let fields = own.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
        let path =
            fields.into_iter().find(|fields| fields.len() == 3 && is_it(fields[1])).map(|f| f[2].to_owned());
        path.unwrap_or_default().trim_start_matches('/').to_owned()
    };
    let mut refused = "no version of control groups is mounted with memory".to_owned();
    for (version, mount) in mounts() {
        match version {
            Version::One => {
                let below =
                    mount.join(own(&|controllers| controllers.split(',').any(|name| name == "memory")));
                // In a container its own part of the tree may be all that is mounted.
                return Ok((version, if below.join("cgroup.procs").exists() { below } else { mount }));
            }
            Version::Two => {
                let own = mount.join(own(&str::is_empty));
                let gives = |group: &&Path| {
                    let given = fs::read_to_string(group.join("cgroup.subtree_control")).unwrap_or_default();
                    group.starts_with(&mount) && given.split_whitespace().any(|name| name == "memory")
                };
                match own.ancestors().find(gives) {
                    Some(group) => return Ok((version, group.to_owned())),
                    None => refused = format!("no group above {} gives memory to others", own.display()),
                }
            }
        }
    }
    Err(io::Error::other(refused))
}

/// The hierarchies that may have memory, version 1 first: where both are, it has the controller.
fn mounts() -> Vec<(Version, PathBuf)> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut mounts: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            let [_, path, kind, options, ..] = words[..] else { return None };
            let version = match kind {
                "cgroup" if options.split(',').any(|option| option == "memory") => Version::One,
                "cgroup2" => Version::Two,
                _ => return None,
            };
            Some((version, PathBuf::from(path.replace("\\040", " "))))
        })
        .collect();
    mounts.sort_by_key(|(version, _)| *version == Version::Two);
    mounts
}

/// The number behind a name, in a file of such lines; 0 if it has none.
fn field(text: &str, name: &str) -> u64 {
    let number = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    number.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

fn told(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_limits_who_is_in_it_and_the_kernel_says_so_and_it_is_removed() {
        let groups = match Groups::create(1) {
            Ok(groups) => groups,
            Err(error) => return println!("skipped: no control groups for memory: {error}"),
        };
        let path = groups.paths()[0].clone();
        // 64 MiB of its own, in steps, once it is told to.
        let script = "read go; x=; i=0; while [ $i -lt 64 ]; do x=$x$(head -c 1048576 /dev/zero | tr '\\0' x); i=$((i+1)); done; echo $#";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
        groups.place(1, &mut command).unwrap();
        let mut child = command.spawn().unwrap();
        assert!(fs::read_to_string(path.join("cgroup.procs")).unwrap().contains(&child.id().to_string()));
        assert!(groups.usage(1).unwrap() > 0);
        assert_eq!(groups.counts(1).kills, 0);
        groups.limit(1, 16 << 20).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        child.wait().unwrap();
        let Counts { hits, kills } = groups.counts(1);
        assert!(hits > 0 && kills > 0, "{hits} {kills}");
        groups.unlimit(1).unwrap();
        drop(groups);
        assert!(!path.exists());
    }

    #[test]
    fn a_group_that_a_dead_harness_left_is_swept_and_that_of_a_living_one_is_not() {
        let Ok((_, parent)) = parent() else { return println!("skipped: no control groups for memory") };
        // Above any pid that there can be.
        let (dead, alive) = (parent.join(format!("{PREFIX}4194305-0-n1")), Groups::create(1).unwrap());
        if let Err(error) = fs::create_dir(&dead) {
            assert!(dead.exists(), "{error}");
        }
        sweep();
        assert!(!dead.exists() && alive.paths()[0].exists());
    }

    #[test]
    fn numbers_and_owners_are_read_from_what_the_kernel_writes() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!((field(text, "oom_kill"), field(text, "oom"), field("", "max")), (3, 0, 0));
        assert_eq!(
            (owner("whitewater-17-0-n2"), owner("whitewater-probe-1"), owner("other")),
            (Some(17), None, None)
        );
    }
}
