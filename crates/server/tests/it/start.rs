//! Real sockets, the lock of the data directory, `server.json`, the way out.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vessl_core::ids::RunId;
use vessl_server::testing::{Entrance, Setup, start};

use crate::world::{DEADLINE, Place, RUNS, run_file};

fn request(token: &str, line: &str, body: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn talk<S: AsyncReadExt + AsyncWriteExt + Unpin>(mut stream: S, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(DEADLINE, read).await.expect("an answer").unwrap();
    answer
}

#[tokio::test]
async fn a_server_on_a_port_from_start_to_stop() {
    let place = Place::with(|config| config.listen = "127.0.0.1:0".to_owned());
    let running = start(place.setup()).await.unwrap();
    let lead = place.dir.path().join("data/server.json");
    let said: Value = serde_json::from_slice(&std::fs::read(&lead).unwrap()).unwrap();
    assert_eq!((said["v"].as_u64(), said["url"].as_str()), (Some(1), Some(running.url.as_str())));
    assert_eq!(said["pid"], std::process::id());
    let address = running.url.strip_prefix("http://").unwrap().to_owned();
    let connect = async || tokio::net::TcpStream::connect(&address).await.unwrap();
    let answer = talk(connect().await, &request(running.token.expose(), "GET /v1/server", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // One who follows a run does not hold the stop up.
    let body = serde_json::json!({ "yaml": run_file("x", "", "fake say running\nfake hold") }).to_string();
    let runs = format!("POST {RUNS}");
    let answer = talk(connect().await, &request(running.token.expose(), &runs, &body)).await;
    let id = answer.split("\"id\":").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let follow = format!("GET {RUNS}/{id}/events");
    let follower = tokio::spawn({
        let (stream, request) = (connect().await, request(running.token.expose(), &follow, ""));
        async move { talk(stream, &request).await }
    });
    let answer = talk(connect().await, &request(running.token.expose(), "POST /v1/shutdown", "")).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    tokio::time::timeout(DEADLINE, running.wait()).await.expect("it stops");
    assert!(!lead.exists());
    assert!(follower.await.unwrap().contains("HTTP/1.1 200"));
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
    assert_eq!(place.world.littered().len(), 1, "the agent lives on");
    place.open().await;
}

#[tokio::test]
async fn a_server_on_a_socket() {
    use std::os::unix::fs::PermissionsExt;
    let mut place = Place::new();
    let path = place.dir.path().join("s.sock");
    place.config.listen = format!("unix:{}", path.display());
    // A socket that a dead server left is in nobody's way.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let running = start(place.setup()).await.unwrap();
    assert_eq!(running.url, format!("unix://{}", path.display()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let answer = talk(stream, &request(running.token.expose(), "GET /v1/whoami", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let other = Place::with(|config| config.listen = format!("unix:{}", path.display()));
    let refused = start(other.setup()).await.unwrap_err().to_string();
    assert!(refused.starts_with("cannot listen on"), "{refused}");
    running.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn without_a_setting_the_socket_is_in_the_data_directory_however_deep_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let data = place.dir.path().join("d".repeat(120));
    let running = start(Setup { data: data.clone(), ..place.setup() }).await.unwrap();
    let path = data.join("server.sock");
    assert_eq!(running.url, format!("unix://{}", path.display()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let short = place.dir.path().join("s");
    std::os::unix::fs::symlink(&data, &short).unwrap();
    let stream = tokio::net::UnixStream::connect(short.join("server.sock")).await.unwrap();
    let answer = talk(stream, &request(running.token.expose(), "GET /v1/whoami", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    running.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_server_proves_that_it_has_its_token_and_tells_it_to_nobody() {
    let place = Place::with(|config| config.listen = "127.0.0.1:0".to_owned());
    let running = start(place.setup()).await.unwrap();
    let address = running.url.strip_prefix("http://").unwrap().to_owned();
    let ask = async |query: &str| {
        let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let head =
            format!("GET /v1/challenge{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        talk(stream, &head).await
    };
    let answer = ask("?nonce=abc123").await;
    let proof = vessl_server::challenge::answer(
        running.token.expose(),
        Entrance::Tcp(address.parse().unwrap()),
        "abc123",
    );
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&proof), "{answer}");
    assert!(!answer.contains(running.token.expose()));
    for wrong in ["", "?nonce=", "?nonce=a%20b", &format!("?nonce={}", "a".repeat(129))] {
        assert!(ask(wrong).await.starts_with("HTTP/1.1 400"), "{wrong}");
    }
    running.stop().await;
}

#[tokio::test]
async fn ids_go_on_behind_every_directory_of_runs() {
    let place = Place::new();
    let server = place.open().await;
    let first = server.submit("fake exit 0").await;
    server.settled(first).await;
    server.close().await;
    // As after the backup of before these runs was restored.
    for later in [first.0 + 5, first.0 + 2] {
        std::fs::create_dir_all(place.run_dir(RunId(later)).join("1-00000000000000ff")).unwrap();
    }
    let server = place.open_when_free().await;
    assert_eq!(server.submit("fake exit 0").await, RunId(first.0 + 6));
}

#[tokio::test]
async fn a_lost_database_beside_directories_of_runs_is_no_beginning() {
    let place = Place::new();
    std::fs::create_dir_all(place.run_dir(RunId(100_000_000_007)).join("1")).unwrap();
    let said = refused(&place).await;
    for words in ["is empty, but", "has 1 run:", "`vessl server restore BACKUP`", "move `"] {
        assert!(said.contains(words), "{said}");
    }
    std::fs::rename(place.dir.path().join("data/runs"), place.dir.path().join("old")).unwrap();
    place.open_when_free().await;
}

async fn refused(place: &Place) -> String {
    start(place.setup()).await.unwrap_err().to_string()
}

#[tokio::test]
async fn what_cannot_work_is_refused_at_the_start() {
    let check = async |listen: &str, expected: &str| {
        let place = Place::with(|config| config.listen = listen.to_owned());
        let said = refused(&place).await;
        assert!(said.contains(expected), "{listen}: {said}");
    };
    check("0.0.0.0:0", "is not a loopback address").await;
    check("localhost", "is neither").await;
    check("unix:relative", "is neither").await;
    check("unix:/nonexistent/x.sock", "cannot listen on").await;
    let place = Place::new();
    place.open().await.close().await;
    let data = place.dir.path().join("data");
    std::fs::write(data.join("token"), "short\n").unwrap();
    assert!(refused(&place).await.contains("at least 32 characters"));
    std::fs::remove_file(data.join("token")).unwrap();
    std::fs::write(data.join("instance"), "nonsense!").unwrap();
    assert!(refused(&place).await.contains("8 hex digits"));
    std::fs::remove_file(data.join("instance")).unwrap();
    std::fs::write(data.join("secret.key"), "short").unwrap();
    assert!(refused(&place).await.contains("32 bytes"));
    std::fs::remove_file(data.join("secret.key")).unwrap();
    std::fs::write(data.join("vessl.db"), vec![b'x'; 8192]).unwrap();
    for extra in ["vessl.db-wal", "vessl.db-shm"] {
        let _ = std::fs::remove_file(data.join(extra));
    }
    assert!(refused(&place).await.contains("not a database"), "{}", refused(&place).await);
}

#[tokio::test]
async fn a_slow_client_does_not_keep_others_out() {
    let place = Place::with(|config| config.listen = "127.0.0.1:0".to_owned());
    let running = start(place.setup()).await.unwrap();
    let address = running.url.strip_prefix("http://").unwrap().to_owned();
    let mut idle = Vec::new();
    for _ in 0..50 {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(b"GET /v1/who").await.unwrap();
        idle.push(stream);
    }
    let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let answer = talk(stream, &request(running.token.expose(), "GET /v1/whoami", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    tokio::time::timeout(DEADLINE, running.stop()).await.expect("half a request holds nothing up");
}

#[tokio::test]
async fn a_run_of_a_later_version_is_named_and_hides_no_other() {
    let place = Place::new();
    let server = place.open().await;
    let ended = server.submit("fake exit 0").await;
    server.settled(ended).await;
    let gpus = "resources: {requests: {nvidia.com/gpu: {quantity: 2}}}\n";
    let later = server.submit_yaml(&run_file("from later", gpus, "fake say running\nfake hold")).await;
    server.until(later, "running").await;
    server.close().await;
    let db = rusqlite::Connection::open(place.dir.path().join("data/vessl.db")).unwrap();
    let doc = || db.query_row("SELECT doc FROM runs WHERE id = ?1", [later.0], |row| row.get::<_, String>(0));
    let asleep = doc().unwrap().replace(r#""status":"active""#, r#""status":"asleep""#);
    db.execute("UPDATE runs SET status = 'asleep', doc = ?2 WHERE id = ?1", (later.0, &asleep)).unwrap();
    let server = place.open_when_free().await;
    let request = http::Request::get(RUNS)
        .header(http::header::HOST, "127.0.0.1:1")
        .header(http::header::AUTHORIZATION, format!("Bearer {}", server.token));
    let answer =
        tower::ServiceExt::oneshot(server.router.clone(), request.body(axum::body::Body::empty()).unwrap());
    let answer = answer.await.unwrap();
    assert_eq!(answer.headers()["vessl-unreadable"], later.0.to_string().as_str());
    let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let runs: Value = serde_json::from_slice(&bytes).unwrap();
    let ids: Vec<u64> = runs.as_array().unwrap().iter().filter_map(|run| run["id"].as_u64()).collect();
    assert_eq!(ids, [ended.0]);
    let (status, said) = server.ask("GET", &format!("{RUNS}/{}", later.0), None).await;
    assert_eq!((status.as_u16(), said["code"].as_str()), (500, Some("run_unreadable")), "{said}");
    let begin = format!("the run `{}` (`from later`) cannot be read: unknown variant `asleep`", later.0);
    assert!(said["message"].as_str().unwrap().starts_with(&begin), "{said}");
    // What it holds is nobody else's.
    let other = server.submit_yaml(&run_file("other", gpus, "fake exit 0")).await;
    server.until(other, "queued").await;
    let why = server.get(&format!("{RUNS}/{}/explain", other.0)).await;
    assert!(why["why"].to_string().contains("from later"), "{why}");
    assert_eq!((doc().unwrap(), place.world.littered().len()), (asleep, 1));
}
