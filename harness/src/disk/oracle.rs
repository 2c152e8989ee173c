//! Our disk against ext4, which others wrote and trust: the same random programs of file operations on both, a crash, and what ours
//! calls durable must be there. The crash of ext4 is the ioctl that shuts it down without writing its journal out.
//! Skipped, and said so, without the right to mount or a loop device.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// `EXT4_IOC_SHUTDOWN` of the kernel's fs/ext4/ext4.h.
const SHUTDOWN: u64 = 0x8004_587d;
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: what is not in the journal on disk is gone.
const WITHOUT_LOG: u32 = 2;
/// Programs that are compared.
const PROGRAMS: u64 = 12;
/// Operations of one.
const OPERATIONS: usize = 40;

/// A shell script of random operations on few names, so that they meet. Each line succeeds or fails alike on both.
fn program(seed: u64) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut script = "mkdir d e; : > a; sync . d e a\n".to_owned();
    for _ in 0..OPERATIONS {
        let mut file = || {
            let directory = ["", "", "d/", "e/"][rng.random_range(0..4)];
            format!("{directory}{}", ["a", "b", "c"][rng.random_range(0..3)])
        };
        let (one, other) = (file(), file());
        let (size, offset) = (rng.random_range(1..9_000), rng.random_range(0..9_000));
        let letter = char::from(rng.random_range(b'a'..=b'z'));
        let bytes = format!("head -c {size} /dev/zero | tr '\\0' {letter}");
        let _ = match rng.random_range(0..15) {
            0..3 => writeln!(script, "{bytes} >> {one}"),
            3..5 => writeln!(
                script,
                "[ -e {one} ] && {bytes} | dd of={one} bs=16384 iflag=fullblock oflag=seek_bytes seek={offset} conv=notrunc status=none"
            ),
            5 => writeln!(script, "{bytes} > {one}"),
            6 => writeln!(script, "[ -e {one} ] && truncate -s {offset} {one}"),
            7..9 => writeln!(script, "[ -e {one} ] && sync {one}"),
            9 => writeln!(script, "[ -e {one} ] && sync -d {one}"),
            10 => writeln!(script, "sync {}", [".", "d", "e"][rng.random_range(0..3)]),
            11 => writeln!(script, "mv {one} {other}"),
            12 => writeln!(script, "ln {one} {other}"),
            13 => writeln!(script, "rm {one}"),
            _ => writeln!(script, "mv d/b e/b; mkdir d/x; rmdir e/x; mv d/x e/x"),
        };
    }
    script
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn of_image(image: &Image) -> Files {
    image.files().into_iter().map(|(path, _)| (path.clone(), image.read(&path).unwrap())).collect()
}

fn of_directory(root: &Path) -> Files {
    let (mut files, mut left) = (Files::new(), vec![root.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                files.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn command(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Unmounts. A process that another test is just starting may hold an open file for a moment.
fn unmount(at: &str) -> Result<(), String> {
    let started = std::time::Instant::now();
    loop {
        match command("umount", &[at]) {
            Err(error) if error.contains("busy") && started.elapsed().as_secs() < 10 => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

/// What ext4 holds after a program and a crash; an error if this machine has no ext4 on a loop device.
fn on_ext4(script: &Path) -> Result<Files, String> {
    // Mounted where nobody else sees it, by a thread that ends.
    let script = script.to_owned();
    let thread = std::thread::spawn(move || {
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        let alone = unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS);
        alone
            .and_then(|()| mount(None::<&str>, "/", None::<&str>, private, None::<&str>))
            .map_err(|error| format!("no mount namespace: {error}"))?;
        let directory = tempfile::tempdir().unwrap();
        let (image, root) = (directory.path().join("image"), directory.path().join("root"));
        fs::create_dir(&root).unwrap();
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let (image, at) = (image.display().to_string(), root.display().to_string());
        command("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", &image])?;
        // It commits when it is asked to, and not in between.
        command("mount", &["-o", "loop,commit=300", &image, &at])?;
        command("sh", &["-c", &format!("rmdir {at}/lost+found; sync {at}")])?;
        let ran = command("sh", &["-c", &format!("cd {at} && . {} 2>&1; true", script.display())]);
        let root_file = fs::File::open(&root).unwrap();
        // SAFETY: the ioctl reads one 32-bit number behind the pointer, which lives longer than the call.
        let down = unsafe { nix::libc::ioctl(root_file.as_raw_fd(), SHUTDOWN as _, &WITHOUT_LOG) };
        drop(root_file);
        unmount(&at)?;
        ran?;
        if down != 0 {
            return Err(format!("no shutdown of ext4: {}", std::io::Error::last_os_error()));
        }
        command("mount", &["-o", "loop", &image, &at])?;
        let files = of_directory(&root);
        unmount(&at)?;
        Ok(files)
    });
    thread.join().unwrap()
}

/// Both after the same program: ours as processes saw it, what of it ours calls durable by either model, and ext4.
fn both(seed: u64) -> Result<(Files, [Files; 2], Files), String> {
    if let Some(reason) = refused() {
        return Err(format!("no disks of the harness's own: {reason}"));
    }
    let directory = tempfile::tempdir().unwrap();
    let run_dir = RunDir::open(directory.path());
    let script = directory.path().join("program.sh");
    fs::write(&script, program(seed)).unwrap();
    let disks = Disks::create(&run_dir, 1, &[]).unwrap();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("cd {} && . {} 2>&1; true", run_dir.data(1).display(), script.display())]);
    disks.enter(1, &mut shell).unwrap();
    shell.output().unwrap();
    let disk = disks.of(1).unwrap();
    let durable =
        [Entries::Journal, Entries::Directory].map(|entries| of_image(&disk.durable_image(entries)));
    Ok((of_image(&disk.image()), durable, on_ext4(&script)?))
}

#[test]
fn what_ours_calls_durable_is_on_ext4_after_a_crash() {
    let (mut files, mut bytes, mut more) = (0, 0, 0);
    for seed in 0..PROGRAMS {
        let (now, [journal, directory], ext4) = match both(seed) {
            Ok(both) => both,
            Err(reason) => {
                println!("skipped: {reason}");
                return;
            }
        };
        let context = format!("program {seed}:\n{}", program(seed));
        for (path, durable) in &journal {
            let Some(found) = ext4.get(path) else { panic!("{} is not on ext4\n{context}", path.display()) };
            // What was overwritten and not flushed may be there, or not; nothing else.
            let later = now.get(path);
            assert!(
                found.len() >= durable.len().min(later.map_or(0, Vec::len)),
                "{}\n{context}",
                path.display()
            );
            for (at, byte) in durable.iter().enumerate().take(found.len()) {
                let is = found[at];
                let overwritten = later.is_some_and(|later| later.get(at) == Some(&is));
                assert!(is == *byte || overwritten, "{} byte {at}\n{context}", path.display());
            }
            bytes += durable.len();
        }
        // A directory alone promises less than the journal. Names that were removed and not flushed may come back.
        let kept = directory.iter().filter(|(path, _)| now.contains_key(*path));
        for (path, _) in kept {
            assert!(
                journal.contains_key(path),
                "{} is promised by its directory alone\n{context}",
                path.display()
            );
        }
        files += journal.len();
        more += ext4.keys().filter(|path| !journal.contains_key(*path)).count();
    }
    assert!(
        files > 20 && bytes > 50_000,
        "{files} files, {bytes} bytes: the programs flush too little to say anything"
    );
    println!(
        "{PROGRAMS} programs: {files} durable files, {bytes} bytes, all on ext4, which kept {more} names more"
    );
}

#[test]
fn programs_are_the_same_for_the_same_seed() {
    assert_eq!(program(3), program(3));
    assert_ne!(program(3), program(4));
}
