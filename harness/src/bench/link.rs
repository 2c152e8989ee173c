//! What passing through the harness costs a datagram: the time from one socket to another through each backend, beside the same over
//! loopback in the same round.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_timerslack;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeValLike;

use super::BenchError;
use super::load::{middle, percentile};
use super::machine::{Clock, Share};
use crate::cluster::{Addresses, Hosts};
use crate::net::Fabric;

/// Shortest datagram: its number and its time.
pub const BYTES_MIN: usize = 16;
/// The receiver gives up so long after the last one that came.
const SILENCE: Duration = Duration::from_millis(300);
/// Receive buffer, bytes: what waits for the receiver's processor time is late, not lost.
const BUFFER_BYTES: usize = 8 << 20;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Datagrams a second.
    pub rate: u32,
    /// Of so many bytes, at least [`BYTES_MIN`].
    pub bytes: usize,
    /// Every path has its turn in each.
    pub rounds: u32,
    /// How long a turn is.
    pub turn: Duration,
}

/// What came out of one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `direct`, `proxy` or `switch`.
    pub path: &'static str,
    /// Middle of the rounds.
    pub p50: Duration,
    /// Middle of the rounds.
    pub p99: Duration,
    /// Middle of what it had more than `direct` in the same round, microseconds; slowest and fastest.
    pub added_p99_us: (f64, f64, f64),
    /// The same of the half that is faster.
    pub added_p50_us: f64,
    /// Datagrams a second that were sent, in the middle round.
    pub per_s: f64,
    /// Datagrams that did not arrive, over all rounds.
    pub lost: u64,
}

/// What came out of all.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// `direct` first.
    pub rows: Vec<Row>,
    /// Why there is no switch, if there is none.
    pub no_switch: Option<String>,
    /// Who used the processors.
    pub share: Share,
}

/// A sender, a receiver, and what is between them.
struct Path {
    name: &'static str,
    sender: UdpSocket,
    to: SocketAddr,
    receiver: UdpSocket,
    _between: Option<(Addresses, Fabric)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    p50: Duration,
    p99: Duration,
    per_s: f64,
    lost: u64,
}

/// Measures; `observe` is told how many rounds are done.
///
/// # Errors
/// A socket, or something between, cannot be made.
pub fn run(config: &Config, observe: &mut dyn FnMut(u32)) -> Result<Measured, BenchError> {
    let mut paths = vec![direct()?, proxy()?];
    let no_switch = Hosts::probe().err().map(|error| error.to_string());
    if no_switch.is_none() {
        paths.push(switch()?);
    }
    let mut turns = vec![Vec::new(); paths.len()];
    let (clock, used, begun) = (Clock::read(&[])?, own_time()?, Instant::now());
    for round in 0..config.rounds {
        // Whoever is first in one round is not in the next.
        for nth in 0..paths.len() {
            let which = (nth + round as usize) % paths.len();
            turns[which].push(turn(&paths[which], config)?);
        }
        observe(round + 1);
    }
    let share = share(&clock, used, begun.elapsed())?;
    let rows = paths.iter().zip(&turns).map(|(path, of_it)| row(path.name, of_it, &turns[0])).collect();
    Ok(Measured { rows, no_switch, share })
}

/// Processor time of this process, over all its threads, those that ended too.
fn own_time() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or_default())
    };
    Ok(micros(usage.user_time()) + micros(usage.system_time()))
}

/// Who used the processors. Turns have threads of their own, which a look at living threads would miss.
fn share(clock: &Clock, used: Duration, took: Duration) -> io::Result<Share> {
    let share = clock.until(&Clock::read(&[])?);
    let cores = thread::available_parallelism().map_or(1, usize::from) as f64;
    let load = own_time()?.saturating_sub(used).as_secs_f64() / (took.as_secs_f64() * cores).max(1e-9);
    Ok(Share { load, others: (share.busy() - load).max(0.0), ..share })
}

fn direct() -> io::Result<Path> {
    let (sender, receiver) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let to = receiver.local_addr()?;
    Path { name: "direct", sender, to, receiver, _between: None }.prepared()
}

fn proxy() -> io::Result<Path> {
    let addresses = Addresses::claim(2)?;
    let fabric = Fabric::start(&addresses, 0)?;
    let (sender, receiver) = (UdpSocket::bind(addresses.node(1))?, UdpSocket::bind(addresses.node(2))?);
    let to = addresses.proxy(1, 2);
    Path { name: "proxy", sender, to, receiver, _between: Some((addresses, fabric)) }.prepared()
}

fn switch() -> io::Result<Path> {
    let mut addresses = Addresses::claim(2)?;
    let fabric = Fabric::start_switch(&mut addresses, 0)?;
    let bind = |node| -> io::Result<UdpSocket> {
        let _there = addresses.hosts().map(|hosts| hosts.enter(node)).transpose()?;
        UdpSocket::bind(addresses.node(node))
    };
    let (sender, receiver) = (bind(1)?, bind(2)?);
    let to = addresses.node(2);
    Path { name: "switch", sender, to, receiver, _between: Some((addresses, fabric)) }.prepared()
}

impl Path {
    fn prepared(self) -> io::Result<Path> {
        self.receiver.set_read_timeout(Some(SILENCE))?;
        // Root may exceed the system's limit; everyone else gets what the limit allows.
        if setsockopt(&self.receiver, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
            socket2::SockRef::from(&self.receiver).set_recv_buffer_size(BUFFER_BYTES)?;
        }
        Ok(self)
    }
}

/// Sends at a steady rate, and takes the time of each datagram from before it is sent to after it was received.
fn turn(path: &Path, config: &Config) -> io::Result<Turn> {
    let begun = Instant::now();
    let total = (f64::from(config.rate) * config.turn.as_secs_f64()) as u64;
    let (sent, sent_ns) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
    let mut times = thread::scope(|scope| -> io::Result<Vec<Duration>> {
        scope.spawn(|| {
            // The default is 50 us, more than a whole datagram's turn.
            let _ = set_timerslack(1);
            let mut bytes = vec![0x5a; config.bytes.max(BYTES_MIN)];
            let mut done = 0;
            for number in 0..total {
                let due = begun + config.turn.mul_f64(number as f64 / total as f64);
                while Instant::now() < due {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                bytes[..8].copy_from_slice(&number.to_le_bytes());
                bytes[8..16].copy_from_slice(&nanos(begun).to_le_bytes());
                done += u64::from(path.sender.send_to(&bytes, path.to).is_ok());
            }
            sent_ns.store(nanos(begun), Ordering::Relaxed);
            sent.store(done, Ordering::Release);
        });
        let mut times = Vec::with_capacity(total as usize);
        let mut buffer = [0; 2_048];
        // All arrived, or nothing does any more although all were sent.
        while (times.len() as u64) < sent.load(Ordering::Acquire) {
            match path.receiver.recv(&mut buffer) {
                Ok(_) => {
                    let at = u64::from_le_bytes(buffer[8..16].try_into().unwrap_or_default());
                    times.push(Duration::from_nanos(nanos(begun).saturating_sub(at)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if sent.load(Ordering::Acquire) != u64::MAX {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(times)
    })?;
    times.sort_unstable();
    let sent = sent.load(Ordering::Acquire);
    let took = Duration::from_nanos(sent_ns.load(Ordering::Relaxed)).as_secs_f64();
    Ok(Turn {
        p50: percentile(&times, 50),
        p99: percentile(&times, 99),
        per_s: sent as f64 / took.max(1e-9),
        lost: sent.saturating_sub(times.len() as u64),
    })
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn row(path: &'static str, turns: &[Turn], direct: &[Turn]) -> Row {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let added = |of: fn(&Turn) -> Duration| -> Vec<f64> {
        turns.iter().zip(direct).map(|(through, direct)| us(of(through)) - us(of(direct))).collect()
    };
    let p99 = added(|turn| turn.p99);
    let middle_of = |of: fn(&Turn) -> Duration| {
        Duration::from_secs_f64(middle(turns.iter().map(|turn| of(turn).as_secs_f64())))
    };
    Row {
        path,
        p50: middle_of(|turn| turn.p50),
        p99: middle_of(|turn| turn.p99),
        added_p99_us: (
            middle(p99.iter().copied()),
            p99.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            p99.iter().copied().fold(f64::INFINITY, f64::min),
        ),
        added_p50_us: middle(added(|turn| turn.p50)),
        per_s: middle(turns.iter().map(|turn| turn.per_s)),
        lost: turns.iter().map(|turn| turn.lost).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_taken_within_a_round() {
        let us = Duration::from_micros;
        let turn = |p50, p99| Turn { p50: us(p50), p99: us(p99), per_s: 50_000.0, lost: 1 };
        // The machine grows slower from round to round, and the path costs 7 in each.
        let direct = [turn(5, 10), turn(50, 100), turn(500, 1_000)];
        let through = [turn(8, 17), turn(53, 107), turn(503, 1_007)];
        let row = row("proxy", &through, &direct);
        assert_eq!((row.p50, row.p99, row.lost), (us(53), us(107), 3));
        assert!((row.added_p99_us.0 - 7.0).abs() < 1e-6 && (row.added_p50_us - 3.0).abs() < 1e-6, "{row:?}");
    }

    #[test]
    fn every_path_delivers() {
        let config = Config { rate: 500, bytes: 64, rounds: 1, turn: Duration::from_millis(100) };
        let measured = run(&config, &mut |_| ()).unwrap();
        let expected = if measured.no_switch.is_some() { 2 } else { 3 };
        assert_eq!(measured.rows.len(), expected);
        assert!(measured.rows.iter().all(|row| row.lost == 0 && row.p99 > Duration::ZERO), "{measured:?}");
    }
}
