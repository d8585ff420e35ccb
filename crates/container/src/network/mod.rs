//! Networks of containers: a namespace with a loopback address of its own, and, behind the machine's address, one that reaches out.
//!
//! ```text
//! machine                                              container
//! vslAABBCCDD  10.246.0.1  ◀──── a veth pair ────▶ eth0  10.246.x.y, everything through 10.246.0.1
//!   route to 10.246.x.y
//! rules of the whole pool, written once: out and masqueraded; nothing to each other, nothing to the machine (`firewall`)
//! ```
//! The name of a pair is its address, so the kernel says which are taken. A pair goes with the last process of its container:
//! there is nothing to remove, whoever is killed.
mod firewall;
mod netlink;
mod probe;

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::CloneFlags;
use vessl_core::network::{Network, Pool};

pub use self::probe::{NetworkError, look, open};

use self::netlink::Netlink;

/// How the names of our interfaces begin.
const PREFIX: &str = "vsl";
/// Addresses that are tried before the pool counts as full.
const TRIES: u64 = 4096;
/// What a container's interface is called.
const INSIDE: &str = "eth0";

/// A network namespace for one container.
#[derive(Debug)]
pub struct Namespace {
    /// The namespace. It lives as long as this, or a process in it.
    pub fd: OwnedFd,
    /// Its address, if it has one.
    pub address: Option<Ipv4Addr>,
}

/// Makes the namespace of a container; none for one that has the machine's network. `number` says where in the pool the search for an
/// address begins. The work is done on a thread, which is gone when this returns; the caller stays in its own network.
pub fn make(network: Network, number: u64) -> io::Result<Option<Namespace>> {
    if network == Network::Host {
        return Ok(None);
    }
    let made = std::thread::scope(|scope| scope.spawn(|| make_here(network, number)).join());
    let made = made.unwrap_or_else(|_| Err(io::Error::other("a bug in the making of a network")))?;
    if let Some(address) = made.address {
        // The other end speaks no IPv6; this one needs no address of it either.
        without_ipv6(&name(address))?;
    }
    Ok(Some(made))
}

/// Lets an interface of this namespace have no address of IPv6: the rules of the pool are for IPv4, and a link-local address would lead past
/// them to everything of the machine that listens on `::`.
fn without_ipv6(interface: &str) -> io::Result<()> {
    match std::fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1") {
        // A kernel without it, or a container that is gone already.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written,
    }
}

/// The same, which takes the calling thread along into the namespace.
fn make_here(network: Network, number: u64) -> io::Result<Namespace> {
    let mut outside = Netlink::open()?;
    let mtu = mtu();
    nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
    let fd: OwnedFd = File::open("/proc/thread-self/ns/net")?.into();
    let mut inside = Netlink::open()?;
    let loopback = inside.index("lo")?;
    inside.up(loopback)?;
    // Programs of the run need no rights for these, because nobody else is here. Where the kernel does not have them, they do.
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    let _ = std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
    let Network::Nat(pool) = network else { return Ok(Namespace { fd, address: None }) };
    // What comes into this namespace from here on has none; the loopback interface is here already.
    without_ipv6("default")?;
    let (name, address) = pair(&mut outside, &fd, pool, (number, mtu))?;
    let index = outside.index(&name)?;
    outside.add_address(index, pool.gateway())?;
    outside.up(index)?;
    outside.add_route(address, index)?;
    let index = inside.index(INSIDE)?;
    inside.add_address(index, address)?;
    inside.up(index)?;
    inside.add_route(pool.gateway(), index)?;
    inside.add_default(pool.gateway(), index)?;
    Ok(Namespace { fd, address: Some(address) })
}

/// Makes a pair for the first address that is free.
fn pair(
    outside: &mut Netlink,
    fd: &OwnedFd,
    pool: Pool,
    (number, mtu): (u64, Option<u32>),
) -> io::Result<(String, Ipv4Addr)> {
    for offset in 0..TRIES.min(pool.room().into()) {
        let address = pool.address(number + offset);
        let name = name(address);
        match outside.add_pair(&name, (INSIDE, fd.as_fd()), mtu) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| (name, address)),
        }
    }
    Err(io::Error::other(format!("no address of `{pool}` is free")))
}

/// The machine's end of the pair of an address.
fn name(address: Ipv4Addr) -> String {
    format!("{PREFIX}{:08x}", u32::from(address))
}

/// Largest packet of the way out, where that is known: a larger one of the pair would be lost on some ways.
fn mtu() -> Option<u32> {
    let routes = std::fs::read_to_string("/proc/net/route").ok()?;
    let interface = default_interface(&routes)?;
    std::fs::read_to_string(format!("/sys/class/net/{interface}/mtu")).ok()?.trim().parse().ok()
}

/// The interface of the default route in a text like `/proc/net/route`.
fn default_interface(routes: &str) -> Option<&str> {
    let fields = routes.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut defaults =
        fields.filter(|fields| fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000"));
    defaults.next().and_then(|fields| fields.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_an_address() {
        assert_eq!(name(Ipv4Addr::new(10, 246, 1, 2)), "vsl0af60102");
    }

    #[test]
    fn the_default_route_is_found() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            br0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
            wg0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(default_interface(text), Some("wg0"));
        assert_eq!(default_interface("Iface\n"), None);
    }
}
