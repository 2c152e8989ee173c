//! Disks as processes see them: `sh` and coreutils on a mount, in front of every fault. Skipped, and said so, where there is no mount.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use super::*;

/// How coreutils say EIO; `sh` says it shorter.
const EIO: &str = "Input/output error";

/// An empty disk for one node in a directory of its own.
struct Bench {
    disks: Disks,
    run_dir: RunDir,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Option<Bench> {
        if let Some(reason) = refused() {
            println!("skipped: no disks of the harness's own on this machine: {reason}");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let run_dir = RunDir::open(directory.path());
        let disks = Disks::create(&run_dir, 1, &["trace"]).unwrap();
        Some(Bench { disks, run_dir, _directory: directory })
    }

    fn disk(&self) -> &Disk {
        self.disks.of(1).unwrap()
    }

    /// Runs a script in the root of the disk.
    fn run(&self, script: &str) -> Output {
        let mut command = Command::new("/bin/sh");
        let data = std::path::absolute(self.run_dir.data(1)).unwrap();
        command.args(["-c", &format!("cd {} && {script}", data.display())]);
        self.disks.enter(1, &mut command).unwrap();
        command.output().unwrap()
    }

    /// What a script prints, which succeeds.
    fn says(&self, script: &str) -> String {
        let output = self.run(script);
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What a script that fails complains about.
    fn fails(&self, script: &str) -> String {
        let output = self.run(script);
        assert!(!output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stderr).unwrap().replace("I/O error", "Input/output error")
    }

    fn lose(&self, entries: Entries) {
        self.disks.unmount(1).unwrap();
        self.disk().lose(entries, None);
    }
}

#[test]
fn processes_find_a_whole_file_system_there_and_nobody_else_finds_it() {
    let Some(bench) = Bench::new() else { return };
    bench
        .says("mkdir -p a/b && echo one > a/b/f && ln a/b/f g && ln -s a/b/f h && mv g a/i && echo two >> h");
    assert_eq!(bench.says("cat a/i && ls -R . | tr '\\n' ' '"), "one\ntwo\n.: a h trace  ./a: b i  ./a/b: f");
    assert_eq!(bench.says("stat -c '%h %s %F' a/i"), "2 8 regular file");
    assert_eq!(
        bench.says("truncate -s 100000 big && stat -c %s big && rm big && rm a/i && stat -c %h h -L"),
        "100000\n1"
    );
    assert_eq!(bench.says("chmod 640 a/b/f && stat -c %a a/b/f"), "640");
    assert!(bench.fails("rmdir a").contains("not empty"));
    assert!(bench.fails("mkdir a").contains("exists"));
    assert_eq!(
        bench.says(
            "mkdir many && for i in $(seq 500); do : > many/$i; done; ls many | wc -l && rm -r many && ls"
        ),
        "500\na\nh\ntrace"
    );
    // The mount is in a namespace of the nodes: here the directory holds nothing but what is kept beside.
    let seen: Vec<_> =
        fs::read_dir(bench.run_dir.data(1)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(seen, ["trace"]);
    let path = bench.run_dir.data(1).display().to_string();
    assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains(&path));
}

#[test]
fn what_is_mapped_is_what_is_written() {
    let Some(bench) = Bench::new() else { return };
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: there is no python3 here");
        return;
    }
    let script = "import mmap,os,fcntl\n\
                  f=os.open('m',os.O_RDWR|os.O_CREAT); os.ftruncate(f,8192)\n\
                  m=mmap.mmap(f,8192); os.pwrite(f,b'written',0); assert m[:7]==b'written'\n\
                  m[4096:4102]=b'mapped'; assert os.pread(f,6,4096)==b'mapped'\n\
                  os.posix_fallocate(f,8192,4096); assert os.fstat(f).st_size==12288\n\
                  fcntl.flock(f,fcntl.LOCK_EX); m.flush(); os.fsync(f)\n\
                  g=os.open('m',os.O_RDWR)\n\
                  try: fcntl.flock(g,fcntl.LOCK_EX|fcntl.LOCK_NB); assert False\n\
                  except BlockingIOError: pass\n";
    fs::write(bench.run_dir.path().join("m.py"), script).unwrap();
    bench.says(&format!("python3 {}", bench.run_dir.path().join("m.py").display()));
    let bytes = bench.disk().durable_image(Entries::Journal).read(Path::new("m")).unwrap();
    assert_eq!((&bytes[..7], &bytes[4096..4102]), (&b"written"[..], &b"mapped"[..]));
}

#[test]
fn a_power_loss_takes_what_was_not_flushed_and_names_as_the_model_says() {
    let Some(bench) = Bench::new() else { return };
    bench.says(
        "echo 1 > old && sync old && sync . && echo 2 >> old && echo 3 > new && echo 4 > never && sync new",
    );
    let of = |entries| {
        let image = bench.disk().durable_image(entries);
        image.files().into_iter().map(|(path, size)| format!("{} {size}", path.display())).collect::<Vec<_>>()
    };
    // The flush of `new` wrote the journal, and with it the name of `never`, whose bytes nobody flushed.
    assert_eq!(of(Entries::Journal), ["never 0", "new 2", "old 2"]);
    assert_eq!(of(Entries::Directory), ["old 2"]);
    let before = bench.disk().image();
    bench.lose(Entries::Directory);
    assert_eq!(bench.says("ls && cat old"), "old\ntrace\n1");
    let difference = before.difference(&bench.disk().image());
    assert_eq!((difference.gone, difference.bytes, difference.new), (2, 2, 0));
    // It goes on, and what is flushed from now on stays.
    bench.says("echo 5 >> old && sync old");
    bench.lose(Entries::Directory);
    assert_eq!(bench.says("cat old"), "1\n5");
}

#[test]
fn a_rename_that_was_not_flushed_is_undone_and_one_that_was_is_whole() {
    let Some(bench) = Bench::new() else { return };
    bench.says("mkdir d && echo 1 > f && sync f && sync . && sync d && echo 2 > t && sync t && mv t f");
    bench.lose(Entries::Directory);
    assert_eq!(bench.says("cat f"), "1");
    bench.says("echo 3 > t && sync t && mv t d/f && rm f && sync d");
    bench.lose(Entries::Directory);
    assert_eq!(bench.says("cat d/f && ls"), "3\nd\ntrace");
}

#[test]
fn a_flush_that_comes_when_the_power_fails_is_refused_and_durable_is_nothing_of_it() {
    let Some(bench) = Bench::new() else { return };
    bench.says("echo 1 > f && sync f && sync .");
    bench.disk().arm(Moment::Fsync);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| bench.fails("echo 2 >> f && sync f"));
        assert!(bench.disk().wait_failing(Duration::from_secs(10)));
        // Nobody is answered until the power is off.
        bench.disk().off();
        assert!(writer.join().unwrap().contains(EIO));
    });
    assert!(bench.fails("echo 3 >> f").contains(EIO));
    bench.lose(Entries::Journal);
    assert_eq!(bench.says("cat f"), "1", "entering switches it on");
}

#[test]
fn reads_writes_and_flushes_are_refused_and_heal() {
    let Some(bench) = Bench::new() else { return };
    for (access, script) in [
        (Access::Read, "cat f"),
        (Access::Write, "echo 2 >> f"),
        (Access::Fsync, "echo 3 >> f && sync f"),
        (Access::Name, "mv f g"),
    ] {
        bench.says("echo 1 > f && sync f && sync .");
        bench.disks.unmount(1).unwrap();
        let before = bench.disk().answers();
        let caused = bench.disk().set_broken(Some(access));
        assert!(bench.fails(script).contains(EIO), "{access:?}");
        let seen = bench.disk().answers().since(&before);
        assert!(bench.disk().set_broken(None) > caused);
        assert_eq!(seen.errors.keys().collect::<Vec<_>>(), [&format!("{} EIO", access.name())]);
        bench.says(script);
        bench.says("rm -f f g");
    }
    // What a failed flush was for is there to be read, and gone after a power loss although a later flush succeeded.
    bench.says("echo old > f && sync f && sync .");
    bench.disk().set_broken(Some(Access::Fsync));
    bench.fails("echo new > f && sync f");
    bench.disk().set_broken(None);
    assert_eq!(bench.says("cat f && sync f"), "new");
    bench.lose(Entries::Journal);
    assert_ne!(bench.says("cat f | tr -d '\\0'"), "new");
}

#[test]
fn a_full_disk_says_so_and_takes_what_needs_no_space() {
    let Some(bench) = Bench::new() else { return };
    bench.says("head -c 8192 /dev/zero > f && cp f g && sync");
    bench.disk().set_full(true);
    assert!(bench.fails("head -c 8192 /dev/zero >> f").contains("No space left on device"));
    assert_eq!(bench.says("df --output=avail . | tail -n 1"), "0");
    bench.says("echo x | dd of=f conv=notrunc status=none && sync f");
    // What becomes free goes to whoever filled it.
    bench.says("rm g");
    assert!(bench.fails("head -c 8192 /dev/zero >> f").contains("No space left on device"));
    assert!(bench.disk().set_full(false) > 0);
    bench.says("head -c 8192 /dev/zero >> f && sync f && rm f");
    assert_eq!(bench.disk().answers().errors.keys().collect::<Vec<_>>(), ["write ENOSPC"]);
}

#[test]
fn a_slow_flush_is_answered_late_and_durable_only_then() {
    let Some(bench) = Bench::new() else { return };
    bench.says("echo 1 > f && sync f && sync .");
    let before = bench.disk().answers();
    bench.disk().set_slow(Some(Duration::from_millis(50)));
    bench.says("echo 2 >> f && sync f");
    assert_eq!(bench.disk().set_slow(None), 1);
    let seen = bench.disk().answers().since(&before);
    assert_eq!((seen.flushes, seen.late_flushes), (1, 1));
    bench.disk().set_slow(Some(Duration::from_secs(600)));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| bench.fails("echo 3 >> f && sync f"));
        while bench.disk().image().read(Path::new("f")).unwrap() != b"1\n2\n3\n" {
            std::thread::sleep(Duration::from_millis(1));
        }
        // A flush under way looks again when its time is over, or the power.
        bench.disk().off();
        assert!(writer.join().unwrap().contains(EIO));
    });
    bench.disk().set_slow(None);
    bench.lose(Entries::Journal);
    assert_eq!(bench.says("cat f"), "1\n2");
}

#[test]
fn a_disk_rots_and_forgets() {
    let Some(bench) = Bench::new() else { return };
    bench.says("mkdir d && printf AAAA > d/f && printf BBBB > g && sync d/f g d .");
    bench.disks.unmount(1).unwrap();
    let whole = bench.disk().backup();
    let before = bench.disk().image();
    bench.disk().flip(Path::new("d/f"), 9);
    let seen = before.difference(&bench.disk().image());
    assert_eq!((seen.bits, seen.bytes, seen.gone), (1, 1, 0));
    bench.disk().cut(Path::new("g"), 1);
    assert_eq!(bench.says("cat d/f g"), "ACAAB");
    bench.disks.unmount(1).unwrap();
    bench.disk().lose_file(Path::new("d/f"));
    bench.lose(Entries::Journal);
    assert_eq!(bench.says("ls d && cat g"), "B", "nothing brings it back");
    bench.disks.unmount(1).unwrap();
    bench.disk().restore(whole);
    assert_eq!(bench.says("cat d/f g"), "AAAABBBB");
}

#[test]
fn a_file_that_is_put_there_is_durable_and_put_anew_only_if_it_is_another() {
    let Some(bench) = Bench::new() else { return };
    let put = |text: &str| bench.disks.put(1, Path::new("etc/own.conf"), text.as_bytes()).unwrap();
    put("a long first");
    bench.says("echo lost > f");
    bench.lose(Entries::Directory);
    assert_eq!(bench.says("cat etc/own.conf && ls | tr '\\n' ' '"), "a long firstetc trace");
    put("second");
    assert_eq!(bench.says("cat etc/own.conf"), "second");
    // The kernel still knows the disk if there was nothing to do.
    put("second");
    assert!(bench.disk().session.lock().unwrap().is_some());
    put("third");
    assert!(bench.disk().session.lock().unwrap().is_none());
    let error = bench.disks.put(1, Path::new("etc/own.conf/under"), b"").unwrap_err();
    assert!(error.to_string().starts_with("etc/own.conf/under: "), "{error}");
}

#[test]
fn what_is_kept_beside_survives_everything_and_all_is_put_away() {
    let Some(bench) = Bench::new() else { return };
    bench.says("echo told >> trace && mkdir d && echo 1 > d/f && head -c 5000 /dev/urandom > g && cp g d/g && sync d/f d .");
    bench.lose(Entries::Directory);
    bench.says("echo more >> trace && ln -s f d/link");
    assert_eq!(fs::read_to_string(bench.run_dir.data(1).join("trace")).unwrap(), "told\nmore\n");
    bench.disks.put_away().unwrap();
    let data = bench.run_dir.data(1);
    assert_eq!(fs::read_to_string(data.join("trace")).unwrap(), "told\nmore\n");
    assert_eq!(fs::read_to_string(data.join("d/link")).unwrap(), "1\n");
    assert!(!bench.run_dir.node(1).join("kept-trace").exists());
}

/// Whether any process sees a mount of ours below a path.
fn mounted(path: &Path) -> Vec<String> {
    let text = path.display().to_string();
    let lines = |process: PathBuf| fs::read_to_string(process.join("mounts")).unwrap_or_default();
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let lines = processes.map(lines).collect::<String>();
    lines.lines().filter(|line| line.contains(&text)).map(str::to_owned).collect()
}

#[test]
fn nothing_is_mounted_when_they_are_gone() {
    let Some(bench) = Bench::new() else { return };
    let path = bench.run_dir.data(1);
    let mut child = Command::new("sleep");
    child.arg("1000");
    bench.disks.enter(1, &mut child).unwrap();
    let mut child = child.spawn().unwrap();
    assert!(!mounted(&path).is_empty(), "the process that lives there sees it");
    child.kill().unwrap();
    child.wait().unwrap();
    let Bench { disks, _directory, .. } = bench;
    drop(disks);
    assert_eq!(mounted(&path), [""; 0]);
}
