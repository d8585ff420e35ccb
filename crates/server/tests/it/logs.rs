//! Logs: every byte once, from any position, while they are written and after.
use std::os::unix::fs::FileExt;

use axum::body::{Body, BodyDataStream};
use futures::StreamExt;
use http::{Request, StatusCode, header};
use vessl_core::ids::RunId;
use vessl_core::logwire::{self, Header};
use vessl_data::log::{Stream, Writer};

use crate::world::{DEADLINE, Place, RUNS, Server, first_attempt};

async fn open(server: &Server, id: RunId, query: &str, accept: &str) -> BodyDataStream {
    let request = Request::builder()
        .uri(format!("{RUNS}/{}/logs?{query}", id.0))
        .header(header::HOST, "localhost")
        .header(header::AUTHORIZATION, format!("Bearer {}", server.token))
        .header(header::ACCEPT, accept)
        .body(Body::empty())
        .unwrap();
    let answer = tower::ServiceExt::oneshot(server.router.clone(), request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.into_body().into_data_stream()
}

/// Records of a framed answer; `None` is the end record.
struct Frames {
    body: BodyDataStream,
    bytes: Vec<u8>,
}

impl Frames {
    async fn of(server: &Server, id: RunId, query: &str) -> Self {
        Self { body: open(server, id, query, logwire::MEDIA_TYPE).await, bytes: Vec::new() }
    }

    /// The next record; `None` when the answer ends.
    async fn next(&mut self) -> Option<(Header, Vec<u8>)> {
        loop {
            if let Some(header) = Header::decode(&self.bytes) {
                let end = logwire::HEADER + header.length as usize;
                if self.bytes.len() >= end {
                    let payload = self.bytes[logwire::HEADER..end].to_vec();
                    self.bytes.drain(..end);
                    return Some((header, payload));
                }
            }
            let part = tokio::time::timeout(DEADLINE, self.body.next()).await.expect("the log goes on");
            self.bytes.extend_from_slice(&part?.unwrap());
        }
    }

    /// All payloads up to the end, and whether there was an end record.
    async fn rest(mut self) -> (Vec<u8>, bool) {
        let (mut all, mut ended) = (Vec::new(), false);
        while let Some((header, payload)) = self.next().await {
            ended |= header.stream == logwire::END;
            all.extend(payload);
        }
        (all, ended)
    }
}

async fn writer(server: &Server, id: RunId) -> Writer {
    let dir = server.attempt_dir(id).await.join("log");
    std::fs::create_dir_all(dir.parent().unwrap()).unwrap();
    Writer::open(&dir).unwrap()
}

async fn running(place: &Place) -> (Server, RunId) {
    running_until(place, "exit 0").await
}

/// A run that works until it is released, and then ends like this.
async fn running_until(place: &Place, end: &str) -> (Server, RunId) {
    let server = place.open().await;
    let id = server.submit(&format!("fake say running\nfake hold\nfake {end}")).await;
    server.until(id, "running").await;
    (server, id)
}

#[tokio::test]
async fn a_finished_log_from_everywhere() {
    let place = Place::new();
    let (server, id) = running(&place).await;
    let mut log = writer(&server, id).await;
    let mut whole = Vec::new();
    for n in 0..5000_u64 {
        let line = format!("line {n}\r\u{1b}[0m \u{fffd}\n").into_bytes();
        log.append(n + 1, if n % 2 == 0 { Stream::Stdout } else { Stream::Stderr }, &line).unwrap();
        whole.extend(line);
    }
    log.finish().unwrap();
    place.world.release(first_attempt(id));
    server.settled(id).await;
    assert_eq!(Frames::of(&server, id, "").await.rest().await, (whole.clone(), true));
    for from in [0, 1, 7777, whole.len() - 1, whole.len()] {
        let (rest, ended) = Frames::of(&server, id, &format!("from={from}")).await.rest().await;
        assert!(rest == whole[from..] && ended, "from {from}");
    }
    let (tail, _) = Frames::of(&server, id, "tail=200&follow=1").await.rest().await;
    assert_eq!(String::from_utf8(tail.clone()).unwrap().lines().count(), 200);
    assert!(whole.ends_with(&tail));
}

#[tokio::test]
async fn a_follower_sees_every_line_as_it_comes_and_the_end() {
    let place = Place::new();
    let (server, id) = running(&place).await;
    let mut log = writer(&server, id).await;
    let mut frames = Frames::of(&server, id, "follow=1").await;
    for n in 0..100_u64 {
        let line = format!("line {n}\n").into_bytes();
        log.append(n + 1, Stream::Stdout, &line).unwrap();
        log.flush().unwrap();
        let (header, payload) = frames.next().await.unwrap();
        assert_eq!((payload, header.stream), (line, Stream::Stdout as u8));
    }
    log.finish().unwrap();
    let (header, _) = frames.next().await.unwrap();
    assert_eq!(header.stream, logwire::END);
    assert!(frames.next().await.is_none());
}

#[tokio::test]
async fn a_log_without_an_end_ends_with_its_run() {
    let place = Place::new();
    let (server, id) = running_until(&place, "die it was killed").await;
    let mut log = writer(&server, id).await;
    log.append(1, Stream::Stdout, b"half a li").unwrap();
    log.flush().unwrap();
    drop(log);
    let mut frames = Frames::of(&server, id, "follow=true").await;
    assert_eq!(frames.next().await.unwrap().1, b"half a li");
    place.world.release(first_attempt(id));
    let (header, words) = frames.next().await.unwrap();
    let ended: jiff::Timestamp = server.run(id).await["ended_at"].as_str().unwrap().parse().unwrap();
    assert_eq!((header.stream, i128::from(header.at_ns)), (Stream::System as u8, ended.as_nanosecond()));
    assert_eq!(String::from_utf8(words).unwrap(), "the log stops here: the run was lost: it was killed\n");
    assert!(frames.next().await.is_none(), "the run has ended, so nothing can follow");
}

#[tokio::test]
async fn a_log_that_lost_its_end_says_so() {
    let place = Place::new();
    let (server, id) = running(&place).await;
    let mut log = writer(&server, id).await;
    log.append(1, Stream::Stdout, b"begin\n").unwrap();
    log.append(2, Stream::Stdout, b"end\n").unwrap();
    log.finish().unwrap();
    let dir = server.attempt_dir(id).await;
    let segment = dir.join("log/000000.seg");
    let text = std::fs::read(&segment).unwrap();
    let at = text.windows(4).position(|bytes| bytes == b"end\n").unwrap();
    std::fs::File::options().write(true).open(&segment).unwrap().write_all_at(b"rot", at as u64).unwrap();
    place.world.release(first_attempt(id));
    server.settled(id).await;
    for query in ["", "follow=1", "tail=1"] {
        let (rest, ended) = Frames::of(&server, id, query).await.rest().await;
        let rest = String::from_utf8(rest).unwrap();
        let end = "it has no end; the run ended: every command ended with status 0\n";
        assert!(rest.ends_with(end), "{query}: {rest}");
        assert!(!ended, "{query}");
    }
}

#[tokio::test]
async fn a_log_that_lost_its_begin_says_so() {
    let place = Place::new();
    let (server, id) = running(&place).await;
    let mut log = writer(&server, id).await;
    for n in 0..3000_u64 {
        log.append(n + 1, Stream::Stdout, format!("a line of some length, number {n:06}\n").as_bytes())
            .unwrap();
    }
    log.finish().unwrap();
    let segment = server.attempt_dir(id).await.join("log/000000.seg");
    std::fs::File::options().write(true).open(&segment).unwrap().write_all_at(b"rot!", 0).unwrap();
    place.world.release(first_attempt(id));
    server.settled(id).await;
    let (rest, ended) = Frames::of(&server, id, "").await.rest().await;
    let rest = String::from_utf8(rest).unwrap();
    let first = rest.lines().next().unwrap();
    assert!(first.ends_with("bytes of the log are damaged and left out here"), "{first}");
    assert!(ended && rest.ends_with("number 002999\n"));
}

#[tokio::test]
async fn a_follower_of_a_run_that_waits_hears_of_its_log() {
    let place = Place::new();
    let (server, _) = running(&place).await;
    let all = "resources:\n  preset: cpu-large";
    let id = server.submit_yaml(&crate::world::run_file("b", all, "true")).await;
    let frames = Frames::of(&server, id, "follow=1").await;
    let mut log = writer(&server, id).await;
    log.append(1, Stream::System, b"pulling\n").unwrap();
    log.flush().unwrap();
    let path = format!("{RUNS}/{}/terminate", id.0);
    server.ask("POST", &path, Some(serde_json::json!({}))).await;
    let all = b"pulling\nthe log stops here: terminated before it was placed\n";
    assert_eq!(frames.rest().await, (all.to_vec(), false));
}

#[tokio::test]
async fn people_get_text_events_with_a_token_to_go_on() {
    let place = Place::new();
    let (server, id) = running(&place).await;
    let mut log = writer(&server, id).await;
    log.append(1_000_000_000, Stream::Stdout, "grün\n".as_bytes()).unwrap();
    log.append(2_000_000_000, Stream::System, b"exporting\n").unwrap();
    log.finish().unwrap();
    let mut body = open(&server, id, "", "*/*").await;
    let mut text = Vec::new();
    while let Some(part) = body.next().await {
        text.extend_from_slice(&part.unwrap());
    }
    insta::assert_snapshot!(String::from_utf8(text).unwrap());
}

#[tokio::test]
async fn a_run_that_never_started_has_no_log() {
    let place = Place::new();
    let server = place.open().await;
    let id = server.submit("fake refuse no room").await;
    server.settled(id).await;
    let words = b"there is no log: could not be started on `box`: no room\n";
    for query in ["", "follow=1", "tail=0"] {
        let (said, ended) = Frames::of(&server, id, query).await.rest().await;
        assert_eq!((String::from_utf8_lossy(&said), ended), (String::from_utf8_lossy(words), false));
    }
}

/// More clients than the server has threads, each of which asks for a log and then reads nothing of it.
#[tokio::test]
async fn clients_that_do_not_read_hold_nobody_up() {
    let place = Place::new();
    let (server, id) = running(&place).await;
    let mut log = writer(&server, id).await;
    let line = vec![b'x'; 64 << 10];
    for n in 0..64 {
        log.append(n + 1, Stream::Stdout, &line).unwrap();
    }
    log.finish().unwrap();
    let mut idle = Vec::new();
    for _ in 0..600 {
        idle.push(open(&server, id, "", logwire::MEDIA_TYPE).await);
    }
    let (all, ended) = Frames::of(&server, id, "").await.rest().await;
    assert_eq!((all.len(), ended), (64 * line.len(), true));
    drop(idle);
    place.world.release(first_attempt(id));
    server.settled(id).await;
}
