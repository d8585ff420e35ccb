//! Interfaces, addresses and routes, asked of the kernel. The messages are a library's; the socket is plain and waits, because the
//! agent has one thread. A socket belongs to the network in which it was opened.
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::sys::socket::{self, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};

/// Largest answer, in bytes.
const LARGEST: usize = 64 << 10;
const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// A socket to the kernel's tables.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// One for the network of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let family = socket::AddressFamily::Netlink;
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket::socket(family, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The number of an interface.
    pub(super) fn index(&mut self, name: &str) -> io::Result<u32> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let answers = self.ask(RouteNetlinkMessage::GetLink(link), 0)?;
        answers
            .into_iter()
            .find_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(link.header.index),
                _ => None,
            })
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Switches an interface on.
    pub(super) fn up(&mut self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::SetLink(link), 0).map(drop)
    }

    /// Makes two interfaces that are connected: one here, the other one in another network.
    pub(super) fn add_pair(
        &mut self,
        name: &str,
        (other, network): (&str, BorrowedFd<'_>),
        mtu: Option<u32>,
    ) -> io::Result<()> {
        let mtu = || mtu.map(LinkAttribute::Mtu);
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(other.to_owned()));
        peer.attributes.push(LinkAttribute::NetNsFd(network.as_raw_fd()));
        peer.attributes.extend(mtu());
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        link.attributes.extend(mtu());
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.ask(RouteNetlinkMessage::NewLink(link), NEW).map(drop)
    }

    /// Gives an interface an address, and no network with it.
    pub(super) fn add_address(&mut self, index: u32, address: Ipv4Addr) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = 32;
        message.header.index = index;
        message.attributes.push(AddressAttribute::Local(IpAddr::V4(address)));
        message.attributes.push(AddressAttribute::Address(IpAddr::V4(address)));
        self.ask(RouteNetlinkMessage::NewAddress(message), NEW).map(drop)
    }

    /// An address is reached through an interface.
    pub(super) fn add_route(&mut self, address: Ipv4Addr, index: u32) -> io::Result<()> {
        let mut route = route(RouteScope::Link, index);
        route.header.destination_prefix_length = 32;
        route.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(address)));
        self.ask(RouteNetlinkMessage::NewRoute(route), NEW).map(drop)
    }

    /// Everything is reached through another address.
    pub(super) fn add_default(&mut self, gateway: Ipv4Addr, index: u32) -> io::Result<()> {
        let mut route = route(RouteScope::Universe, index);
        route.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
        self.ask(RouteNetlinkMessage::NewRoute(route), NEW).map(drop)
    }

    /// Asks, and gives the answers that came before the kernel's yes.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        socket::send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; LARGEST];
        loop {
            let length = socket::recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                let message =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                // Messages begin at multiples of four bytes.
                let whole = (message.header.length as usize).max(1).next_multiple_of(4);
                rest = rest.get(whole..).unwrap_or_default();
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Error(answer) => {
                        return match answer.code {
                            None => Ok(answers),
                            Some(code) => Err(io::Error::from_raw_os_error(code.get().saturating_neg())),
                        };
                    }
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    _ => {}
                }
            }
        }
    }
}

fn route(scope: RouteScope, index: u32) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.protocol = RouteProtocol::Static;
    route.header.scope = scope;
    route.header.kind = RouteType::Unicast;
    route.attributes.push(RouteAttribute::Oif(index));
    route
}
