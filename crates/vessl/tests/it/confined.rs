//! What a run as root of this machine cannot do.
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use crate::data::repository;
use crate::specs::{head, host, item};
use crate::test::Test;

/// What a run prints.
fn printed(test: &Test, yaml: &str) -> String {
    let id = test.wait(yaml).ok().json()["id"].to_string();
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
    let capabilities = "CapEff:00000000a00405fb\nCapBnd:00000000a00405fb\nCapAmb:0000000000000000\n";
    assert_eq!(printed(&Test::new(), &host(SOCKETS)), format!("{capabilities}{refused}{works}"));
}

/// What root tries in a directory of the machine that it may write: devices, a pipe, and a program that gives its starter root.
const WRITES: &str = r#"cd /mnt-w
for flag in nosuid nodev; do
    grep ' /mnt-w ' /proc/self/mountinfo | grep -q "[ ,]$flag[ ,]" && echo $flag
done
mknod char c 1 3 2>/dev/null || echo no char
mknod block b 8 0 2>/dev/null || echo no block
mkfifo pipe && echo pipe
cp "$(readlink -f /usr/bin/python3)" tool && chmod 6755 tool
exec /usr/bin/python3 - <<'EOF'
import os
os.setgid(65534)
os.setuid(65534)
os.execv("./tool", ["./tool", "-c", "import os; print(os.geteuid(), os.getegid())"])
EOF"#;

#[test]
fn a_writable_directory_of_the_machine_gets_no_devices() {
    let test = Test::new();
    let shared = test.file("shared/inside", "").parent().unwrap().to_owned();
    let test = test.env("VESSL_SERVER_HOSTPATH_ROOTS", &shared.display().to_string());
    let mount =
        format!("mount: {{/mnt-w: {{hostpath: {{path: '{}'}}, readonly: false}}}}\n", shared.display());
    let said = printed(&test, &format!("{}{mount}{}", head("host://"), item(WRITES)));
    assert_eq!(said, "nosuid\nnodev\nno char\nno block\npipe\n65534 65534\n");
    assert!(!shared.join("char").exists() && !shared.join("block").exists());
    assert!(std::fs::metadata(shared.join("pipe")).unwrap().file_type().is_fifo());
    // It is root over the files all the same: what that is worth outside is for the administrator to say.
    let mode = std::fs::metadata(shared.join("tool")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o6755);
}

/// Others who may write to a directory of the machine must not reach git while it works.
#[test]
fn an_import_below_a_writable_directory_of_the_machine_is_the_runs_own() {
    let test = Test::new();
    repository(&test.path("code"));
    let shared = test.file("shared/inside", "").parent().unwrap().to_owned();
    let test = test.env("VESSL_SERVER_HOSTPATH_ROOTS", &shared.display().to_string());
    let yaml = format!(
        "{}mount: {{/mnt-w: {{hostpath: {{path: '{}'}}, readonly: false}}}}\n\
         import: {{/mnt-w/code: {{git: {{url: 'file://{}'}}}}}}\n{}",
        head("host://"),
        shared.display(),
        test.path("code").display(),
        item("cat /mnt-w/code/where; echo changed > /mnt-w/code/where; ls /mnt-w")
    );
    assert_eq!(printed(&test, &yaml), "main\ncode\ninside\n");
    assert_eq!(std::fs::read_dir(shared.join("code")).unwrap().count(), 0);
    // Also where a link of the image gives the directory another name: `/var/run` leads to `/run`.
    let git = format!("git: {{url: 'file://{}'}}", test.path("code").display());
    let yaml = format!(
        "{}mount: {{/var/run/w: {{hostpath: {{path: '{}'}}, readonly: false}}}}\n\
         import: {{/var/run/w/a: {{{git}}}, /run/w/b: {{{git}}}}}\n{}",
        head("host://"),
        shared.display(),
        item("cat /run/w/inside /run/w/a/where /var/run/w/b/where; echo changed > /run/w/b/where")
    );
    assert_eq!(printed(&test, &yaml), "main\nmain\n");
    for name in ["a", "b"] {
        assert_eq!(std::fs::read_dir(shared.join(name)).unwrap().count(), 0, "{name}");
    }
}
