//! Uploads: resumed after a cut and after a restart, checked, kept from being collected, ended.
use axum::body::Body;
use http::StatusCode;
use serde_json::{Value, json};
use vessl_data::blob::{Digest, Store};

use crate::objects::{DATASETS, UPLOADS, dataset, file, put, upload};
use crate::world::{Place, Server};

const TEXT: &[u8] = b"0123456789";

async fn piece(
    server: &Server,
    upload: &str,
    (offset, size): (u64, u64),
    bytes: &[u8],
) -> (StatusCode, Value) {
    let path = format!("{upload}/blobs/{}?offset={offset}&size={size}", Digest::of(TEXT));
    server.bytes("PUT", &path, bytes.to_vec()).await
}

#[tokio::test]
async fn a_blob_goes_on_after_a_restart() {
    let place = Place::new();
    let server = place.open().await;
    let upload = upload(&server).await;
    let state = |received: u64, complete: bool| {
        (StatusCode::OK, json!({ "received": received, "complete": complete }))
    };
    let blob = format!("{upload}/blobs/{}", Digest::of(TEXT));
    assert_eq!(server.ask("GET", &blob, None).await, state(0, false));
    assert_eq!(piece(&server, &upload, (0, 10), &TEXT[..4]).await, state(4, false));
    server.close().await;
    let server = place.open_when_free().await;
    assert_eq!(server.ask("GET", &blob, None).await, state(4, false));
    assert_eq!(piece(&server, &upload, (5, 10), &TEXT[5..]).await.0, StatusCode::CONFLICT);
    assert_eq!(piece(&server, &upload, (3, 10), &TEXT[3..]).await, state(10, true));
    assert_eq!(server.ask("GET", &blob, None).await, state(10, true));
    // It is here already: fine as well.
    assert_eq!(piece(&server, &upload, (0, 10), TEXT).await, state(10, true));
    let store = Store::open(&place.dir.path().join("data/blobs")).unwrap();
    assert_eq!(store.read(Digest::of(TEXT), 10).unwrap(), TEXT);
}

#[tokio::test]
async fn what_came_before_a_cut_stays() {
    let place = Place::new();
    let server = place.open().await;
    let upload = upload(&server).await;
    let cut = futures::stream::iter([
        Ok(bytes::Bytes::from_static(&TEXT[..6])),
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
    ]);
    let path = format!("{upload}/blobs/{}?size=10", Digest::of(TEXT));
    let (status, body) = server.bytes("PUT", &path, Body::from_stream(cut)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    // The last piece is written behind the answer.
    while server.get(&path.replace("?size=10", "")).await["received"] != 6 {
        tokio::task::yield_now().await;
    }
    assert_eq!(piece(&server, &upload, (6, 10), &TEXT[6..]).await.1["complete"], true);
}

#[tokio::test]
async fn what_is_not_as_announced_is_refused() {
    let place = Place::new();
    let server = place.open().await;
    let upload = upload(&server).await;
    let check = async |size: u64, bytes: &[u8], expected: &str| {
        let (status, body) = piece(&server, &upload, (0, size), bytes).await;
        assert_eq!(
            (status, &body["code"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!("wrong_content")),
            "{body}"
        );
        assert!(body["message"].as_str().unwrap().contains(expected), "{body}");
        let blob = format!("{upload}/blobs/{}", Digest::of(TEXT));
        assert_eq!(server.get(&blob).await, json!({ "received": 0, "complete": false }));
    };
    check(10, b"012345678x", "what came is not").await;
    check(4, TEXT, "more came than the 4 bytes").await;
    check(4, &TEXT[..4], "what came is not").await;
    let malformed = StatusCode::BAD_REQUEST;
    for (path, expected) in [
        (format!("{upload}/blobs/xyz?size=1"), StatusCode::UNPROCESSABLE_ENTITY),
        (format!("{upload}/blobs/{}", Digest::of(TEXT)), malformed),
        (format!("{upload}/blobs/{}?size=-1", Digest::of(TEXT)), malformed),
        (format!("{upload}/blobs/{}?size=18446744073709551615", Digest::of(TEXT)), malformed),
        (format!("{UPLOADS}/none/blobs/{}?size=1", Digest::of(TEXT)), StatusCode::NOT_FOUND),
        (format!("{UPLOADS}/..%2F../blobs/{}?size=1", Digest::of(TEXT)), StatusCode::NOT_FOUND),
    ] {
        assert_eq!(server.bytes("PUT", &path, TEXT.to_vec()).await.0, expected, "{path}");
    }
    server.done("POST", "/v1/organizations", json!({ "name": "lab" })).await;
    let other = upload.replace("default", "lab");
    assert_eq!(server.ask("GET", &other, None).await.0, StatusCode::NOT_FOUND, "it is of one organization");
}

#[tokio::test]
async fn two_who_bring_one_blob_do_not_mix_it() {
    let place = Place::new();
    let server = place.open().await;
    let upload = upload(&server).await;
    let (send, receive) = tokio::sync::mpsc::unbounded_channel::<std::io::Result<bytes::Bytes>>();
    let begun = std::sync::Arc::new(tokio::sync::Notify::new());
    let asked = std::sync::Arc::clone(&begun);
    let slow = futures::stream::unfold(receive, move |mut receive| {
        // Asked for bytes, it has the blob for itself.
        asked.notify_one();
        async move { receive.recv().await.map(|piece| (piece, receive)) }
    });
    let path = format!("{upload}/blobs/{}?size=10", Digest::of(TEXT));
    let first = server.bytes("PUT", &path, Body::from_stream(slow));
    let second = async {
        begun.notified().await;
        let (status, refused) = piece(&server, &upload, (0, 9), &TEXT[..1]).await;
        assert_eq!(status, StatusCode::CONFLICT);
        for byte in TEXT {
            send.send(Ok(vec![*byte].into())).unwrap();
        }
        drop(send);
        refused
    };
    let (first, refused) = tokio::join!(first, second);
    assert!(refused["message"].as_str().unwrap().starts_with("another request brings"), "{refused}");
    assert_eq!(first.1, json!({ "received": 10, "complete": true }));
}

#[tokio::test]
async fn many_small_blobs_come_together() {
    let place = Place::new();
    let server = place.open().await;
    let upload = upload(&server).await;
    let frame =
        |bytes: &[u8]| [&Digest::of(bytes).0[..], &(bytes.len() as u64).to_le_bytes(), bytes].concat();
    let all: Vec<Vec<u8>> = (0..300_u32).map(|n| n.to_le_bytes().repeat(n as usize)).collect();
    let body: Vec<u8> = all.iter().flat_map(|bytes| frame(bytes)).collect();
    let pack = format!("{upload}/pack");
    let digests: Vec<String> = all.iter().map(|bytes| Digest::of(bytes).to_string()).collect();
    let missing = async || {
        let wanted = json!({ "digests": digests });
        server.done("POST", &format!("{upload}/missing"), wanted).await["digests"].as_array().unwrap().len()
    };
    let cut = server.bytes("POST", &pack, body[..body.len() - 1].to_vec()).await;
    assert_eq!((cut.0, missing().await), (StatusCode::UNPROCESSABLE_ENTITY, 300), "{}", cut.1);
    let (status, answer) = server.bytes("POST", &pack, body).await;
    assert_eq!((status, &answer["blobs"], missing().await), (StatusCode::OK, &json!(300), 0), "{answer}");
    assert_eq!(server.bytes("POST", &pack, Vec::new()).await.1["blobs"], 0);
}

#[tokio::test]
async fn a_version_ends_its_upload_and_is_made_once() {
    let place = Place::new();
    let server = place.open().await;
    dataset(&server, "d", &["one"]).await;
    let upload = upload(&server).await;
    put(&server, &upload, TEXT).await;
    let new = json!({ "upload": upload.rsplit('/').next(), "changes": [file("two", TEXT)] });
    let versions = format!("{DATASETS}/d/versions");
    let (status, first) = server.ask("POST", &versions, Some(new.clone())).await;
    assert_eq!((status, &first["version"]), (StatusCode::CREATED, &json!(2)), "{first}");
    assert_eq!(server.ask("GET", &upload, None).await.0, StatusCode::NOT_FOUND);
    let (status, again) = server.ask("POST", &versions, Some(new)).await;
    assert_eq!((status, again), (StatusCode::OK, first));
    assert_eq!(std::fs::read_dir(place.dir.path().join("data/uploads")).unwrap().count(), 0);
    let gone = json!({ "upload": "none" });
    assert_eq!(server.ask("POST", &versions, Some(gone)).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn bytes_of_an_upload_stay_until_it_ends() {
    let place = Place::new();
    let server = place.open().await;
    let store = Store::open(&place.dir.path().join("data/blobs")).unwrap();
    let has = |bytes: &[u8]| store.has(Digest::of(bytes)).unwrap();
    store.put_bytes(b"here before").unwrap();
    store.put_bytes(b"garbage").unwrap();
    // Uploads begin now, so that what lay there before is older than they are.
    place.clock.send_replace(jiff::Timestamp::now());
    let kept = upload(&server).await;
    put(&server, &kept, TEXT).await;
    let wanted = json!({ "digests": [Digest::of(b"here before").to_string(), "0".repeat(64)] });
    let missing = server.done("POST", &format!("{kept}/missing"), wanted).await;
    assert_eq!(missing["digests"], json!(["0".repeat(64)]));
    server.opened.registry.collect().await.unwrap();
    assert!(has(TEXT) && has(b"here before") && !has(b"garbage"));
    place.advance(24 * 60 * 60 - 1);
    piece(&server, &kept, (0, 10), &TEXT[..1]).await;
    place.advance(24 * 60 * 60 - 1);
    assert_eq!(server.ask("GET", &kept, None).await.0, StatusCode::OK, "it was touched in between");
    place.advance(1);
    assert_eq!(server.ask("GET", &kept, None).await.0, StatusCode::NOT_FOUND);
    server.opened.registry.collect().await.unwrap();
    assert!(!has(TEXT) && !has(b"here before"));
    assert_eq!(std::fs::read_dir(place.dir.path().join("data/uploads")).unwrap().count(), 0);
    let ended = upload(&server).await;
    assert_eq!(server.ask("DELETE", &ended, None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(server.ask("DELETE", &ended, None).await.0, StatusCode::NOT_FOUND);
}
