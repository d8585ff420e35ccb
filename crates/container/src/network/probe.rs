//! Whether this machine can give containers a network of their own: it is set up, and then tried, from a container's place to a place
//! beyond the machine.
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use vessl_core::network::{Network, Pool, Reach};

use super::netlink::Netlink;
use super::{Namespace, firewall, make, make_here};

/// Longest time that the trial may take.
const LIMIT: Duration = Duration::from_secs(2);
/// Addresses for measurements between networks (RFC 2544), which no machine has: two of them for each trial.
const BEYOND: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// Trials that have addresses of their own, so that servers may try at the same time.
const TRIALS: u32 = 1 << 16;

/// Why this machine gives containers no network of their own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// Only root can.
    #[error("only a server of root can give runs a network of their own")]
    NotRoot,
    /// The addresses are the machine's already.
    #[error("the machine itself has a route to {taken}, in the pool `{pool}`: set another `network_pool`")]
    Taken {
        /// The pool.
        pool: Pool,
        /// The network of the route.
        taken: Ipv4Addr,
    },
    /// A step failed.
    #[error("cannot {what}: {source}")]
    Os {
        /// The step.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It was set up and nothing comes through.
    #[error(
        "it was set up, and nothing comes through ({0}): a firewall of this machine forwards nothing that it does not know; let it trust interfaces `vsl+`"
    )]
    Closed(io::Error),
}

fn os(what: &'static str) -> impl FnOnce(io::Error) -> NetworkError {
    move |source| NetworkError::Os { what, source }
}

/// Looks, without a change, whether it can be set up here.
pub fn look(pool: Pool) -> Result<(), NetworkError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(NetworkError::NotRoot);
    }
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    if let Some(taken) = taken(&routes, pool) {
        return Err(NetworkError::Taken { pool, taken });
    }
    firewall::look().map_err(os("write the rules of the firewall"))
}

/// Sets up what all containers with an address of the pool share, and tries it. Safe to repeat, also by several at once.
pub fn open(pool: Pool, reach: Reach) -> Result<(), NetworkError> {
    look(pool)?;
    firewall::write(pool, reach).map_err(os("write the rules of the firewall"))?;
    forward().map_err(os("let this machine forward (net.ipv4.ip_forward)"))?;
    let number = u64::from(std::process::id()) * 7;
    let inside = make(Network::Nat(pool), number).map_err(os("make a network"))?;
    let Some(inside) = inside else { return Ok(()) };
    let beyond = beyond().map_err(os("make a network to try it"))?;
    connect(&inside, &beyond).map_err(NetworkError::Closed)
}

fn forward() -> io::Result<()> {
    let path = "/proc/sys/net/ipv4/ip_forward";
    // One that is read-only may say yes already.
    if std::fs::read_to_string(path)?.trim() == "1" { Ok(()) } else { std::fs::write(path, "1") }
}

/// A route of the machine, in a text like `/proc/net/route`, into the pool or over all of it, that is none of ours.
fn taken(routes: &str, pool: Pool) -> Option<Ipv4Addr> {
    routes.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok().map(u32::swap_bytes);
        let (destination, mask) = (number(1)?, number(7)?);
        let over = mask != 0 && u32::from(pool.gateway()) & mask == destination;
        let is_in = pool.holds(Ipv4Addr::from(destination)) && destination != 0;
        let ours = fields.first()?.starts_with(super::PREFIX);
        ((over || is_in) && !ours).then(|| Ipv4Addr::from(destination))
    })
}

/// A place beyond the machine, reached by no route but the one that is made here, where somebody listens.
struct Beyond {
    listener: TcpListener,
    address: SocketAddr,
    _namespace: OwnedFd,
}

fn beyond() -> io::Result<Beyond> {
    // A thread that goes into a network does not come back.
    let made = std::thread::scope(|scope| scope.spawn(beyond_here).join());
    made.unwrap_or_else(|_| Err(io::Error::other("a bug in the trial of a network")))
}

fn beyond_here() -> io::Result<Beyond> {
    let mut outside = Netlink::open()?;
    let name = format!("vxp{:x}", std::process::id());
    let first = u32::from(BEYOND) + (std::process::id() % TRIALS) * 2;
    let (machine, there) = (Ipv4Addr::from(first), Ipv4Addr::from(first + 1));
    let namespace = make_here(Network::None, 0)?;
    let mut inside = Netlink::open()?;
    outside.add_pair(&name, ("eth0", namespace.fd.as_fd()), None)?;
    let index = outside.index(&name)?;
    outside.add_address(index, machine)?;
    outside.up(index)?;
    let index_inside = inside.index("eth0")?;
    inside.add_address(index_inside, there)?;
    inside.up(index_inside)?;
    inside.add_route(machine, index_inside)?;
    inside.add_default(machine, index_inside)?;
    outside.add_route(there, index)?;
    let listener = TcpListener::bind((there, 0))?;
    let address = listener.local_addr()?;
    Ok(Beyond { listener, address, _namespace: namespace.fd })
}

/// One connection and one byte.
fn connect(from: &Namespace, to: &Beyond) -> io::Result<()> {
    std::thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            setns(from.fd.as_fd(), CloneFlags::CLONE_NEWNET)?;
            TcpStream::connect_timeout(&to.address, LIMIT)?.write_all(b"x")
        });
        connecting.join().unwrap_or_else(|_| Err(io::Error::other("a bug in the trial of a network")))
    })?;
    // It has come: this takes it from the queue.
    to.listener.set_nonblocking(true)?;
    to.listener.accept().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_the_machine_uses_is_found() {
        let pool: Pool = "10.246.0.0/16".parse().unwrap();
        let route = |interface: &str, destination: &str, mask: &str| {
            let text = format!(
                "Iface\tDestination\n{interface}\t{destination}\t00000000\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n"
            );
            taken(&text, pool)
        };
        assert_eq!(route("eth0", "00000000", "00000000"), None);
        assert_eq!(route("eth0", "0000A8C0", "0000FFFF"), None);
        assert_eq!(route("vsl0af60002", "0200F60A", "FFFFFFFF"), None);
        assert_eq!(route("tun0", "0000000A", "000000FF"), Some(Ipv4Addr::new(10, 0, 0, 0)));
        assert_eq!(route("br0", "0003F60A", "00FFFFFF"), Some(Ipv4Addr::new(10, 246, 3, 0)));
    }
}
