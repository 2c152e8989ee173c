//! What stands in place of the functions of a vDSO that read clocks: it asks the kernel, and bends what it says by a table behind it.

use std::arch::global_asm;
use std::io;
use std::num::NonZeroUsize;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// Clocks with a line in the table: ids 0 to 7.
pub(super) const TABLE_CLOCKS: usize = 8;
/// Bytes of the table, behind the code.
pub(super) const TABLE_BYTES: usize = TABLE_CLOCKS * 32;

// Every name is a distance within, and nothing outside is named: it runs wherever it is copied to. Each clobbers only what a called
// function may (System V ABI, x86-64). A line of the table is: the time from which it holds, what was shown then, the rate as a
// fraction of 2^32 (0 is not bent), and whether no less than the time is shown.
global_asm!(
    ".pushsection .rodata.whitewater_clock,\"a\",@progbits",
    ".balign 16",
    ".globl whitewater_clock_begin",
    ".hidden whitewater_clock_begin",
    "whitewater_clock_begin:", // clock_gettime(edi, rsi)
    "mov eax, 228",
    "syscall",
    "test eax, eax",
    "jne 4f",
    "cmp edi, 8",
    "jae 4f",
    "mov r8d, edi",
    "shl r8, 5",
    "lea r9, [rip + whitewater_clock_table]",
    "add r8, r9",
    "mov r9, [r8 + 16]",
    "test r9, r9",
    "je 4f",
    "imul r10, [rsi], 1000000000",
    "add r10, [rsi + 8]",
    "mov rax, r10",
    "sub rax, [r8]",
    "jns 2f",
    "xor eax, eax", // somebody set the time back
    "2:",
    "mul r9",
    "shrd rax, rdx, 32",
    "add rax, [r8 + 8]",
    "cmp qword ptr [r8 + 24], 0",
    "je 3f",
    "cmp rax, r10",
    "jae 3f",
    "mov rax, r10",
    "3:",
    "xor edx, edx",
    "mov ecx, 1000000000",
    "div rcx",
    "mov [rsi], rax",
    "mov [rsi + 8], rdx",
    "xor eax, eax",
    "4:",
    "ret",
    ".globl whitewater_clock_gettimeofday",
    ".hidden whitewater_clock_gettimeofday",
    "whitewater_clock_gettimeofday:", // gettimeofday(rdi, rsi)
    "push rdi",
    "push rsi",
    "sub rsp, 16",
    "xor edi, edi",
    "mov rsi, rsp",
    "call whitewater_clock_begin",
    "pop r8",
    "pop rax",
    "pop rsi",
    "pop rdi",
    "test rdi, rdi",
    "je 5f",
    "xor edx, edx",
    "mov ecx, 1000",
    "div rcx",
    "mov [rdi], r8",
    "mov [rdi + 8], rax",
    "5:",
    "test rsi, rsi",
    "je 6f",
    "mov qword ptr [rsi], 0",
    "6:",
    "xor eax, eax",
    "ret",
    ".globl whitewater_clock_time",
    ".hidden whitewater_clock_time",
    "whitewater_clock_time:", // time(rdi)
    "push rdi",
    "sub rsp, 16",
    "xor edi, edi",
    "mov rsi, rsp",
    "call whitewater_clock_begin",
    "pop rax",
    "pop rdx",
    "pop rdi",
    "test rdi, rdi",
    "je 7f",
    "mov [rdi], rax",
    "7:",
    "ret",
    ".balign 8",
    "whitewater_clock_table:",
    ".fill 32, 8, 0",
    ".globl whitewater_clock_end",
    ".hidden whitewater_clock_end",
    "whitewater_clock_end:",
    ".popsection",
);

unsafe extern "C" {
    static whitewater_clock_begin: u8;
    static whitewater_clock_gettimeofday: u8;
    static whitewater_clock_time: u8;
    static whitewater_clock_end: u8;
}

/// A line of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bend {
    now_ns: u64,
    shown_ns: u64,
    rate: u64,
    floor: u64,
}

impl Bend {
    /// From `now_ns`, when `shown_ns` is shown, it goes at this rate.
    pub(super) fn at(now_ns: u64, shown_ns: u64, rate: f64) -> Bend {
        Bend {
            now_ns,
            shown_ns,
            rate: ((rate * f64::from(1 << 16) * f64::from(1 << 16)) as u64).max(1),
            floor: 0,
        }
    }

    /// Less than the time is never shown.
    pub(super) fn not_before_the_time(self) -> Bend {
        Bend { floor: 1, ..self }
    }
}

fn distance(to: *const u8) -> usize {
    (to as usize) - (&raw const whitewater_clock_begin as usize)
}

/// The code, with an empty table at its end.
pub(super) fn code() -> &'static [u8] {
    let begin = &raw const whitewater_clock_begin;
    // SAFETY: both labels are in one section, and everything between them is bytes that nobody writes.
    unsafe { std::slice::from_raw_parts(begin, distance(&raw const whitewater_clock_end)) }
}

/// Where in it `gettimeofday` begins.
pub(super) fn gettimeofday() -> usize {
    distance(&raw const whitewater_clock_gettimeofday)
}

/// Where in it `time` begins.
pub(super) fn time() -> usize {
    distance(&raw const whitewater_clock_time)
}

/// The code with a table.
pub(super) fn with_table(bends: &[Bend; TABLE_CLOCKS]) -> Vec<u8> {
    let code = code();
    let mut bytes = code[..code.len() - TABLE_BYTES].to_vec();
    for Bend { now_ns, shown_ns, rate, floor } in bends {
        for number in [now_ns, shown_ns, rate, floor] {
            bytes.extend(number.to_le_bytes());
        }
    }
    bytes
}

/// A jump from one distance to another.
pub(super) fn jump(from: u64, to: u64) -> [u8; 5] {
    let by = (to as i64 - (from as i64 + 5)) as i32;
    let [a, b, c, d] = by.to_le_bytes();
    [0xe9, a, b, c, d]
}

/// What code of ours says of a clock, in nanoseconds, run from a copy that begins with it.
pub(super) fn run(bytes: &[u8], clock: i32) -> io::Result<u64> {
    let own = code();
    let same = own.len() == bytes.len() && own[..own.len() - TABLE_BYTES] == bytes[..own.len() - TABLE_BYTES];
    let length = NonZeroUsize::new(bytes.len()).filter(|_| same);
    let length = length.ok_or_else(|| io::Error::other("it is not code of ours"))?;
    let (read, write, run) = (ProtFlags::PROT_READ, ProtFlags::PROT_WRITE, ProtFlags::PROT_EXEC);
    let mut shown = [0_i64; 2];
    // SAFETY: the mapping is of this length and nobody else's; what is run is the function above, whose code was just compared, which
    // writes 16 bytes to what it is given, and it is unmapped after it returned.
    let failed = unsafe {
        let place = mmap_anonymous(None, length, read | write, MapFlags::MAP_PRIVATE)?;
        place.cast::<u8>().as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        mprotect(place, bytes.len(), read | run)?;
        let function: extern "C" fn(i32, *mut [i64; 2]) -> i32 = std::mem::transmute(place.as_ptr());
        let failed = function(clock, &raw mut shown);
        munmap(place, bytes.len())?;
        failed
    };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(-failed));
    }
    Ok(shown[0].unsigned_abs() * 1_000_000_000 + shown[1].unsigned_abs())
}
