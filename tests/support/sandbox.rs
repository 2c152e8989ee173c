//! A place for one test: an empty working directory, an empty TMPDIR and an empty HOME that must stay empty, and room for runs.
//! What the programs do there is for the tests to say.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::binaries::binaries;
use crate::cluster_lock::{ClusterLock, cluster_lock};
use crate::output::Said;
use crate::processes;

/// Directories that no program may write to unasked.
const OFF_LIMITS: [&str; 3] = ["cwd", "tmp", "home"];

/// The place, with the right to run a cluster in it. All of it vanishes in the end.
#[derive(Debug)]
pub struct Sandbox {
    dir: TempDir,
    _lock: ClusterLock,
}

impl Sandbox {
    /// A fresh place; waits for the right to run a cluster.
    ///
    /// # Panics
    /// When there is no place for temporary files.
    pub fn new() -> Sandbox {
        binaries(); // before the lock: a build may take long
        let lock = cluster_lock();
        let dir = TempDir::with_prefix("whitewater-").expect("there is a place for temporary files");
        for name in OFF_LIMITS.iter().chain(&["runs"]) {
            std::fs::create_dir(dir.path().join(name)).expect("a fresh directory takes directories");
        }
        Sandbox { dir, _lock: lock }
    }

    /// Its root.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where a run directory called `name` may be made.
    pub fn out(&self, name: &str) -> PathBuf {
        self.path().join("runs").join(name)
    }

    /// A command that starts in the empty directories, with nothing on stdin.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path().join("cwd")).stdin(Stdio::null());
        command.env("TMPDIR", self.path().join("tmp")).env("HOME", self.path().join("home"));
        command
    }

    /// `harness ARGS --out OUT`, not started yet.
    pub fn harness(&self, args: &[&str], out: &Path) -> Command {
        let mut command = self.command(&binaries().harness);
        command.args(args).arg("--out").arg(out);
        command
    }

    /// Runs `harness ARGS --out OUT` to its end.
    pub fn run(&self, args: &[&str], out: &Path) -> Said {
        Said::of(&mut self.harness(args, out))
    }

    /// Runs `checker ARGS PATH`.
    pub fn checker(&self, args: &[&str], path: &Path) -> Said {
        Said::of(self.command(&binaries().checker).args(args).arg(path))
    }

    /// Copies the honest node and the harness to where anybody may execute them, and opens the place to everybody. Gives the path
    /// of the harness.
    ///
    /// # Panics
    /// When the copies cannot be made.
    pub fn open_to_everybody(&self) -> PathBuf {
        let programs = self.path().join("programs");
        std::fs::create_dir(&programs).expect("a fresh directory takes directories");
        for program in [&binaries().node, &binaries().harness] {
            let name = program.file_name().expect("a program has a name");
            std::fs::copy(program, programs.join(name)).expect("a program can be copied");
        }
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
        };
        open(self.path(), 0o755);
        open(&programs, 0o755);
        for name in OFF_LIMITS.iter().chain(&["runs"]) {
            open(&self.path().join(name), 0o777);
        }
        programs.join(binaries().harness.file_name().expect("a program has a name"))
    }

    /// Asserts that no process of this place lives, soon, and that nothing was written outside the run directories.
    ///
    /// # Panics
    /// When something is left.
    pub fn assert_nothing_left(&self) {
        processes::wait_gone(self.path());
        for name in OFF_LIMITS {
            let entries = std::fs::read_dir(self.path().join(name)).expect("nobody removes it");
            let left: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            assert!(left.is_empty(), "written outside the run directory: {left:?}");
        }
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Sandbox::new()
    }
}

impl Drop for Sandbox {
    /// A test that failed leaves no cluster behind for the next one.
    fn drop(&mut self) {
        for found in processes::mentioning(self.path()) {
            // It may have ended since.
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(found.pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
}
