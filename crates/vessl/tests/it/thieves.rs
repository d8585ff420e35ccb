//! Programs that take the place of a server: they learn nothing of the token and nothing of what was to be sent.
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::test::{Test, until};

const SECRET: &str = "canary-of-a-secret-271828";

/// What a thief has read so far.
type Loot = Arc<Mutex<Vec<u8>>>;

/// Answers one connection after the other: reads what comes, and gives `answer` of it.
fn rob(mut stream: impl Read + Write, loot: &Loot, answer: &dyn Fn(&[u8]) -> Vec<u8>) {
    let mut bytes = [0; 4096];
    while let Ok(n) = stream.read(&mut bytes) {
        if n == 0 {
            return;
        }
        loot.lock().unwrap().extend_from_slice(&bytes[..n]);
        if stream.write_all(&answer(&bytes[..n])).is_err() {
            return;
        }
    }
}

fn plain(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Every way to ask that would carry something of worth.
fn ask(test: &Test, server: &str) -> String {
    let mut said = String::new();
    for args in [vec!["whoami"], vec!["run", "list"], vec!["secret", "create", "S"]] {
        let done = test.vessl_with([vec!["--server", server], args].concat(), SECRET.as_bytes());
        assert!([4, 5].contains(&done.code), "{done:?}");
        said += &done.stderr;
    }
    said
}

fn nothing_was_taken(loot: &Loot, token: &str) {
    let text = String::from_utf8_lossy(&loot.lock().unwrap()).into_owned();
    assert!(text.contains("/v1/challenge"), "it was asked for its proof: {text}");
    for worth in [token, SECRET, "uthorization", "Bearer"] {
        assert!(!text.contains(worth), "{text}");
    }
}

/// A world whose server listened on a port until it was stopped; the port, and its token.
fn robbed() -> (Test, String, String) {
    let test = Test::new().env("VESSL_SERVER_LISTEN", "127.0.0.1:0");
    test.vessl(["whoami"]).ok();
    let url =
        test.vessl(["server", "status", "--output", "json"]).ok().json()["url"].as_str().unwrap().to_owned();
    let token = std::fs::read_to_string(test.data().join("token")).unwrap().trim().to_owned();
    test.vessl(["server", "stop"]).ok();
    (test.env("VESSL_TOKEN", &token), url, token)
}

/// Takes a port that was just given up.
fn take(url: &str) -> TcpListener {
    let address = url.strip_prefix("http://").unwrap();
    let mut taken = None;
    until("the port is not free", || {
        taken = TcpListener::bind(address).ok();
        taken.is_some()
    });
    taken.unwrap()
}

#[test]
fn a_program_on_the_port_of_a_stopped_server_gets_no_token() {
    let (test, url, token) = robbed();
    let (listener, loot) = (take(&url), Loot::default());
    let seen = loot.clone();
    std::thread::spawn(move || {
        let who = r#"{"user":"owner","organization":"o","project":"p","server_version":"1","instance":"i"}"#;
        let proofs = [who.to_owned(), format!(r#"{{"proof":"{}"}}"#, "0".repeat(64)), "no".to_owned()];
        for (stream, body) in listener.incoming().zip(proofs.iter().cycle()) {
            rob(stream.unwrap(), &seen, &|_| plain(body));
        }
    });
    let said = ask(&test, &url);
    assert!(said.contains("does not prove that it has the token"), "{said}");
    assert!(said.contains("is not the server that this token is of"), "{said}");
    nothing_was_taken(&loot, &token);
}

/// Passes everything on to the real server at `to`, and keeps a copy.
fn pass_on(listener: TcpListener, loot: Loot, to: String) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let relay = |request: &[u8]| {
                let mut server = TcpStream::connect(&to).unwrap();
                server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                server.write_all(request).unwrap();
                let mut answer = vec![0; 65536];
                let n = server.read(&mut answer).unwrap();
                answer.truncate(n);
                answer
            };
            rob(stream.unwrap(), &loot, &relay);
        }
    });
}

fn url(test: &Test) -> String {
    test.vessl(["server", "status", "--output", "json"]).ok().json()["url"].as_str().unwrap().to_owned()
}

#[test]
fn a_program_that_passes_everything_on_to_the_real_server_gets_no_token() {
    let (test, gone, token) = robbed();
    let (listener, loot) = (take(&gone), Loot::default());
    // The server has moved to another port.
    test.vessl(["whoami"]).ok();
    let real = url(&test);
    assert_ne!(real, gone);
    pass_on(listener, loot.clone(), real.strip_prefix("http://").unwrap().to_owned());
    let said = ask(&test, &gone);
    assert!(said.contains("is not the server that this token is of"), "{said}");
    nothing_was_taken(&loot, &token);
    test.vessl(["--server", &real, "whoami"]).ok();
}

#[test]
fn a_program_at_another_address_with_the_same_port_gets_no_token() {
    let test = Test::new().env("VESSL_SERVER_LISTEN", "127.0.0.1:0");
    test.vessl(["whoami"]).ok();
    let real = url(&test);
    let token = std::fs::read_to_string(test.data().join("token")).unwrap().trim().to_owned();
    let test = test.env("VESSL_TOKEN", &token);
    let port = real.rsplit_once(':').unwrap().1;
    for host in ["[::1]", "127.0.0.2"] {
        let loot = Loot::default();
        let listener = TcpListener::bind(format!("{host}:{port}")).unwrap();
        pass_on(listener, loot.clone(), real.strip_prefix("http://").unwrap().to_owned());
        let said = ask(&test, &format!("http://{host}:{port}"));
        let words = ["is not the server that this token is of", "does not prove that it has the token"];
        assert!(words.iter().any(|words| said.contains(words)), "{said}");
        nothing_was_taken(&loot, &token);
    }
    test.vessl(["--server", &real, "whoami"]).ok();
}

#[test]
fn a_program_on_the_socket_of_a_stopped_server_gets_no_token() {
    let test = Test::new();
    test.vessl(["whoami"]).ok();
    let token = std::fs::read_to_string(test.data().join("token")).unwrap().trim().to_owned();
    test.vessl(["server", "stop"]).ok();
    let path = test.path("s.sock");
    let (listener, loot) = (UnixListener::bind(&path).unwrap(), Loot::default());
    let seen = loot.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            rob(stream.unwrap(), &seen, &|_| plain("{}"));
        }
    });
    let test = test.env("VESSL_TOKEN", &token);
    let said = ask(&test, &format!("unix://{}", path.display()));
    assert!(said.contains("does not prove that it has the token"), "{said}");
    nothing_was_taken(&loot, &token);
}

#[test]
fn without_a_token_nothing_is_sent_at_all() {
    let (listener, loot) = (TcpListener::bind("127.0.0.1:0").unwrap(), Loot::default());
    let (url, seen) = (format!("http://{}", listener.local_addr().unwrap()), loot.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            rob(stream.unwrap(), &seen, &|_| plain("{}"));
        }
    });
    let said = ask(&Test::new(), &url);
    assert!(said.contains("wants a token"), "{said}");
    assert!(loot.lock().unwrap().is_empty());
}
