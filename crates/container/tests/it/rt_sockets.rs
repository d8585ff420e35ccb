//! Sockets that a container can make: it shares the network of its machine.
use anyhow::ensure;

use crate::rt_support::{EVERYBODY, Place};

/// Tries sockets before and after the filter is loaded: what its capabilities forbid, and what the filter does.
const SOCKETS: &str = r#"
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
static void sockets(void) {
    TRY("packet", SYS_socket, AF_PACKET, SOCK_RAW, htons(3));
    TRY("packet-dgram", SYS_socket, AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(3));
    TRY("raw", SYS_socket, AF_INET, SOCK_RAW, IPPROTO_TCP);
    TRY("raw-flags", SYS_socket, AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP);
    TRY("old-packet", SYS_socket, AF_INET, 10, htons(3));
}
static int talk(void) {
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t size = sizeof here;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server, (struct sockaddr *)&here, size) || listen(server, 1)) return 1;
    if (getsockname(server, (struct sockaddr *)&here, &size)) return 2;
    if (connect(client, (struct sockaddr *)&here, size)) return 3;
    int peer = accept(server, 0, 0);
    char got[3] = "";
    if (write(client, "hi", 2) != 2 || read(peer, got, 2) != 2 || strcmp(got, "hi")) return 4;
    struct sockaddr_nl routes = { .nl_family = AF_NETLINK };
    if (bind(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), (struct sockaddr *)&routes, sizeof routes)) return 5;
    return 0;
}
int main(void) {
    sockets();
    if (filter()) { perror("filter"); return 1; }
    sockets();
    int pair[2];
    TRY("raw6", SYS_socket, AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
    TRY("xdp", SYS_socket, 44, SOCK_RAW, 0);
    TRY("vsock", SYS_socket, AF_VSOCK, SOCK_STREAM, 0);
    TRY("alg", SYS_socket, AF_ALG, SOCK_SEQPACKET, 0);
    TRY("tipc-pair", SYS_socketpair, AF_TIPC, SOCK_STREAM, 0, pair);
    TRY("tcp", SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    TRY("udp", SYS_socket, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    TRY("unix", SYS_socket, AF_UNIX, SOCK_STREAM, 0);
    TRY("unix-pair", SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
    TRY("netlink-raw", SYS_socket, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    TRY("netlink-dgram", SYS_socket, AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_ROUTE);
    printf("talk %d\n", talk());
    return 0;
}
"#;

#[test]
fn nobody_hears_what_others_say_on_the_network_of_the_machine() {
    let refused = "packet 1\npacket-dgram 1\nraw 1\nraw-flags 1\nold-packet 1\n";
    let by_filter = "raw6 1\nxdp 1\nvsock 1\nalg 1\ntipc-pair 1\n";
    let work = "tcp 0\nudp 0\nunix 0\nunix-pair 0\nnetlink-raw 0\nnetlink-dgram 0\ntalk 0\n";
    for who in EVERYBODY {
        let place = Place::new(who);
        place.calls(SOCKETS);
        place.supervise(|| {
            let merged = place.rootfs().mount()?;
            let (status, output) = place.run(&merged, "/calls")?;
            let expected = format!("{refused}{refused}{by_filter}{work}");
            ensure!((status, output.as_str()) == (0, expected.as_str()), "{who:?} {status} {output}");
            Ok(())
        });
    }
}
