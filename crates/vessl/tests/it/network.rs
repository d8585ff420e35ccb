//! The network of a run: its own, and what it does not reach.
use std::net::TcpListener;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::specs::host;
use crate::test::{Test, until};

/// Tells the address of the run's interface, and serves what is below `/tmp/www` on port 8080 of all of its addresses.
const SERVE: &str = r#"mkdir -p /tmp/www; echo "$VESSL_RUN_ID" > /tmp/www/id
cat > /tmp/address.py <<'EOF'
import fcntl, socket, struct
name = struct.pack("256s", b"eth0")
anything = socket.socket()
print(socket.inet_ntoa(fcntl.ioctl(anything.fileno(), 0x8915, name)[20:24]))
EOF
python3 -m http.server 8080 --directory /tmp/www > /dev/null 2>&1 &
until python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8080))' 2> /dev/null; do :; done
echo ready
sleep 1000"#;

/// Says `yes` if a connection is taken, and why not otherwise.
fn connects(test: &Test, id: &str, to: &str) -> String {
    let (address, port) = to.rsplit_once(':').unwrap();
    let script = format!(
        "import socket\ntry:\n  socket.create_connection((\"{address}\", {port}), 1.5)\n  print(\"yes\")\n\
         except Exception as error:\n  print(type(error).__name__)"
    );
    test.vessl(["run", "exec", id, "--", "python3", "-c", &script]).ok().stdout.trim().to_owned()
}

fn address(test: &Test, id: &str) -> String {
    test.vessl(["run", "exec", id, "--", "python3", "/tmp/address.py"]).ok().stdout.trim().to_owned()
}

/// The machine's end of the connection to an address.
fn interface(address: &str) -> std::path::PathBuf {
    let parts = address.split('.').map(|part| format!("{:02x}", part.parse::<u8>().unwrap()));
    Path::new("/sys/class/net").join(format!("vsl{}", parts.collect::<String>()))
}

#[test]
fn runs_use_the_same_port_and_reach_neither_each_other_nor_the_machine() {
    let test = Test::new();
    let ids = [test.create(&host(SERVE)), test.create(&host(SERVE))];
    for id in &ids {
        test.until_log(id, "ready");
        let script =
            "import urllib.request as r; print(r.urlopen(\"http://127.0.0.1:8080/id\").read().decode())";
        let done = test.vessl(["run", "exec", id, "--", "python3", "-c", script]).ok();
        assert_eq!(done.stdout.trim(), id);
    }
    let addresses = [address(&test, &ids[0]), address(&test, &ids[1])];
    assert!(addresses.iter().all(|address| address.starts_with("10.246.")), "{addresses:?}");
    assert_ne!(addresses[0], addresses[1]);
    assert_eq!(connects(&test, &ids[0], &format!("{}:8080", addresses[0])), "yes");
    assert_eq!(connects(&test, &ids[0], &format!("{}:8080", addresses[1])), "TimeoutError");
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = everywhere.local_addr().unwrap().port();
    assert_eq!(connects(&test, &ids[0], &format!("127.0.0.1:{port}")), "ConnectionRefusedError");
    assert_eq!(connects(&test, &ids[0], &format!("10.246.0.1:{port}")), "TimeoutError");
    assert_eq!(connects(&test, &ids[0], "169.254.169.254:80"), "TimeoutError");
    // The rules are for IPv4: neither end has an address of the other version, which would lead past them.
    let done = test.vessl(["run", "exec", &ids[0], "--", "sh", "-c", "cat /proc/net/if_inet6 || true"]).ok();
    assert!(done.stdout.lines().all(|line| line.ends_with(" lo")), "{}", done.stdout);
    let outside = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    for address in &addresses {
        let name = interface(address).file_name().unwrap().to_string_lossy().into_owned();
        assert!(!outside.contains(&name), "{outside}");
    }
    // The machine itself reaches a run, and nothing is left of the one that ends or is killed.
    assert!(std::net::TcpStream::connect(format!("{}:8080", addresses[0])).is_ok());
    assert!(addresses.iter().all(|address| interface(address).exists()));
    test.vessl(["run", "terminate", &ids[0], "--grace", "0"]).ok();
    nix::sys::signal::kill(test.agent(&ids[1]), Signal::SIGKILL).unwrap();
    for (id, address) in ids.iter().zip(&addresses) {
        test.until_end(id);
        until("the interface is left", || !interface(address).exists());
    }
}

#[test]
fn the_settings_say_which_network() {
    let interfaces = "cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' ' | sort | tr '\\n' ' '";
    let shown = |mode: &str| {
        let test = Test::new().env("VESSL_SERVER_NETWORK", mode);
        let id = test.wait(&host(interfaces)).ok().json()["id"].to_string();
        test.vessl(["run", "logs", &id]).ok().stdout.trim().to_owned()
    };
    let here = std::fs::read_dir("/sys/class/net").unwrap().count();
    assert_eq!(shown("none").split(' ').filter(|name| name.contains("eth")).count(), 0);
    assert!(shown("nat").split(' ').any(|name| name == "eth0"));
    // Those of other runs come and go.
    let of_machine = |text: &str| text.split(' ').filter(|name| !name.starts_with('v')).count();
    assert!(of_machine(&shown("host")) <= here);
    let test = Test::new().env("VESSL_SERVER_NETWORK_POOL", "8.8.0.0/16");
    test.vessl(["run", "list"]).code(4).says(&["is no pool of addresses for runs"]);
    let test = Test::new().env("VESSL_SERVER_NETWORK", "bridge");
    test.vessl(["run", "list"]).code(4).says(&["bridge"]);
}

#[test]
fn an_ordinary_user_has_the_network_of_the_machine_and_the_server_says_so() {
    let test = Test::ordinary();
    test.wait(&host("true")).ok();
    let log = std::fs::read_to_string(test.data().join("server.log")).unwrap();
    assert!(log.contains("only a server of root can give runs a network of their own"), "{log}");
    let test = Test::ordinary().env("VESSL_SERVER_NETWORK", "nat");
    let run = test
        .vessl_with(["run", "create", "-f", "-", "--output", "json"], host("true").as_bytes())
        .ok()
        .json();
    let id = run["id"].to_string();
    until("it does not say why it waits", || {
        test.vessl(["run", "explain", &id])
            .stdout
            .contains("only a server of root can give runs a network of their own")
    });
    test.vessl(["run", "terminate", &id]).ok();
    test.until_end(&id);
}

#[test]
fn one_that_may_reach_everything_does() {
    let test = Test::new()
        .env("VESSL_SERVER_OPEN_NETWORK", "true")
        .env("VESSL_SERVER_NETWORK_POOL", "10.247.0.0/24");
    let id = test.create(&host(SERVE));
    test.until_log(&id, "ready");
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = everywhere.local_addr().unwrap().port();
    let reached = connects(&test, &id, &format!("10.247.0.1:{port}"));
    test.vessl(["run", "terminate", &id, "--grace", "0"]).ok();
    test.until_end(&id);
    assert_eq!(reached, "yes");
}
