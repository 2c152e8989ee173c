//! The clocks of other processes: what they read from now on, by their own vDSO, private to each of them. Nothing else of the machine
//! changes, and no other process does.
//!
//! Programs read clocks by functions that the kernel maps into them, in C, Rust and Go alike, static or not. Those functions are
//! overwritten in the one process, by what asks the kernel and bends the answer by a table ([`stub`]). Kernel timers (how long a
//! `poll` sleeps) are not bent. x86-64 alone. Where that is refused our own node can still be told a wrong time: [`file`].

pub mod file;
mod image;
#[cfg(target_arch = "x86_64")]
mod stub;
#[cfg(not(target_arch = "x86_64"))]
#[path = "no_stub.rs"]
mod stub;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::dud::{self, Reach};
use image::Image;
use stub::{Bend, TABLE_CLOCKS};

/// Clocks that tell the time of day: CLOCK_REALTIME and its coarse one.
const WALL: [i32; 2] = [0, 5];
/// Clocks that never go back: CLOCK_MONOTONIC, the raw one, the coarse one.
const MONOTONIC: [i32; 3] = [1, 4, 6];
/// CLOCK_BOOTTIME never goes back either. It does not jump with them: who compares two clocks sees that one of them jumped.
const BOOT: [i32; 1] = [7];
/// How fast a monotonic clock runs that is ahead, until the time has caught up: it must not go back.
const CATCHING_UP: f64 = 0.5;

/// Looks at a clock for one answer.
const LOOKS: u32 = 8;

/// How clocks are bent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bending {
    /// In the memory of any process.
    #[default]
    Memory,
    /// By a file that our own node asks.
    File,
}

impl Bending {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Bending::Memory => "memory",
            Bending::File => "file",
        }
    }
}

/// What the clocks of a process do from a moment on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Skew {
    /// Jump of the wall clock.
    pub wall_ms: i64,
    /// Jump of the monotonic clock, which goes forward alone.
    pub monotonic_ms: u32,
    /// How fast both run, 1.0 is as they should.
    pub rate: f64,
}

/// How far the clocks of a process are from the time, milliseconds; positive is ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Offsets {
    /// CLOCK_REALTIME.
    pub wall_ms: f64,
    /// CLOCK_MONOTONIC.
    pub monotonic_ms: f64,
}

/// Whether clocks of any process can be bent here.
pub fn is_possible() -> bool {
    refused().is_none()
}

/// Why they cannot: it takes x86-64, a kernel whose vDSO is as large as it must be, and the right to write to the memory of a child.
pub fn refused() -> Option<String> {
    let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let tried = child.and_then(|mut child| {
        let tried = echo(&mut child)
            .and_then(|()| Target::open(child.id()))
            .and_then(|target| target.write_what_is_there());
        child.kill()?;
        child.wait()?;
        tried
    });
    tried.err().map(|error| error.to_string())
}

/// Waits until a child that says what it hears does so: until then the kernel may not have mapped everything.
fn echo(child: &mut Child) -> io::Result<()> {
    let (Some(stdin), Some(stdout)) = (&mut child.stdin, &mut child.stdout) else { return Ok(()) };
    stdin.write_all(b"x")?;
    stdout.read_exact(&mut [0])
}

/// Bends the clocks of processes, of which every thread is stopped, from where they are now: of all of them, or of none.
///
/// # Errors
/// Their memory may not be written, a vDSO is another than this process has, or a thread is just reading a clock
/// ([`io::ErrorKind::WouldBlock`]: let it run, stop it, and try again).
pub fn bend(pids: &[u32], skew: &Skew) -> io::Result<()> {
    let targets = pids.iter().map(|pid| Target::open(*pid)).collect::<io::Result<Vec<_>>>()?;
    targets.iter().try_for_each(Target::check_outside)?;
    targets.iter().try_for_each(|target| bend_one(target, skew))
}

fn bend_one(target: &Target, skew: &Skew) -> io::Result<()> {
    let mut bends = [Bend::default(); TABLE_CLOCKS];
    let monotonic_ms = i64::from(skew.monotonic_ms);
    for (clocks, jump_ms) in [(&WALL[..], skew.wall_ms), (&MONOTONIC[..], monotonic_ms), (&BOOT[..], 0)] {
        for &clock in clocks {
            let (now_ns, shown_ns) = target.read_clock(clock)?;
            let from_ns = shown_ns.saturating_add_signed(jump_ms * 1_000_000);
            bends[clock as usize] = Bend::at(now_ns, from_ns, skew.rate);
        }
    }
    target.write(&bends)
}

/// Gives processes their clocks back, of which every thread is stopped. A monotonic clock that is ahead goes at half the speed until the
/// time has caught up with it.
///
/// # Errors
/// As [`bend`].
pub fn restore(pids: &[u32]) -> io::Result<()> {
    let targets = pids.iter().map(|pid| Target::open(*pid)).collect::<io::Result<Vec<_>>>()?;
    targets.iter().try_for_each(Target::check_outside)?;
    targets.iter().try_for_each(restore_one)
}

fn restore_one(target: &Target) -> io::Result<()> {
    if !target.is_bent()? {
        return Ok(());
    }
    let mut bends = [Bend::default(); TABLE_CLOCKS];
    for clock in MONOTONIC.into_iter().chain(BOOT) {
        let (now_ns, shown_ns) = target.read_clock(clock)?;
        if shown_ns > now_ns {
            bends[clock as usize] = Bend::at(now_ns, shown_ns, CATCHING_UP).not_before_the_time();
        }
    }
    if bends.iter().all(|bend| *bend == Bend::default()) { target.unwrite() } else { target.write(&bends) }
}

/// Whether a process has bent clocks.
///
/// # Errors
/// Its memory may not be read.
pub fn is_bent(pid: u32) -> io::Result<bool> {
    Target::open(pid)?.is_bent()
}

/// How far the clocks of a process are from the time: by running, in this process, the very code that it has in its memory.
///
/// # Errors
/// Its memory may not be read.
pub fn offsets(pid: u32) -> io::Result<Offsets> {
    let target = Target::open(pid)?;
    let ms = |(now_ns, shown_ns): (u64, u64)| (shown_ns as f64 - now_ns as f64) / 1e6;
    Ok(Offsets {
        wall_ms: ms(target.read_clock(WALL[0])?),
        monotonic_ms: ms(target.read_clock(MONOTONIC[0])?),
    })
}

/// Another process, and the functions of its vDSO.
struct Target {
    pid: u32,
    memory: File,
    image: Image,
}

impl Target {
    fn open(pid: u32) -> io::Result<Target> {
        let image = Image::of(pid)?;
        let own = Image::of(std::process::id())?;
        if image.functions != own.functions || !image.holds(stub::code().len()) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "its vDSO is not that of this machine's programs",
            ));
        }
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
        Ok(Target { pid, memory, image })
    }

    /// Where the code and its table are.
    fn place(&self) -> u64 {
        self.image.base + self.image.functions.clock_gettime.0
    }

    fn is_bent(&self) -> io::Result<bool> {
        let code = stub::code();
        let mut found = vec![0; code.len() - stub::TABLE_BYTES];
        self.memory.read_exact_at(&mut found, self.place())?;
        Ok(found == code[..found.len()])
    }

    /// The time, and what the process takes it to be, of a clock in nanoseconds.
    fn read_clock(&self, clock: i32) -> io::Result<(u64, u64)> {
        if !self.is_bent()? {
            let now = now_ns(clock)?;
            return Ok((now, now));
        }
        let mut code = vec![0; stub::code().len()];
        self.memory.read_exact_at(&mut code, self.place())?;
        // Between two looks at the time: the nearest of some, because a thread may be put aside in between.
        let mut nearest: Option<(u64, u64, u64)> = None;
        for _ in 0..LOOKS {
            let before = now_ns(clock)?;
            let shown = stub::run(&code, clock)?;
            let gap = now_ns(clock)?.saturating_sub(before);
            if nearest.is_none_or(|(least, _, _)| gap < least) {
                nearest = Some((gap, before + gap / 2, shown));
            }
        }
        nearest.map(|(_, now, shown)| (now, shown)).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Fails if a thread is within the functions: it would go on in the middle of others.
    fn check_outside(&self) -> io::Result<()> {
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let Ok(text) = fs::read_to_string(thread?.path().join("syscall")) else { continue };
            // "running", or numbers of which the last is the program counter.
            let counter = text.split_whitespace().last().and_then(|word| word.strip_prefix("0x"));
            let counter = counter.and_then(|hex| u64::from_str_radix(hex, 16).ok());
            if counter.is_none_or(|counter| self.image.contains(counter)) {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, "a thread is reading a clock"));
            }
        }
        Ok(())
    }

    /// Changes nothing, but may be refused.
    fn write_what_is_there(&self) -> io::Result<()> {
        let mut bytes = [0; 16];
        self.memory.read_exact_at(&mut bytes, self.place())?;
        self.memory.write_all_at(&bytes, self.place())
    }

    fn write(&self, bends: &[Bend; TABLE_CLOCKS]) -> io::Result<()> {
        let code = stub::with_table(bends);
        if !dud::is_at(Reach::Clock) {
            self.overwrite(&code)?;
        }
        // Whether it is there is seen, not believed.
        let mut found = vec![0; code.len()];
        self.memory.read_exact_at(&mut found, self.place())?;
        if found == code { Ok(()) } else { Err(io::Error::other("what was written is not there")) }
    }

    fn overwrite(&self, code: &[u8]) -> io::Result<()> {
        self.memory.write_all_at(code, self.place())?;
        let functions = &self.image.functions;
        for ((at, _), entry) in
            [(functions.gettimeofday, stub::gettimeofday()), (functions.time, stub::time())]
        {
            let to = functions.clock_gettime.0 + entry as u64;
            self.memory.write_all_at(&stub::jump(at, to), self.image.base + at)?;
        }
        Ok(())
    }

    /// Writes the functions as this process has them: all processes have the same.
    fn unwrite(&self) -> io::Result<()> {
        let own = Image::of(std::process::id())?;
        let memory = File::open("/proc/self/mem")?;
        for (at, length) in own.functions.all() {
            let mut bytes = vec![0; length as usize];
            memory.read_exact_at(&mut bytes, own.base + at)?;
            self.memory.write_all_at(&bytes, self.image.base + at)?;
        }
        Ok(())
    }
}

fn now_ns(clock: i32) -> io::Result<u64> {
    let now = Duration::from(clock_gettime(ClockId::from_raw(clock))?);
    Ok(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::time::Instant;

    use nix::libc;
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    /// Set for the process that is the child of a test.
    const CHILD: &str = "WHITEWATER_CLOCK_CHILD";

    /// What a child reads.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Read {
        wall_ms: i64,
        monotonic_ms: i64,
        gettimeofday_ms: i64,
        time_s: i64,
    }

    impl Read {
        fn now() -> Read {
            let ms = |clock| now_ns(clock).unwrap() as i64 / 1_000_000;
            let mut tv = libc::timeval { tv_sec: 0, tv_usec: 0 };
            // SAFETY: both write what they are given to write to, or nothing.
            let time_s = unsafe {
                libc::gettimeofday(&raw mut tv, std::ptr::null_mut());
                libc::time(std::ptr::null_mut())
            };
            Read {
                wall_ms: ms(0),
                monotonic_ms: ms(1),
                gettimeofday_ms: tv.tv_sec * 1_000 + tv.tv_usec / 1_000,
                time_s,
            }
        }
    }

    /// Not a test but a program: it says what its clocks read, until nobody listens.
    #[test]
    fn child() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        loop {
            let Read { wall_ms, monotonic_ms, gettimeofday_ms, time_s } = Read::now();
            println!("clocks {wall_ms} {monotonic_ms} {gettimeofday_ms} {time_s}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    struct Clocks {
        child: Child,
        lines: Option<std::io::Lines<BufReader<std::process::ChildStdout>>>,
    }

    impl Clocks {
        fn start() -> Option<Clocks> {
            if !is_possible() {
                println!("skipped: clocks cannot be bent on this machine");
                return None;
            }
            let mut command = Command::new(std::env::current_exe().unwrap());
            command
                .args(["clock::tests::child", "--exact", "--nocapture", "--test-threads=1"])
                .env(CHILD, "1");
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            Some(Clocks { child, lines: Some(lines) })
        }

        /// A process that says nothing of its clocks.
        fn of(child: Child) -> Clocks {
            Clocks { child, lines: None }
        }

        fn next(&mut self) -> Read {
            loop {
                let line = self.lines.as_mut().unwrap().next().unwrap().unwrap();
                let Some((_, rest)) = line.split_once("clocks ") else { continue };
                let numbers: Vec<i64> = rest.split_whitespace().map(|word| word.parse().unwrap()).collect();
                if let [wall_ms, monotonic_ms, gettimeofday_ms, time_s] = numbers[..] {
                    return Read { wall_ms, monotonic_ms, gettimeofday_ms, time_s };
                }
            }
        }

        /// What it reads, read after now: lines from before are in the pipe. How far it is from the time, at most 2 s late.
        fn read_until(&mut self, what: &str, condition: impl Fn(&Read, &Read) -> bool) -> Read {
            let started = Instant::now();
            loop {
                let (read, now) = (self.next(), Read::now());
                if condition(&read, &now) {
                    return read;
                }
                assert!(started.elapsed() < Duration::from_secs(20), "{what}: {read:?} at {now:?}");
            }
        }

        /// Does something while every thread is stopped, again until no thread is reading a clock.
        fn stopped(&self, action: impl Fn(&[u32]) -> io::Result<()>) {
            let pid = Pid::from_raw(self.child.id() as i32);
            for _ in 0..1_000 {
                kill(pid, Signal::SIGSTOP).unwrap();
                let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
                while !state().rsplit_once(')').unwrap().1.trim_start().starts_with('T') {}
                let done = action(&[self.child.id()]);
                kill(pid, Signal::SIGCONT).unwrap();
                match done {
                    Ok(()) => return,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => panic!("{error}"),
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            panic!("a thread was always reading a clock");
        }
    }

    impl Drop for Clocks {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// Whether two times are as near as a loaded machine lets them be read.
    fn near(a: i64, b: i64) -> bool {
        (a - b).abs() < 3_000
    }

    #[test]
    fn a_jump_moves_every_way_to_read_the_clock_of_one_process_and_is_healed() {
        let Some(mut clocks) = Clocks::start() else { return };
        clocks.next();
        let pid = clocks.child.id();
        assert_eq!(offsets(pid).unwrap(), Offsets::default());
        let (day, minute) = (86_400_000, 60_000);
        clocks.stopped(|pids| bend(pids, &Skew { wall_ms: -day, monotonic_ms: 60_000, rate: 1.0 }));
        clocks.read_until("all four jumped", |read, now| {
            near(read.wall_ms, now.wall_ms - day)
                && near(read.gettimeofday_ms, now.wall_ms - day)
                && near(read.time_s * 1_000, now.wall_ms - day)
                && near(read.monotonic_ms, now.monotonic_ms + minute)
        });
        let seen = offsets(pid).unwrap();
        assert!(
            (seen.wall_ms + day as f64).abs() < 1_000.0 && (seen.monotonic_ms - 6e4).abs() < 1_000.0,
            "{seen:?}"
        );
        // A second jump adds to the first.
        clocks.stopped(|pids| bend(pids, &Skew { wall_ms: 2 * day, monotonic_ms: 0, rate: 1.0 }));
        clocks.read_until("ahead by a day", |read, now| near(read.wall_ms, now.wall_ms + day));
        clocks.stopped(restore);
        let healed = |read: &Read, now: &Read| {
            near(read.wall_ms, now.wall_ms)
                && near(read.gettimeofday_ms, now.wall_ms)
                && near(read.time_s * 1_000, now.wall_ms)
        };
        let first = clocks.read_until("the wall clock is right", healed);
        let last = clocks.read_until("it goes on", |read, _| read.monotonic_ms > first.monotonic_ms + 200);
        // It is ahead and must not go back: half the speed.
        let (shown, took) = (last.monotonic_ms - first.monotonic_ms, last.wall_ms - first.wall_ms);
        assert!(shown * 10 < took * 7 && shown * 10 > took * 3, "{shown} ms in {took} ms");
        // No other process has noticed.
        assert_eq!(offsets(std::process::id()).unwrap(), Offsets::default());
    }

    #[test]
    fn a_rate_is_kept_and_is_healed_without_a_step_back() {
        let Some(mut clocks) = Clocks::start() else { return };
        clocks.next();
        let pid = clocks.child.id();
        clocks.stopped(|pids| bend(pids, &Skew { wall_ms: 0, monotonic_ms: 0, rate: 0.25 }));
        let behind = |offset_ms: f64| {
            let started = Instant::now();
            while offsets(pid).unwrap().monotonic_ms > offset_ms {
                assert!(started.elapsed() < Duration::from_secs(20));
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        behind(-100.0);
        let (first, before) = (offsets(pid).unwrap(), Instant::now());
        behind(-600.0);
        let (lost, took) =
            (first.monotonic_ms - offsets(pid).unwrap().monotonic_ms, before.elapsed().as_secs_f64() * 1e3);
        assert!(lost <= took * 0.8 && lost >= took * 0.4, "{lost} ms lost in {took} ms");
        clocks.stopped(restore);
        assert!(!is_bent(pid).unwrap(), "a clock that was behind is right at once");
        clocks.read_until("right again", |read, now| near(read.monotonic_ms, now.monotonic_ms));
        clocks.stopped(|pids| bend(pids, &Skew { wall_ms: 0, monotonic_ms: 0, rate: 3.0 }));
        behind(f64::INFINITY);
        let started = Instant::now();
        while offsets(pid).unwrap().monotonic_ms < 200.0 {
            assert!(started.elapsed() < Duration::from_secs(20));
        }
        clocks.stopped(restore);
        let ahead = offsets(pid).unwrap();
        assert!(ahead.wall_ms.abs() < 1.0 && ahead.monotonic_ms > 0.0, "{ahead:?}");
        // Half the speed until the time has caught up.
        let caught_up = Instant::now();
        while offsets(pid).unwrap().monotonic_ms > 1.0 {
            assert!(caught_up.elapsed() < Duration::from_secs(120));
            std::thread::sleep(Duration::from_millis(5));
        }
        let (mut last, started) = (0, Instant::now());
        while started.elapsed() < Duration::from_millis(50) {
            let read = clocks.next();
            assert!(read.monotonic_ms >= last, "{read:?} after {last}");
            last = read.monotonic_ms;
        }
    }

    #[test]
    fn a_program_in_go_logs_the_time_that_it_is_shown() {
        if !is_possible() || Command::new("etcd").arg("--version").output().is_err() {
            println!("skipped: clocks cannot be bent on this machine, or there is no etcd");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let addresses = crate::cluster::Addresses::claim(1).unwrap();
        let [client, peer] = [0, 1].map(|rank| format!("http://{}", addresses.port(1, rank)));
        let log = dir.path().join("log");
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(dir.path().join("data")).env("TZ", "UTC");
        for (flag, url) in [
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", peer.clone()),
            ("--initial-advertise-peer-urls", peer.clone()),
            ("--initial-cluster", format!("default={peer}")),
        ] {
            command.arg(flag).arg(url);
        }
        let output = || File::options().create(true).append(true).open(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(output()).stderr(output()).spawn().unwrap();
        let mut clocks = Clocks::of(child);
        let said = |text: &str| fs::read_to_string(&log).unwrap().contains(text);
        let wait = |text: &str| {
            let started = Instant::now();
            while !said(text) {
                assert!(started.elapsed() < Duration::from_secs(60), "{}", fs::read_to_string(&log).unwrap());
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        wait("ready to serve");
        let in_a_month = std::time::SystemTime::now() + Duration::from_secs(30 * 86_400);
        let month = humantime::format_rfc3339(in_a_month).to_string()[..7].to_owned();
        assert!(!said(&month), "{month} is not yet");
        clocks.stopped(|pids| bend(pids, &Skew { wall_ms: 30 * 86_400_000, monotonic_ms: 0, rate: 1.0 }));
        kill(Pid::from_raw(clocks.child.id() as i32), Signal::SIGTERM).unwrap();
        wait(&month);
        clocks.child.wait().unwrap();
    }

    #[test]
    fn whether_clocks_can_be_bent_is_found_out_the_same_every_time() {
        let first = refused();
        assert!((0..50).all(|_| refused() == first), "{first:?}");
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(offsets(u32::MAX / 4).is_err());
    }
}
