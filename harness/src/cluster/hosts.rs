//! The hosts of one run, each a network namespace with a device of its own: one for every node, one for the clients, and one from
//! which the harness itself asks. They vanish with the processes and descriptors that hold them, however those end.
//!
//! Needs root, or what root may: `unshare(2)` of the network, and /dev/net/tun.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::NodeId;

/// The clients' host, by the last number of its address; nodes are 1 to 63.
const CLIENTS_HOST: u8 = 253;
/// Where the harness itself asks from.
const CONTROL_HOST: u8 = 254;
/// Datagrams that wait at a device until the switch has CPU; what comes on top the kernel drops and counts.
const QUEUE_DATAGRAMS: i32 = 10_000;
/// As of Ethernet.
const MTU_BYTES: i32 = 1_500;

/// The namespaces of a run: of the clients (0), of the nodes (their ids), and of the harness (last).
#[derive(Clone, Debug)]
pub struct Hosts {
    subnet: (u8, u8),
    nodes: u32,
    all: Arc<Vec<Host>>,
}

#[derive(Debug)]
struct Host {
    namespace: File,
    /// What its kernel counts of protocols, as text.
    protocols: Mutex<File>,
    /// What it counts of devices.
    devices: Mutex<File>,
}

/// While it lives, the thread that asked for it is at a host: its sockets, its threads and its children are there. On drop the thread
/// is back.
#[derive(Debug)]
pub struct Inside {
    back: File,
    /// A namespace is a matter of the thread that entered it.
    _thread: std::marker::PhantomData<*const ()>,
}

impl Drop for Inside {
    fn drop(&mut self) {
        // It was there before; nothing but a lost privilege could refuse it, and then it stays where it is.
        let _ = setns(self.back.as_fd(), CloneFlags::CLONE_NEWNET);
    }
}

impl Hosts {
    /// Makes the hosts of `nodes` nodes at 10.a.b.*, and the devices through which their datagrams go, in the order of ranks.
    ///
    /// # Errors
    /// The kernel refuses namespaces or devices: what it refused is said.
    pub fn create(subnet: (u8, u8), nodes: u32) -> io::Result<(Hosts, Vec<File>)> {
        let numbers = std::iter::once(CLIENTS_HOST).chain(1..=nodes as u8).chain([CONTROL_HOST]);
        // A thread of its own, because a thread that was in a namespace is better not used for anything else.
        let made = std::thread::scope(|scope| {
            let make = || numbers.map(|host| make(address(subnet, host))).collect::<io::Result<Vec<_>>>();
            scope
                .spawn(make)
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread that makes hosts died")))
        });
        let (all, devices): (Vec<_>, Vec<_>) = made?.into_iter().unzip();
        Ok((Hosts { subnet, nodes, all: Arc::new(all) }, devices))
    }

    /// Why this process can make no hosts, if it cannot.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn probe() -> io::Result<()> {
        Hosts::create((0, 0), 0).map(drop)
    }

    /// The rank of the host of this address.
    pub(crate) fn rank(&self, address: Ipv4Addr) -> Option<NodeId> {
        let [10, a, b, host] = address.octets() else { return None };
        match host {
            _ if (a, b) != self.subnet => None,
            CLIENTS_HOST => Some(0),
            CONTROL_HOST => Some(self.control()),
            host => Some(NodeId::from(host)).filter(|node| (1..=self.nodes).contains(node)),
        }
    }

    /// The rank of the harness itself.
    pub(crate) fn control(&self) -> NodeId {
        self.nodes + 1
    }

    /// The address of a node.
    pub(crate) fn address(&self, node: NodeId) -> Ipv4Addr {
        address(self.subnet, node as u8)
    }

    /// Brings the calling thread to the host of this rank, until what it gets is dropped.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn enter(&self, rank: NodeId) -> io::Result<Inside> {
        let back = File::open("/proc/thread-self/ns/net")?;
        setns(self.host(rank)?.namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
        Ok(Inside { back, _thread: std::marker::PhantomData })
    }

    /// Has a command run at the host of this rank.
    ///
    /// # Errors
    /// There is no such host.
    pub(crate) fn place(&self, rank: NodeId, command: &mut Command) -> io::Result<()> {
        let namespace = self.host(rank)?.namespace.try_clone()?;
        // SAFETY: between fork and exec one system call is made, which is async-signal-safe and allocates nothing.
        unsafe {
            command.pre_exec(move || Ok(setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?));
        }
        Ok(())
    }

    /// Datagrams that the kernel of a host dropped because their checksum was wrong.
    pub(crate) fn bad_checksums(&self, rank: NodeId) -> u64 {
        let Some(text) = self.host(rank).ok().and_then(|host| read(&host.protocols)) else { return 0 };
        ["Tcp:", "Udp:"].into_iter().filter_map(|name| column(&text, name, "InCsumErrors")).sum()
    }

    /// Datagrams that the kernels of all hosts dropped because the switch took none.
    pub(crate) fn overflow(&self) -> u64 {
        let dropped = |host: &Host| {
            let text = read(&host.devices)?;
            let line = text.lines().find_map(|line| line.trim_start().strip_prefix("tun0:"))?;
            // Eight columns of what was received, then bytes, datagrams, errors and drops of what was sent.
            line.split_whitespace().nth(11)?.parse::<u64>().ok()
        };
        self.all.iter().filter_map(dropped).sum()
    }

    fn host(&self, rank: NodeId) -> io::Result<&Host> {
        self.all.get(rank as usize).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn address((a, b): (u8, u8), host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, a, b, host)
}

/// A file of /proc is made anew for who reads it from its beginning.
fn read(file: &Mutex<File>) -> Option<String> {
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text)).ok()?;
    Some(text)
}

/// A number of /proc/net/snmp, whose lines come in pairs: names, then numbers.
fn column(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(protocol));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|word| word == name)?;
    numbers.split_whitespace().nth(at)?.parse().ok()
}

/// Brings the calling thread into a new namespace with a device at this address.
fn make(address: Ipv4Addr) -> io::Result<(Host, File)> {
    let told =
        |what: &'static str| move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from).map_err(told("no network namespace"))?;
    let device =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun");
    let device = device.map_err(told("cannot open /dev/net/tun"))?;
    let tun = Interface::new(c"tun0");
    tun.set(&device, libc::TUNSETIFF, |request| {
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
    })
    .map_err(told("cannot make a TUN device"))?;
    let control = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let up =
        |request: &mut libc::ifreq| request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    let dotted =
        |address: Ipv4Addr| move |request: &mut libc::ifreq| request.ifr_ifru.ifru_addr = inet(address);
    Interface::new(c"lo").set(&control, libc::SIOCSIFFLAGS, up)?;
    tun.set(&control, libc::SIOCSIFADDR, dotted(address))?;
    tun.set(&control, libc::SIOCSIFNETMASK, dotted(Ipv4Addr::new(255, 255, 255, 0)))?;
    tun.set(&control, libc::SIOCSIFMTU, |request| request.ifr_ifru.ifru_mtu = MTU_BYTES)?;
    tun.set(&control, libc::SIOCSIFTXQLEN, |request| request.ifr_ifru.ifru_metric = QUEUE_DATAGRAMS)?;
    tun.set(&control, libc::SIOCSIFFLAGS, up)?;
    let host = Host {
        namespace: File::open("/proc/thread-self/ns/net")?,
        protocols: Mutex::new(File::open("/proc/thread-self/net/snmp")?),
        devices: Mutex::new(File::open("/proc/thread-self/net/dev")?),
    };
    Ok((host, device))
}

/// An interface, by its name.
struct Interface(libc::ifreq);

impl Interface {
    fn new(name: &std::ffi::CStr) -> Interface {
        // SAFETY: all its fields are numbers, of which zero is one.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.to_bytes()) {
            *to = from.cast_signed();
        }
        Interface(request)
    }

    fn set(
        &self,
        fd: &impl AsRawFd,
        request: libc::c_ulong,
        fill: impl FnOnce(&mut libc::ifreq),
    ) -> io::Result<()> {
        let mut filled = self.0;
        fill(&mut filled);
        // SAFETY: each of these requests reads and writes one `ifreq`, which outlives the call.
        match unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut filled) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

fn inet(address: Ipv4Addr) -> libc::sockaddr {
    let inet = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: both are 16 bytes, and any bytes are a `sockaddr`.
    unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(inet) }
}
