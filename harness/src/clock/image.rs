//! The vDSO that the kernel maps into a process: where it is, and where in it the functions are that read clocks.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

/// A vDSO of this size is none.
const IMAGE_BYTES_MAX: u64 = 1 << 20;
/// Tags of the dynamic section (ELF-64).
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;

/// Of each function the distance from the begin of the image, and its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Functions {
    pub(super) clock_gettime: (u64, u64),
    pub(super) gettimeofday: (u64, u64),
    pub(super) time: (u64, u64),
}

impl Functions {
    pub(super) fn all(&self) -> [(u64, u64); 3] {
        [self.clock_gettime, self.gettimeofday, self.time]
    }
}

/// The vDSO of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Image {
    pub(super) base: u64,
    end: u64,
    pub(super) functions: Functions,
}

impl Image {
    pub(super) fn of(pid: u32) -> io::Result<Image> {
        let malformed =
            |what: &str| io::Error::new(io::ErrorKind::Unsupported, format!("its vDSO has no {what}"));
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let line = maps.lines().find(|line| line.ends_with("[vdso]")).ok_or_else(|| malformed("place"))?;
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let range = range.and_then(|(base, end)| Some((hex(base)?, hex(end)?)));
        let (base, end) =
            range.filter(|(base, end)| end - base <= IMAGE_BYTES_MAX).ok_or_else(|| malformed("place"))?;
        let mut bytes = vec![0; (end - base) as usize];
        File::open(format!("/proc/{pid}/mem"))?.read_exact_at(&mut bytes, base)?;
        let functions = functions(&bytes).ok_or_else(|| malformed("functions that read clocks"))?;
        Ok(Image { base, end, functions })
    }

    /// Whether an address is in it.
    pub(super) fn contains(&self, address: u64) -> bool {
        (self.base..self.end).contains(&address)
    }

    /// Whether it has room for so much code.
    pub(super) fn holds(&self, code_bytes: usize) -> bool {
        let Functions { clock_gettime, gettimeofday, time } = self.functions;
        code_bytes > 0 && clock_gettime.1 >= code_bytes as u64 && gettimeofday.1 >= 5 && time.1 >= 5
    }
}

fn functions(image: &[u8]) -> Option<Functions> {
    let is_elf_64 = image.get(..5)? == b"\x7fELF\x02";
    let (table, count) = (u64_at(image, 32)?, u16_at(image, 56)?);
    let headers = (0..u64::from(count)).map(|rank| table + rank * 56);
    let of_kind = |kind: u32| headers.clone().find(|at| u32_at(image, *at) == Some(kind));
    // Addresses within are as the linker gave them: mostly from zero.
    let linked = u64_at(image, of_kind(PT_LOAD)? + 16)?;
    let mut dynamic = u64_at(image, of_kind(PT_DYNAMIC)? + 8)?;
    let (mut hash, mut names, mut symbols) = (None, None, None);
    loop {
        let (tag, value) = (u64_at(image, dynamic)?, u64_at(image, dynamic + 8)?);
        match tag {
            0 => break,
            DT_HASH => hash = Some(value - linked),
            DT_STRTAB => names = Some(value - linked),
            DT_SYMTAB => symbols = Some(value - linked),
            _ => {}
        }
        dynamic += 16;
    }
    let (hash, names, symbols) = (hash?, names?, symbols?);
    let count = u64::from(u32_at(image, hash + 4)?);
    let find = |wanted: &str| {
        (0..count).map(|rank| symbols + rank * 24).find_map(|at| {
            let name = (names + u64::from(u32_at(image, at)?)) as usize;
            let found = image.get(name..name + wanted.len() + 1)?;
            let is_it = found == [wanted.as_bytes(), b"\0"].concat();
            is_it.then(|| Some((u64_at(image, at + 8)? - linked, u64_at(image, at + 16)?))).flatten()
        })
    };
    is_elf_64.then_some(Functions {
        clock_gettime: find("__vdso_clock_gettime")?,
        gettimeofday: find("__vdso_gettimeofday")?,
        time: find("__vdso_time")?,
    })
}

fn bytes_at<const N: usize>(image: &[u8], at: u64) -> Option<[u8; N]> {
    image.get(at as usize..at as usize + N)?.try_into().ok()
}

fn u16_at(image: &[u8], at: u64) -> Option<u16> {
    bytes_at(image, at).map(u16::from_le_bytes)
}

fn u32_at(image: &[u8], at: u64) -> Option<u32> {
    bytes_at(image, at).map(u32::from_le_bytes)
}

fn u64_at(image: &[u8], at: u64) -> Option<u64> {
    bytes_at(image, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torn_and_foreign_images_are_refused_and_the_own_one_is_read() {
        assert_eq!(functions(b""), None);
        assert_eq!(functions(&[0; 4_096]), None);
        let Ok(own) = Image::of(std::process::id()) else {
            println!("skipped: this kernel maps no vDSO that could be read");
            return;
        };
        let mut bytes = vec![0; (own.end - own.base) as usize];
        File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, own.base).unwrap();
        assert_eq!(functions(&bytes), Some(own.functions));
        for length in (0..1_000).step_by(7) {
            assert_eq!(functions(&bytes[..length]), None);
        }
        assert!(own.contains(own.base) && !own.contains(own.end));
    }
}
