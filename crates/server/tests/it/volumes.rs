//! Storages and volumes: where they are, and files in them that no link leads out of.
use std::os::unix::fs::{PermissionsExt, symlink};

use http::StatusCode;
use serde_json::{Value, json};

use crate::world::{Place, Server};

const STORAGES: &str = "/v1/organizations/default/storages";
const VOLUME: &str = "/v1/organizations/default/storages/vessl-storage/volumes/v";

async fn volume(server: &Server) {
    server.done("POST", &format!("{STORAGES}/vessl-storage/volumes"), json!({ "name": "v" })).await;
}

async fn put(server: &Server, path: &str, bytes: &[u8]) -> (StatusCode, Value) {
    let path = format!("{VOLUME}/files/content?size={}&path={path}", bytes.len());
    server.bytes("PUT", &path, bytes.to_vec()).await
}

async fn paths(server: &Server, query: &str) -> Vec<String> {
    let files = server.get(&format!("{VOLUME}/files{query}")).await;
    files.as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_volume_from_its_making_to_its_end() {
    let place = Place::new();
    let server = place.open().await;
    let storages = server.get(STORAGES).await;
    assert_eq!((&storages[0]["name"], &storages[0]["kind"]), (&json!("vessl-storage"), &json!("built-in")));
    volume(&server).await;
    let volumes = format!("{STORAGES}/vessl-storage/volumes");
    let (status, _) = server.ask("POST", &volumes, Some(json!({ "name": "v" }))).await;
    assert_eq!(status, StatusCode::CONFLICT);
    server.done("POST", &volumes, json!({ "name": "other" })).await;
    let listed = server.get(&format!("{volumes}?keyword=V")).await;
    assert_eq!(
        (listed.as_array().unwrap().len(), &listed[0]["address"]),
        (1, &json!("volume://vessl-storage/v"))
    );
    assert_eq!(server.get(&format!("{volumes}?limit=1")).await.as_array().unwrap().len(), 1);
    let dir = place.dir.path().join("data/volumes/default/v");
    // Runs of any user write there; the directory above keeps everybody else out.
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o777);
    assert_eq!(std::fs::metadata(dir.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(put(&server, "a/b/f", b"0123456789").await.1, json!({ "received": 10, "complete": true }));
    assert_eq!(paths(&server, "").await, ["a"]);
    assert_eq!(paths(&server, "?recursive=1").await, ["a", "a/b", "a/b/f"]);
    assert_eq!(paths(&server, "?path=a/b").await, ["a/b/f"]);
    assert_eq!(paths(&server, "?path=a/b/f").await, ["a/b/f"]);
    let request = format!("{VOLUME}/files/content?path=a/b/f");
    assert_eq!(server.get(&request).await, "0123456789");
    let copy = format!("{VOLUME}/copy");
    for body in [json!({ "from": "a/b/f", "to": "g" }), json!({ "from": "a", "to": "c/d" })] {
        server.done("POST", &copy, body).await;
    }
    server.done("POST", &copy, json!({ "from": "a", "to": "x", "to_volume": "other" })).await;
    assert_eq!(
        paths(&server, "?recursive=1").await,
        ["a", "a/b", "a/b/f", "c", "c/d", "c/d/b", "c/d/b/f", "g"]
    );
    assert!(dir.parent().unwrap().join("other/x/b/f").exists());
    let delete = async |query: &str| server.ask("DELETE", &format!("{VOLUME}/files?{query}"), None).await.0;
    assert_eq!(delete("path=c").await, StatusCode::CONFLICT);
    assert_eq!(delete("path=c&recursive=1").await, StatusCode::NO_CONTENT);
    assert_eq!(delete("path=c").await, StatusCode::NOT_FOUND);
    assert_eq!(delete("path=g").await, StatusCode::NO_CONTENT);
    assert_eq!(paths(&server, "").await, ["a"]);
    assert_eq!(server.ask("DELETE", VOLUME, None).await.0, StatusCode::NO_CONTENT);
    assert!(!dir.exists());
    assert_eq!(server.ask("DELETE", VOLUME, None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_file_comes_in_pieces_and_gets_its_place_at_once() {
    let place = Place::new();
    let server = place.open().await;
    volume(&server).await;
    put(&server, "f", b"before").await;
    let piece = async |server: &Server, offset: u64, bytes: &'static [u8]| {
        let more = "mode=600&modified_at=2020-01-01T00:00:00Z";
        let path = format!("{VOLUME}/files/content?path=f&size=10&offset={offset}&{more}");
        server.bytes("PUT", &path, bytes).await
    };
    assert_eq!(piece(&server, 0, b"0123").await.1, json!({ "received": 4, "complete": false }));
    assert_eq!(paths(&server, "?recursive=1").await, ["f"], "nobody sees what is on its way");
    server.close().await;
    let server = place.open_when_free().await;
    let incoming = format!("{VOLUME}/files/incoming?path=f");
    assert_eq!(server.get(&incoming).await, json!({ "received": 4, "complete": false }));
    assert_eq!(server.get(&format!("{VOLUME}/files/content?path=f")).await, "before");
    assert_eq!(piece(&server, 5, b"56789").await.0, StatusCode::CONFLICT);
    assert_eq!(piece(&server, 4, b"4567891").await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(server.get(&incoming).await["received"], 0);
    assert_eq!(piece(&server, 0, b"abcd").await.1["received"], 4);
    assert_eq!(piece(&server, 4, b"efghij").await.1, json!({ "received": 10, "complete": true }));
    let files = server.get(&format!("{VOLUME}/files")).await;
    assert_eq!(
        (&files[0]["mode"], &files[0]["modified_at"]),
        (&json!("600"), &json!("2020-01-01T00:00:00Z"))
    );
    assert_eq!(server.get(&format!("{VOLUME}/files/content?path=f")).await, "abcdefghij");
}

#[tokio::test]
async fn nothing_leads_out_of_a_volume() {
    let place = Place::new();
    let server = place.open().await;
    volume(&server).await;
    let dir = place.dir.path().join("data/volumes/default/v");
    symlink("/etc", dir.join("etc")).unwrap();
    symlink(place.dir.path().join("data/token"), dir.join("token")).unwrap();
    symlink("..", dir.join("up")).unwrap();
    std::fs::create_dir(dir.join("d")).unwrap();
    for hostile in ["..", "../x", "/etc/passwd", "d/../../x", "d//x", "d/.", "", "a%00b", ".vessl-incoming/x"]
    {
        // Without a name the volume itself is meant, in which the directory lies already.
        let to = if hostile.is_empty() { "d/x".to_owned() } else { hostile.replace("%00", "\0") };
        for (status, said) in [
            put(&server, hostile, b"x").await,
            server.ask("GET", &format!("{VOLUME}/files/content?path={hostile}"), None).await,
            server.ask("DELETE", &format!("{VOLUME}/files?recursive=1&path={hostile}"), None).await,
            server.ask("POST", &format!("{VOLUME}/copy"), Some(json!({ "from": "d", "to": to }))).await,
        ] {
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{hostile}: {said}");
        }
    }
    for link in ["etc/new", "etc/passwd", "token", "up/x"] {
        let (status, said) = server.ask("GET", &format!("{VOLUME}/files/content?path={link}"), None).await;
        assert_eq!(status, StatusCode::CONFLICT, "{link}: {said}");
    }
    for link in ["etc/new", "up/x"] {
        let (status, said) = put(&server, link, b"x").await;
        assert!(!status.is_success(), "{link}: {said}");
        let copied =
            server.ask("POST", &format!("{VOLUME}/copy"), Some(json!({ "from": "d", "to": link }))).await;
        assert!(!copied.0.is_success(), "{link}: {}", copied.1);
    }
    assert_eq!(put(&server, "d", b"x").await.0, StatusCode::CONFLICT);
    // A link is replaced and deleted itself.
    assert_eq!(put(&server, "token", b"mine").await.0, StatusCode::OK);
    assert_ne!(std::fs::read(place.dir.path().join("data/token")).unwrap(), b"mine");
    let gone = server.ask("DELETE", &format!("{VOLUME}/files?path=etc&recursive=1"), None).await;
    assert_eq!(gone.0, StatusCode::NO_CONTENT);
    assert!(std::path::Path::new("/etc/passwd").exists());
    assert_eq!(paths(&server, "?recursive=1").await, ["d", "token", "up"]);
}

#[tokio::test]
async fn storages_are_where_they_may_be() {
    let shared = tempfile::tempdir().unwrap();
    let root = shared.path().join("root");
    std::fs::create_dir_all(root.join("data/seen")).unwrap();
    std::fs::write(root.join("data/seen/f"), "x").unwrap();
    symlink("/etc", root.join("out")).unwrap();
    let place = Place::with(|config| config.hostpath_roots = vec![root.display().to_string()]);
    let server = place.open().await;
    let check = async |kind: &str, path: &str, more: Value, expected: (StatusCode, &str)| {
        let mut new = json!({ "name": "s", "kind": kind, "path": path });
        new.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let (status, body) = server.ask("POST", STORAGES, Some(new)).await;
        let said = body["message"].as_str().unwrap_or_default().to_owned()
            + body["hint"].as_str().unwrap_or_default();
        assert!(status == expected.0 && said.contains(expected.1), "{kind} {path}: {status} {body}");
    };
    let (malformed, refused) = (StatusCode::UNPROCESSABLE_ENTITY, StatusCode::CONFLICT);
    check("host-path", "relative", Value::Null, (malformed, "an absolute path")).await;
    check("host-path", "/etc", Value::Null, (refused, "hostpath_roots")).await;
    check("host-path", &format!("{}/../x", root.display()), Value::Null, (malformed, "an absolute path"))
        .await;
    check("host-path", &root.join("out").display().to_string(), Value::Null, (refused, "hostpath_roots"))
        .await;
    check("host-path", &root.join("none").display().to_string(), Value::Null, (refused, "No such file"))
        .await;
    check("nfs", "server", Value::Null, (malformed, "`server:/path`")).await;
    check("s3", "gs://bucket", Value::Null, (malformed, "`s3://bucket/prefix`")).await;
    check(
        "s3",
        "s3://b",
        json!({ "credential_name": "none" }),
        (StatusCode::NOT_FOUND, "no credential `none`"),
    )
    .await;
    check("s3", "s3://b", json!({ "endpoint": "ftp://x" }), (malformed, "`endpoint` begins")).await;
    check("gcs", "gs://b", json!({ "region": "x" }), (malformed, "`region` is for S3")).await;
    check("built-in", "/x", Value::Null, (malformed, "one built-in storage")).await;
    check(
        "host-path",
        &root.join("data").display().to_string(),
        json!({ "name": "vessl-storage" }),
        (refused, "already"),
    )
    .await;
    check("host-path", &root.join("data").display().to_string(), Value::Null, (StatusCode::CREATED, ""))
        .await;
    check("host-path", &root.join("data").display().to_string(), Value::Null, (refused, "already")).await;
    check("s3", "s3://b/p", json!({ "name": "bucket", "region": "r" }), (StatusCode::CREATED, "")).await;
    check("nfs", "server:/path", json!({ "name": "nas" }), (StatusCode::CREATED, "")).await;
    // A directory that is there is taken as it is.
    server.done("POST", &format!("{STORAGES}/s/volumes"), json!({ "name": "seen" })).await;
    let files = server.get(&format!("{STORAGES}/s/volumes/seen/files")).await;
    assert_eq!(files[0]["path"], "f");
    let (status, body) = server.ask("DELETE", &format!("{STORAGES}/s"), None).await;
    assert_eq!(status, refused, "{body}");
    assert_eq!(
        server.ask("DELETE", &format!("{STORAGES}/s/volumes/seen"), None).await.0,
        StatusCode::NO_CONTENT
    );
    assert!(root.join("data/seen").exists());
    assert_eq!(server.ask("DELETE", &format!("{STORAGES}/s"), None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(server.ask("DELETE", &format!("{STORAGES}/vessl-storage"), None).await.0, refused);
    for storage in ["bucket", "nas"] {
        server.done("POST", &format!("{STORAGES}/{storage}/volumes"), json!({ "name": "v" })).await;
    }
    let (status, body) = server.ask("GET", &format!("{STORAGES}/nas/volumes/v/files"), None).await;
    assert_eq!((status, &body["code"]), (refused, &json!("refused")), "{body}");
    assert_eq!(
        server.ask("DELETE", &format!("{STORAGES}/bucket/volumes/v"), None).await.0,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn the_servers_own_data_is_no_storage() {
    let place = Place::new();
    let mut place = place;
    place.config.hostpath_roots = vec![place.dir.path().display().to_string()];
    let server = place.open().await;
    for path in ["", "data", "data/volumes"] {
        std::fs::create_dir_all(place.dir.path().join(path)).unwrap();
        let path = place.dir.path().join(path).display().to_string();
        let path = path.trim_end_matches('/');
        let new = json!({ "name": "s", "kind": "host-path", "path": path });
        let (status, body) = server.ask("POST", STORAGES, Some(new)).await;
        assert_eq!(status, StatusCode::CONFLICT, "{path}: {body}");
        assert!(body["message"].as_str().unwrap().contains("the server's own data"), "{body}");
    }
}
