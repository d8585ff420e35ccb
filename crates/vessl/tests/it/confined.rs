//! What a run as root of this machine cannot do.
use crate::specs::host;
use crate::test::Test;

/// What a run of the machine's own root with this command prints.
fn printed(test: &Test, command: &str) -> String {
    let id = test.wait(&host(command)).ok().json()["id"].to_string();
    test.vessl(["run", "logs", &id, "--only", "stdout"]).ok().stdout
}

const SOCKETS: &str = r#"grep -E '^Cap(Eff|Bnd|Amb):' /proc/self/status | tr -d '\t'
exec /usr/bin/python3 - <<'EOF'
import errno, socket

def made(name, *kind):
    try:
        socket.socket(*kind).close()
        print(name, "made")
    except OSError as error:
        print(name, errno.errorcode[error.errno])

RAW, STREAM, DGRAM = socket.SOCK_RAW, socket.SOCK_STREAM, socket.SOCK_DGRAM
made("packet", socket.AF_PACKET, RAW, socket.htons(3))
made("packet-dgram", socket.AF_PACKET, DGRAM, socket.htons(3))
made("old-packet", socket.AF_INET, 10, socket.htons(3))
made("xdp", 44, RAW)
made("raw", socket.AF_INET, RAW, socket.IPPROTO_TCP)
made("raw6", socket.AF_INET6, RAW, socket.IPPROTO_ICMPV6)
made("vsock", socket.AF_VSOCK, STREAM)
made("udp", socket.AF_INET, DGRAM)
made("unix", socket.AF_UNIX, STREAM)
made("netlink", socket.AF_NETLINK, RAW, 0)
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
server.accept()[0].sendall(b"tcp talks")
print(client.recv(99).decode())
print(len(socket.if_nameindex()) > 0, socket.getaddrinfo("localhost", 80)[0][4][1])
EOF"#;

#[test]
fn nothing_of_the_network_of_the_machine_is_overheard() {
    let refused =
        "packet EPERM\npacket-dgram EPERM\nold-packet EPERM\nxdp EPERM\nraw EPERM\nraw6 EPERM\nvsock EPERM\n";
    let works = "udp made\nunix made\nnetlink made\ntcp talks\nTrue 80\n";
    let capabilities = "CapEff:00000000a80405fb\nCapBnd:00000000a80405fb\nCapAmb:0000000000000000\n";
    assert_eq!(printed(&Test::new(), SOCKETS), format!("{capabilities}{refused}{works}"));
}
