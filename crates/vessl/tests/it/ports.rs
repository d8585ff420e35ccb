//! Ports of runs from outside: by host name and by path, who may, what goes through, what does not.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;
use sha2::Digest;

use crate::specs::{endless, host};
use crate::test::{Test, until};

/// A program with a web page on 8501 and an echo on 5432; nothing listens on 8502.
fn app() -> String {
    let ports = "ports:\n  - 8501\n  - 8502\n  - {name: db, type: tcp, port: 5432}\n";
    let script = format!("cat > /tmp/app.py <<'EOF'\n{}EOF\npython3 /tmp/app.py", include_str!("app.py"));
    format!("{}{ports}", host(&script))
}

fn started(test: &Test) -> String {
    let id = test.create(&app());
    test.until_log(&id, "listening");
    id
}

fn end(test: &Test, ids: &[&str]) {
    for id in ids {
        test.vessl(["run", "terminate", id, "--grace", "2"]).ok();
    }
    for id in ids {
        test.until_end(id);
    }
}

/// What came back.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// Reads one to the end of the connection.
    fn read(way: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        // Who refuses a request may close before all of it was read.
        let _ = way.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    #[track_caller]
    fn is(self, status: u16, text: &str) -> Self {
        assert_eq!(self.status, status, "{}\n\n{}", self.head, self.body);
        assert!(self.body.contains(text), "no `{text}` in {}", self.body);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Where a server shows ports, and how to ask there.
struct Proxy(SocketAddr);

impl Proxy {
    fn of(test: &Test) -> Self {
        let status = test.vessl(["server", "status", "--output", "json"]).ok().json();
        let url = status["ports"].as_str().unwrap_or_else(|| panic!("no ports: {status}"));
        Self(url.strip_prefix("http://").unwrap().parse().unwrap())
    }

    fn connect(&self) -> TcpStream {
        let way = TcpStream::connect(self.0).unwrap();
        way.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        way
    }

    /// Sends these very bytes.
    fn raw(&self, bytes: &[u8]) -> Answer {
        let mut way = self.connect();
        // It may be refused before all of it was read.
        let _ = way.write_all(bytes);
        Answer::read(&mut way)
    }

    fn host(&self, id: &str, port: u16) -> String {
        format!("{port}-{id}.vessl.localhost:{}", self.0.port())
    }

    fn get(&self, host: &str, path: &str, headers: &str) -> Answer {
        self.raw(
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n").as_bytes(),
        )
    }

    /// Opens a link as a browser would; the header with the cookie.
    fn enter(&self, test: &Test, id: &str, port: u16) -> String {
        let opened = opened(test, id, &[&port.to_string()]);
        let (_, code) = opened["url"].as_str().unwrap().split_once("/?").unwrap();
        let answer = self.get(&self.host(id, port), &format!("/a?b=c&{code}&d=e"), "").is(303, "");
        assert_eq!(answer.header("location"), Some("/a?b=c&d=e"));
        let cookie = answer.header("set-cookie").unwrap();
        assert!(cookie.ends_with("; secure; httponly; samesite=lax; path=/; max-age=604800"), "{cookie}");
        let value = cookie.split(';').next().unwrap().split_once('=').unwrap().1;
        format!("Cookie: __Host-vessl-port={value}\r\n")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn opened(test: &Test, id: &str, more: &[&str]) -> Value {
    test.vessl([&["run", "open", id, "--output", "json"], more].concat()).ok().json()
}

#[test]
fn a_port_has_its_own_host_name_and_a_link_opens_it() {
    let test = Test::new();
    let (one, two) = (started(&test), started(&test));
    let proxy = Proxy::of(&test);
    let (host_one, host_two) = (proxy.host(&one, 8501), proxy.host(&two, 8501));
    let closed = proxy.get(&host_one, "/", "").is(401, "is private");
    assert!(closed.body.contains(&format!("vessl run open {one} 8501")), "{}", closed.body);
    let page = proxy.get(&host_one, "/", "Accept: text/html,*/*\r\n").is(401, "<!doctype html>");
    assert!(!page.body.contains("<script") && page.header("cache-control") == Some("no-store"));
    let (pass_one, pass_two) = (proxy.enter(&test, &one, 8501), proxy.enter(&test, &two, 8501));
    for (host, id, pass) in [(&host_one, &one, &pass_one), (&host_two, &two, &pass_two)] {
        let answer = proxy.get(host, "/x%2Fy/../z?q=%20", pass).is(200, "");
        assert_eq!(answer.header("x-run"), Some(id.as_str()));
        assert_eq!(answer.json()["path"], "/x%2Fy/../z?q=%20");
    }
    // The pass of one is none of the other, nor of another port.
    proxy.get(&host_two, "/", &pass_one).is(401, "");
    proxy.get(&proxy.host(&one, 8502), "/", &pass_one).is(401, "");
    // A code is good once.
    let link = opened(&test, &one, &["8501"]);
    let code = link["url"].as_str().unwrap().split_once("/?").unwrap().1.to_owned();
    assert!(link["expires_at"].is_string(), "{link}");
    assert!(proxy.get(&host_two, &format!("/?{code}"), "").is(303, "").header("set-cookie").is_none());
    assert!(proxy.get(&host_one, &format!("/?{code}"), "").is(303, "").header("set-cookie").is_none());
    // Everybody, and nobody again.
    let public = opened(&test, &one, &["8501", "--public"]);
    assert!(public["expires_at"].is_null() && !public["url"].as_str().unwrap().contains("code"), "{public}");
    proxy.get(&host_one, "/", "").is(200, "");
    proxy.get(&proxy.host(&one, 8502), "/", "").is(401, "");
    assert_eq!(test.read(&one)["ports"][0]["public"], true);
    opened(&test, &one, &["8501", "--private"]);
    proxy.get(&host_one, "/", "").is(401, "");
    proxy.get(&host_one, "/", &pass_one).is(200, "");
    // A new server knows the pass, and another attempt does not.
    test.vessl(["server", "stop"]).ok();
    test.vessl(["run", "list"]).ok();
    let proxy = Proxy::of(&test);
    proxy.get(&proxy.host(&one, 8501), "/", &pass_one).is(200, "");
    end(&test, &[&one, &two]);
    proxy.get(&proxy.host(&one, 8501), "/", &pass_one).is(410, &format!("run {one} has ended (terminated)"));
    test.vessl(["run", "open", &one, "8501"]).code(5).says(&["the run has ended (terminated)"]);
    test.vessl(["run", "restart", &one]).ok();
    test.until_status(&one, "running");
    proxy.get(&proxy.host(&one, 8501), "/", &pass_one).is(401, "");
    end(&test, &[&one]);
}

#[test]
fn a_port_has_a_path_for_clients_that_do_not_find_the_name() {
    let test = Test::new().env("VESSL_SERVER_PORTS_DOMAIN", "runs.example");
    let id = started(&test);
    let proxy = Proxy::of(&test);
    let at = proxy.0.to_string();
    let link = test.vessl(["run", "open", &id, "8501", "--by-path", "--no-browser"]).ok().stdout;
    let path = link.trim().strip_prefix(&format!("http://{at}")).unwrap().to_owned();
    let prefix = format!("/runs/{id}/ports/8501");
    let answer = proxy.get(&at, &path, "").is(303, "");
    assert_eq!(answer.header("location"), Some(format!("{prefix}/").as_str()));
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let pass = format!("Cookie: app=1; {cookie}\r\n");
    assert!(cookie.starts_with(&format!("vessl-port-{id}-8501=")), "{cookie}");
    for host in [at.as_str(), "localhost", "[::1]:1"] {
        let answer = proxy.get(host, &format!("{prefix}/x?y"), &pass).is(200, "").json();
        assert_eq!(answer["path"], "/x?y");
        let headers = &answer["headers"];
        assert_eq!((&headers["host"], &headers["cookie"]), (&host.into(), &"app=1".into()), "{answer}");
        assert_eq!(headers["x-forwarded-prefix"], prefix.as_str());
    }
    let moved = proxy.get(&at, &prefix, &pass).is(308, "");
    assert_eq!(moved.header("location"), Some(format!("{prefix}/").as_str()));
    proxy.get(&at, "/", "").is(404, "ports of runs are below");
    proxy.get(&format!("8501-{id}.runs.example"), "/", "").is(401, "");
    proxy.get(&proxy.host(&id, 8501), "/", "").is(421, "PORT-RUN.runs.example");
    test.vessl(["server", "stop"]).ok();
    let test = test.env("VESSL_SERVER_PORTS_BY_PATH", "false");
    test.vessl(["run", "list"]).ok();
    let proxy = Proxy::of(&test);
    proxy.get(&proxy.0.to_string(), &format!("{prefix}/x?y"), &pass).is(421, "");
    test.vessl(["run", "open", &id, "8501", "--by-path"]).code(2).says(&["no ports below paths"]);
    test.vessl(["server", "stop"]).ok();
    let test = test.env("VESSL_SERVER_PORTS_LISTEN", "");
    test.vessl(["run", "open", &id, "8501"]).code(5).says(&["`ports_listen` in its settings is empty"]);
    assert!(test.read(&id)["ports"][0]["url"].is_null());
    end(&test, &[&id]);
}

#[test]
fn each_way_not_to_get_there_is_said() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let test = Test::new();
    let waits = |text: String| text.replace("250m", &cores.to_string());
    let id = test.create(&waits(app()));
    test.until_log(&id, "listening");
    let queued = test.create(&waits(format!("{}ports: [8501]\n", endless())));
    test.until_status(&queued, "queued");
    let proxy = Proxy::of(&test);
    let get = |id: &str, port| proxy.get(&proxy.host(id, port), "/", &proxy.enter(&test, id, port));
    get(&id, 8502).is(502, &format!("nothing listens on port 8502 of run {id} yet"));
    get(&queued, 8501).is(503, "is queued: its container does not run");
    proxy.get(&proxy.host(&id, 8503), "/", "").is(404, "declares no port 8503");
    proxy.get(&proxy.host(&id, 5432), "/", "").is(404, "is a `tcp` port");
    proxy.get(&proxy.host("999999999999", 8501), "/", "").is(404, "there is no run 999999999999");
    let run = test.read(&id);
    let shown: Vec<(&Value, &Value)> =
        run["ports"].as_array().unwrap().iter().map(|port| (&port["port"], &port["open"])).collect();
    let (open, closed) = (true.into(), false.into());
    assert_eq!(
        shown,
        [(&8501.into(), &open), (&8502.into(), &closed), (&5432.into(), &Value::Null)],
        "{run}"
    );
    let url = format!("http://8501-{id}.vessl.localhost:{}/", proxy.0.port());
    assert_eq!(run["ports"][0]["url"], url.as_str());
    test.vessl(["run", "read", &id]).ok().prints(&[&format!("{url}  open"), "nothing listens yet"]);
    test.vessl(["run", "open", &id]).code(2).says(&["has several ports: 8501 (", "vessl run open"]);
    test.vessl(["run", "open", &id, "5432"]).code(5).says(&["is a `tcp` port"]);
    test.vessl(["run", "open", &id, "9"]).code(5).says(&["declares no port 9", "8501, 8502, 5432"]);
    assert!(test.vessl(["run", "open", &queued]).ok().stdout.starts_with("http://8501-"));
    end(&test, &[&queued, &id]);
}

#[test]
fn who_asked_is_said_to_the_program_and_its_own_headers_go_through() {
    let test = Test::new();
    let id = started(&test);
    let proxy = Proxy::of(&test);
    let (host, pass) = (proxy.host(&id, 8501), proxy.enter(&test, &id, 8501));
    let more = "Authorization: Bearer of-the-app\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\n\
                Keep-Alive: 5\r\nX-Hop: 1\r\nX-App: 2\r\nCookie: app=3\r\n";
    let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\n{pass}{more}Connection: close, X-Hop\r\n\r\n");
    let headers = proxy.raw(request.as_bytes()).is(200, "").json()["headers"].clone();
    let expected = serde_json::json!({
        "host": host, "authorization": "Bearer of-the-app", "x-app": "2", "cookie": "app=3",
        "x-forwarded-for": "127.0.0.1", "x-forwarded-host": host, "x-forwarded-proto": "http",
    });
    assert_eq!(headers, expected);
    // Nor does a program set what is ours, or say to the browser what it says to the proxy.
    let answer = proxy.get(&host, "/cookies", &pass).is(200, "set");
    assert!(answer.head.contains("set-cookie: app=1") && !answer.head.contains("stolen"), "{}", answer.head);
    assert_eq!(answer.header("x-inside"), None);
    end(&test, &[&id]);
}

#[test]
fn uploads_events_and_web_sockets_go_through_as_they_come() {
    let test = Test::new();
    let (id, other) = (started(&test), started(&test));
    let proxy = Proxy::of(&test);
    let (host, pass) = (proxy.host(&id, 8501), proxy.enter(&test, &id, 8501));
    let bytes: Vec<u8> =
        (0..50_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let expected = format!("{} {}", bytes.len(), hex(&sha2::Sha256::digest(&bytes)));
    let head = format!("POST /count HTTP/1.1\r\nHost: {host}\r\n{pass}Connection: close\r\n");
    let sized = [format!("{head}Content-Length: {}\r\n\r\n", bytes.len()).as_bytes(), &bytes].concat();
    proxy.raw(&sized).is(200, &expected);
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for piece in bytes.chunks(1_000_003) {
        chunked.extend([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
    }
    chunked.extend(b"0\r\n\r\n");
    proxy.raw(&chunked).is(200, &expected);

    let mut events = BufReader::new(proxy.connect());
    let request = format!("GET /events HTTP/1.1\r\nHost: {host}\r\n{pass}\r\n");
    events.get_mut().write_all(request.as_bytes()).unwrap();
    let line_with = |text: &str, from: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(from.read_line(&mut line).unwrap() > 0, "no `{text}`");
        }
    };
    line_with("data: first", &mut events);
    // The second is not sent before somebody has seen the first.
    proxy.get(&host, "/go", &pass).is(200, "gone on");
    line_with("data: second", &mut events);

    let mut socket = proxy.connect();
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\n{pass}Origin: http://{host}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    for length in [5_usize, 125, 126, 60_000] {
        let (data, mask) = (vec![b'w'; length], [1, 2, 3, 4]);
        let short = u8::try_from(length).ok().filter(|short| *short < 126);
        let size = u16::try_from(length).unwrap().to_be_bytes();
        let (sent, answered) = match short {
            Some(short) => (vec![0x82, 0x80 | short], vec![0x82, short]),
            None => ([&[0x82, 0xfe], &size[..]].concat(), [&[0x82, 126], &size[..]].concat()),
        };
        let masked: Vec<u8> = data.iter().enumerate().map(|(n, byte)| byte ^ mask[n % 4]).collect();
        socket.write_all(&[sent, mask.to_vec(), masked].concat()).unwrap();
        let mut answer = vec![0; answered.len() + length];
        socket.read_exact(&mut answer).unwrap();
        assert!(answer == [answered, data].concat(), "{length}");
    }

    // One connection of a client may be used for several programs, one after the other.
    let other_pass = proxy.enter(&test, &other, 8501);
    let mut way = BufReader::new(proxy.connect());
    for _ in 0..3 {
        for (id, pass) in [(&id, &pass), (&id, &pass), (&other, &other_pass)] {
            let request = format!("GET /x HTTP/1.1\r\nHost: {}\r\n{pass}\r\n", proxy.host(id, 8501));
            way.get_mut().write_all(request.as_bytes()).unwrap();
            let (mut line, mut length, mut run) = (String::new(), 0, String::new());
            while line != "\r\n" {
                line.clear();
                assert!(way.read_line(&mut line).unwrap() > 0);
                let (name, value) = line.trim().split_once(": ").unwrap_or_default();
                match name {
                    "content-length" => length = value.parse().unwrap(),
                    "x-run" => value.clone_into(&mut run),
                    _ => {}
                }
            }
            way.read_exact(&mut vec![0; length]).unwrap();
            assert_eq!(run, *id);
        }
    }
    end(&test, &[&id, &other]);
    // The end of the run is the end of its connections.
    assert_eq!(socket.read(&mut [0; 8]).unwrap_or_default(), 0);
}

#[test]
fn requests_that_mean_harm_do_none() {
    let test = Test::new();
    let (id, other) = (started(&test), started(&test));
    let proxy = Proxy::of(&test);
    let (host, at) = (proxy.host(&id, 8501), proxy.0.to_string());
    let pass = proxy.enter(&test, &id, 8501);
    let token = std::fs::read_to_string(test.data().join("token")).unwrap();
    // Another name, and the API.
    for evil in
        ["evil.example", "8501-1.vessl.localhost.evil.example", "10.0.0.1", "vessl.localhost", "0.0.0.0"]
    {
        proxy.get(evil, "/", &pass).is(421, "nothing goes by this host name here");
    }
    let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
    proxy.get(&at, "/v1/whoami", &bearer).is(404, "");
    proxy.get(&host, "/v1/whoami", &bearer).is(401, "");
    proxy
        .raw(format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())
        .is(400, "");
    let two = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nHost: {}\r\n{pass}Connection: close\r\n\r\n",
        proxy.host(&other, 8501)
    );
    proxy.raw(two.as_bytes()).is(400, "");
    let absolute = format!(
        "GET http://{}/ HTTP/1.1\r\nHost: {host}\r\n{pass}Connection: close\r\n\r\n",
        proxy.host(&other, 8501)
    );
    proxy.raw(absolute.as_bytes()).is(400, "");
    // Dots and slashes, written in any way, lead out of no port.
    let answer = proxy.get(&at, &opened_path(&test, &id), "").is(303, "");
    let cookie = format!("Cookie: {}\r\n", answer.header("set-cookie").unwrap().split(';').next().unwrap());
    for dots in ["../../..", "..%2f..%2f..", "%2e%2e/%2e%2e/%2e%2e", "..\\..\\.."] {
        let path = format!("/runs/{id}/ports/8501/{dots}/{other}/ports/8501/");
        let answer = proxy.get(&at, &path, &cookie).is(200, "");
        assert_eq!(answer.header("x-run"), Some(id.as_str()), "{path}");
    }
    proxy.get(&at, &format!("/runs/{other}/ports/8501/"), &cookie).is(401, "");
    proxy.get(&at, &format!("/runs%2f{id}%2fports%2f8501/"), &cookie).is(404, "");
    // Pages of others, which have the same cookies with them.
    let foreign = format!("{pass}Origin: http://{}\r\n", proxy.host(&other, 8501));
    proxy.get(&host, "/", &foreign).is(403, "a page of another site");
    let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    proxy.get(&host, "/ws", &format!("{foreign}{upgrade}")).is(403, "");
    proxy
        .get(&host, "/", &format!("{pass}Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\n"))
        .is(403, "");
    // Where a body ends is said in one way: of two the length does not count. What follows is a request of its own, without a pass.
    let post = format!("POST /count HTTP/1.1\r\nHost: {host}\r\n{pass}");
    let behind = format!("GET /smuggled HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    for (lengths, body, status) in [
        ("Content-Length: 50\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", 200),
        ("Transfer-Encoding: chunked\r\nContent-Length: 50\r\n", "0\r\n\r\n", 200),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "0\r\n\r\n", 400),
        ("Content-Length: +5\r\n", "0\r\n\r\n", 400),
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n", 400),
        ("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n", 400),
    ] {
        let answer = proxy.raw(format!("{post}{lengths}\r\n{body}{behind}").as_bytes());
        assert_eq!(answer.status, status, "{lengths}: {}\n{}", answer.head, answer.body);
    }
    for body in ["5\r\nabc\r\n0\r\n\r\n", "zz\r\n\r\n", "-1\r\nabc\r\n0\r\n\r\n", "1\nx\r\n0\r\n\r\n"] {
        let answer = proxy.raw(format!("{post}Transfer-Encoding: chunked\r\n\r\n{body}{behind}").as_bytes());
        assert_ne!(answer.status, 200, "{body}: {}", answer.body);
    }
    let seen = proxy.get(&host, "/seen", &pass).is(200, "");
    assert!(!seen.body.contains("smuggled"), "{}", seen.body);
    // Floods and dawdlers.
    proxy.get(&host, "/", &"X-Many: 1\r\n".repeat(500)).is(431, "");
    proxy.get(&host, "/", &format!("X-Long: {}\r\n", "x".repeat(1 << 20))).is(431, "");
    let mut slow = proxy.connect();
    slow.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Slow: ").as_bytes()).unwrap();
    let idle: Vec<TcpStream> = (0..500).map(|_| proxy.connect()).collect();
    proxy.get(&host, "/x", &pass).is(200, "");
    assert_ne!(Answer::read(&mut slow).status, 200);
    drop(idle);
    end(&test, &[&id, &other]);
}

/// A certificate for all ports of a domain, signed by itself, and its key.
fn certificate(test: &Test, domain: &str) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-days", "2", "-subj", "/CN=test", "-addext", &format!("subjectAltName=DNS:*.{domain}")]);
    openssl.arg("-keyout").arg(test.path("key.new")).arg("-out").arg(test.path("certificate.new"));
    let done = openssl.output().expect("this test needs `openssl`");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for name in ["key", "certificate"] {
        std::fs::rename(test.path(&format!("{name}.new")), test.path(&format!("{name}.pem"))).unwrap();
    }
}

#[test]
fn ports_are_encrypted_with_the_certificate_of_the_settings() {
    let test = Test::new();
    certificate(&test, "runs.example");
    let path = |name: &str| test.path(name).display().to_string();
    let (certificate_file, key_file) = (path("certificate.pem"), path("key.pem"));
    let test = test
        .env("VESSL_SERVER_PORTS_CERTIFICATE", &certificate_file)
        .env("VESSL_SERVER_PORTS_KEY", &key_file)
        .env("VESSL_SERVER_PORTS_DOMAIN", "runs.example")
        .env("VESSL_SERVER_PORTS_LISTEN", "0.0.0.0:0");
    let id = started(&test);
    let link = opened(&test, &id, &["8501"]);
    let (url, port) = (link["url"].as_str().unwrap().to_owned(), test.read(&id)["ports"][0]["url"].clone());
    assert!(url.starts_with(&format!("https://8501-{id}.runs.example:")), "{url}");
    assert_eq!(link["path_url"], Value::Null);
    let number = port.as_str().unwrap().trim_end_matches('/').rsplit(':').next().unwrap().to_owned();
    let curl = |url: &str| {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "-L",
            "--cacert",
            &certificate_file,
            "-c",
            &path_of(&test, "jar"),
            "-b",
            &path_of(&test, "jar"),
        ]);
        curl.args(["--resolve", &format!("8501-{id}.runs.example:{number}:127.0.0.1"), url]);
        let done = curl.output().expect("this test needs `curl`");
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
    };
    let seen = curl(&format!("https://8501-{id}.runs.example:{number}/"));
    assert!(seen.contains("vessl run open"), "{seen}");
    let seen = curl(&url);
    assert!(seen.contains("\"x-forwarded-proto\": \"https\""), "{seen}");
    // What is not encrypted is not answered; a certificate that was renewed is the one from then on.
    let mut plain = TcpStream::connect(("127.0.0.1", number.parse().unwrap())).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    certificate(&test, "runs.example");
    let seen = curl(&format!("https://8501-{id}.runs.example:{number}/headers"));
    assert!(seen.contains("\"x-forwarded-proto\": \"https\""), "{seen}");
    end(&test, &[&id]);
}

fn path_of(test: &Test, name: &str) -> String {
    test.path(name).display().to_string()
}

#[test]
fn ten_thousand_idle_connections_keep_nobody_out_for_long() {
    let test = Test::new();
    let id = started(&test);
    let proxy = Proxy::of(&test);
    let (host, pass) = (proxy.host(&id, 8501), proxy.enter(&test, &id, 8501));
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(hard >= 12_000, "this test needs 12 000 open files, and may have {hard}");
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(12_000), hard).unwrap();
    let idle: Vec<TcpStream> = (0..10_000).map(|_| proxy.connect()).collect();
    proxy.get(&host, "/x", &pass).is(200, "");
    drop(idle);
    end(&test, &[&id]);
}

fn opened_path(test: &Test, id: &str) -> String {
    let link = opened(test, id, &["8501"]);
    let url = link["path_url"].as_str().unwrap();
    url.strip_prefix("http://").unwrap().split_once('/').map(|(_, path)| format!("/{path}")).unwrap()
}

#[test]
fn a_tcp_port_has_a_port_of_the_machine_while_the_run_runs() {
    // Not those of the other tests: it wants the same one again.
    let test = Test::new().env("VESSL_SERVER_TCP_PORTS", "23400-23419");
    let id = started(&test);
    let address = || {
        let port = test.read(&id)["ports"][2].clone();
        port["url"].as_str().and_then(|url| url.strip_prefix("tcp://")?.parse::<SocketAddr>().ok())
    };
    until("the port is not listened for", || address().is_some());
    let at = address().unwrap();
    assert!((23_400..=23_419).contains(&at.port()) && at.ip().is_loopback(), "{at}");
    let talk = |at: SocketAddr| {
        let mut way = TcpStream::connect(at).unwrap();
        way.write_all(&vec![b'x'; 3_000_000]).unwrap();
        way.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        way.read_to_end(&mut answer).unwrap();
        assert!(answer.len() == 3_000_005 && answer.ends_with(b" over"), "{}", answer.len());
    };
    talk(at);
    test.vessl(["server", "stop"]).ok();
    until("the port is not listened for again", || address().is_some());
    assert_eq!(address(), Some(at));
    talk(at);
    end(&test, &[&id]);
    until("the port is not freed", || TcpStream::connect(at).is_err());
    assert_eq!(address(), None);
}

#[test]
fn a_taken_port_gives_way_to_a_free_one() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let test = Test::new().env("VESSL_SERVER_PORTS_LISTEN", &at.to_string());
    test.vessl(["run", "list"]).ok();
    let found = Proxy::of(&test).0;
    assert!(found != at && found.ip() == at.ip(), "{found}");
    let log = std::fs::read_to_string(test.data().join("server.log")).unwrap();
    assert!(log.contains(&format!("{at} is taken")) && log.contains(&found.to_string()), "{log}");
    test.vessl(["server", "stop"]).ok();
    let test = test.env("VESSL_SERVER_PORTS_LISTEN", "0.0.0.0:7381");
    test.vessl(["server", "run", "--print-config"]).code(2).says(&["`ports_listen` is wrong", "loopback"]);
}
