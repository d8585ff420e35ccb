//! Datasets, models, artifacts: their versions by number and alias, what changes from one to the next, who uses them.
use http::StatusCode;
use serde_json::{Value, json};
use vessl_data::blob::{Digest, Store};
use vessl_data::tree::{Entry, Form, Kind, Manifest};

use crate::world::{Place, Server, run_file};

pub(crate) const DATASETS: &str = "/v1/organizations/default/objects/dataset";
pub(crate) const UPLOADS: &str = "/v1/organizations/default/uploads";

/// Begins an upload; its path.
pub(crate) async fn upload(server: &Server) -> String {
    let upload = server.done("POST", UPLOADS, Value::Null).await;
    format!("{UPLOADS}/{}", upload["id"].as_str().unwrap())
}

/// Puts a blob whole; its digest.
pub(crate) async fn put(server: &Server, upload: &str, bytes: &[u8]) -> String {
    let digest = Digest::of(bytes).to_string();
    let path = format!("{upload}/blobs/{digest}?size={}", bytes.len());
    let (status, state) = server.bytes("PUT", &path, bytes.to_vec()).await;
    assert_eq!((status, &state["complete"]), (StatusCode::OK, &json!(true)), "{state}");
    digest
}

/// A change that puts a file.
pub(crate) fn file(path: &str, bytes: &[u8]) -> Value {
    json!({ "put": { "path": path, "digest": Digest::of(bytes).to_string(), "size": bytes.len() } })
}

/// A dataset with a version that has these files, each with its name in it.
pub(crate) async fn dataset(server: &Server, name: &str, files: &[&str]) {
    server.done("POST", DATASETS, json!({ "name": name })).await;
    version(server, &format!("{DATASETS}/{name}"), files).await;
}

/// A version with these files more.
pub(crate) async fn version(server: &Server, object: &str, files: &[&str]) -> Value {
    let upload = upload(server).await;
    for name in files {
        put(server, &upload, name.as_bytes()).await;
    }
    let changes: Vec<_> = files.iter().map(|name| file(name, name.as_bytes())).collect();
    let id = upload.rsplit('/').next().unwrap();
    server.done("POST", &format!("{object}/versions"), json!({ "upload": id, "changes": changes })).await
}

/// The paths of the files, links and directories of a version.
pub(crate) async fn paths(server: &Server, version: &str) -> Vec<String> {
    let files = server.get(&format!("{version}/files?recursive=1")).await;
    files.as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_dataset_from_its_making_to_its_files() {
    let place = Place::new();
    let server = place.open().await;
    let new = json!({ "name": "d", "description": "numbers", "tags": ["a"], "metadata": { "k": "v" } });
    let made = server.done("POST", DATASETS, new.clone()).await;
    assert_eq!((&made["address"], made.get("newest")), (&json!("vessl-dataset://default/d"), None), "{made}");
    assert_eq!(server.ask("POST", DATASETS, Some(new)).await.0, StatusCode::CONFLICT);
    let of = format!("{DATASETS}/d");
    assert_eq!(server.get(&format!("{of}/versions")).await, json!([]));
    let first = version(&server, &of, &["a/b/one", "two"]).await;
    assert_eq!((&first["version"], &first["bytes"], &first["files"]), (&json!(1), &json!(10), &json!(2)));
    assert_eq!(first["created_by"], "admin");
    let second = version(&server, &of, &["three"]).await;
    assert_eq!(second["version"], 2);
    assert_eq!(
        paths(&server, &format!("{of}/versions/latest")).await,
        ["a", "a/b", "a/b/one", "three", "two"]
    );
    assert_eq!(paths(&server, &format!("{of}/versions/1")).await, ["a", "a/b", "a/b/one", "two"]);
    let top = server.get(&format!("{of}/versions/2/files")).await;
    let kinds: Vec<_> = top.as_array().unwrap().iter().map(|file| (&file["path"], &file["kind"])).collect();
    assert_eq!(
        kinds,
        [
            (&json!("a"), &json!("directory")),
            (&json!("three"), &json!("file")),
            (&json!("two"), &json!("file"))
        ]
    );
    let below = server.get(&format!("{of}/versions/2/files?path=a")).await;
    assert_eq!((below.as_array().unwrap().len(), &below[0]["path"]), (1, &json!("a/b")));
    assert_eq!(server.get(&format!("{of}/versions/2/files/content?path=a/b/one")).await, "a/b/one");
    let changed =
        server.done("PATCH", &of, json!({ "description": "", "metadata": { "k": "", "l": "w" } })).await;
    assert_eq!((changed.get("description"), &changed["metadata"]), (None, &json!({ "l": "w" })), "{changed}");
    assert_eq!((&changed["newest"]["version"], &changed["tags"]), (&json!(2), &json!(["a"])));
    assert_eq!(server.get(DATASETS).await.as_array().unwrap().len(), 1);
    assert_eq!(server.ask("DELETE", &of, None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(server.ask("GET", &of, None).await.0, StatusCode::NOT_FOUND);
    // A number never comes again under a name, not even after the thing is gone.
    server.done("POST", DATASETS, json!({ "name": "d" })).await;
    assert_eq!(version(&server, &of, &["one"]).await["version"], 3);
}

#[tokio::test]
async fn changes_are_applied_in_order_and_all_at_once() {
    let place = Place::new();
    let server = place.open().await;
    dataset(&server, "d", &["a/one", "a/two", "b"]).await;
    let of = format!("{DATASETS}/d");
    let versions = format!("{of}/versions");
    let changes = json!([
        { "copy": { "from": "a", "to": "c/d" } },
        { "delete": { "path": "a/one" } },
        { "put": { "path": "link", "kind": "link", "target": "b" } },
        { "put": { "path": "e", "kind": "directory", "mode": "700", "modified_at": "2020-01-01T00:00:00Z" } },
    ]);
    let made = server.done("POST", &versions, json!({ "changes": changes, "name": "tidy" })).await;
    assert_eq!((&made["version"], &made["name"]), (&json!(2), &json!("tidy")));
    let expected = ["a", "a/two", "b", "c", "c/d", "c/d/one", "c/d/two", "e", "link"];
    assert_eq!(paths(&server, &format!("{versions}/2")).await, expected);
    let diff = server.get(&format!("{of}/diff?from=1&to=latest")).await;
    let told: Vec<String> = diff
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {}", one["change"].as_str().unwrap(), one["path"].as_str().unwrap()))
        .collect();
    assert_eq!(told, ["removed a/one", "added c/d/one", "added c/d/two", "added e", "added link"]);
}

#[tokio::test]
async fn what_is_not_possible_changes_nothing() {
    let place = Place::new();
    let server = place.open().await;
    dataset(&server, "d", &["a/one", "b"]).await;
    let versions = format!("{DATASETS}/d/versions");
    let check = async |changes: Value, status: StatusCode, expected: &str| {
        let (said, body) = server.ask("POST", &versions, Some(json!({ "changes": changes }))).await;
        let message = body["message"].as_str().unwrap_or_default();
        assert!(
            said == status && message.contains(expected),
            "{changes}\n said: {said} {body}\n not: {expected}"
        );
    };
    let put = |path: &str| json!([{ "put": { "path": path, "kind": "directory" } }]);
    let malformed = StatusCode::UNPROCESSABLE_ENTITY;
    for hostile in ["", "/", "/etc", "..", "../x", "a/../../x", "a//x", "a/./x", "x/", "x\u{0}", "%2525/../x"]
    {
        check(put(hostile), malformed, if hostile.is_empty() { "cannot be" } else { "cannot be in a tree" })
            .await;
    }
    check(put(&"x".repeat(256)), malformed, "cannot be in a tree").await;
    check(
        json!([{ "put": { "path": "x", "kind": "directory", "mode": "7777" } }]),
        malformed,
        "permission bits",
    )
    .await;
    check(
        json!([{ "put": { "path": "x", "mode": "4755", "digest": "0".repeat(64) } }]),
        malformed,
        "permission",
    )
    .await;
    check(
        json!([{ "put": { "path": "x", "digest": "xyz" } }]),
        malformed,
        "`changes[0]`: `xyz` is no digest",
    )
    .await;
    check(json!([{ "put": { "path": "x", "digest": "0".repeat(64) } }]), StatusCode::CONFLICT, "is not here")
        .await;
    check(json!([{ "put": { "path": "x", "kind": "link" } }]), malformed, "a link has a target").await;
    check(json!([file("b/x", b"b")]), malformed, "`b` is no directory").await;
    check(
        json!([{ "delete": { "path": "b" } }, { "delete": { "path": "b" } }]),
        malformed,
        "`changes[1]`: there is no",
    )
    .await;
    check(json!([{ "copy": { "from": "a", "to": "a/b" } }]), malformed, "into itself").await;
    let mut short = file("x", b"b");
    short["put"]["size"] = json!(2);
    check(json!([short]), malformed, "the blob has 1 bytes, not 2").await;
    short["put"]["packed"] = json!(true);
    check(json!([short]), malformed, "not the packed form").await;
    assert_eq!(server.get(&versions).await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_version_is_made_from_nothing_or_from_an_older_one() {
    let place = Place::new();
    let server = place.open().await;
    dataset(&server, "d", &["a/one", "b"]).await;
    let of = format!("{DATASETS}/d");
    let versions = format!("{of}/versions");
    version(&server, &of, &["c"]).await;
    let from = |base: u64| json!({ "base": base, "changes": [file("b", b"b")] });
    server.done("POST", &versions, from(0)).await;
    assert_eq!(paths(&server, &format!("{versions}/3")).await, ["b"]);
    server.done("POST", &versions, from(1)).await;
    assert_eq!(paths(&server, &format!("{versions}/4")).await, ["a", "a/one", "b"]);
    let (status, body) = server.ask("POST", &versions, Some(from(9))).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
}

#[tokio::test]
async fn versions_go_by_number_alias_and_latest() {
    let place = Place::new();
    let server = place.open().await;
    let of = "/v1/organizations/default/objects/model-repository/m";
    let models = of.rsplit_once('/').unwrap().0;
    server.done("POST", models, json!({ "name": "m" })).await;
    for name in ["one", "two", "three"] {
        version(&server, of, &[name]).await;
    }
    assert_eq!(paths(&server, &format!("{of}/versions/3")).await, ["three"], "a model begins with nothing");
    let number = async |version: &str| server.ask("GET", &format!("{of}/versions/{version}"), None).await;
    let set = async |alias: &str, version: u64| {
        server.ask("PUT", &format!("{of}/aliases/{alias}"), Some(json!({ "version": version }))).await
    };
    assert_eq!(set("best", 1).await.1["aliases"], json!({ "best": 1 }));
    assert_eq!(set("best", 2).await.1["aliases"], json!({ "best": 2 }));
    assert_eq!(
        (number("best").await.1["version"].clone(), number("latest").await.1["version"].clone()),
        (json!(2), json!(3))
    );
    for (alias, version, expected) in [
        ("latest", 1, StatusCode::UNPROCESSABLE_ENTITY),
        ("12", 1, StatusCode::UNPROCESSABLE_ENTITY),
        ("a%2Fb", 1, StatusCode::UNPROCESSABLE_ENTITY),
        ("x", 9, StatusCode::NOT_FOUND),
        ("x", u64::MAX, StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(set(alias, version).await.0, expected, "{alias}");
    }
    for none in ["9", "0", "worst", "18446744073709551616", "-1", "a%00"] {
        assert_eq!(number(none).await.0, StatusCode::NOT_FOUND, "{none}");
    }
    assert_eq!(server.ask("DELETE", &format!("{of}/versions/best"), None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(number("best").await.0, StatusCode::NOT_FOUND, "an alias goes with its version");
    assert_eq!(server.ask("DELETE", &format!("{of}/versions/latest"), None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(number("latest").await.1["version"], 1);
    assert_eq!(version(&server, of, &["four"]).await["version"], 4);
    set("old", 1).await;
    assert_eq!(server.ask("DELETE", &format!("{of}/aliases/old"), None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(server.ask("DELETE", &format!("{of}/aliases/old"), None).await.0, StatusCode::NOT_FOUND);
    let told = server.done("PATCH", &format!("{of}/versions/1"), json!({ "description": "the first" })).await;
    assert_eq!((&told["version"], &told["description"]), (&json!(1), &json!("the first")));
}

#[tokio::test]
async fn versions_that_are_made_at_once_see_each_other() {
    let place = Place::new();
    let server = place.open().await;
    dataset(&server, "d", &["first"]).await;
    let of = format!("{DATASETS}/d");
    let names: Vec<String> = (0..12).map(|n| format!("f{n:02}")).collect();
    let making =
        names.iter().map(|name| async { version(&server, &of, &[name]).await["version"].as_u64().unwrap() });
    let mut numbers = futures::future::join_all(making).await;
    numbers.sort_unstable();
    assert_eq!(numbers, (2..14).collect::<Vec<u64>>());
    let mut expected = names;
    expected.push("first".to_owned());
    assert_eq!(paths(&server, &format!("{of}/versions/latest")).await, expected);
}

#[tokio::test]
async fn things_are_where_they_are_said_to_be() {
    let place = Place::new();
    let server = place.open().await;
    server.done("POST", "/v1/organizations", json!({ "name": "lab" })).await;
    dataset(&server, "d", &["x"]).await;
    let objects = "/v1/organizations/default/objects";
    let check = async |method: &str, path: &str, body: Option<Value>, expected: StatusCode| {
        let (status, body) = server.ask(method, path, body).await;
        assert_eq!(status, expected, "{method} {path}: {body}");
    };
    let (missing, malformed) = (StatusCode::NOT_FOUND, StatusCode::UNPROCESSABLE_ENTITY);
    check("GET", "/v1/organizations/lab/objects/dataset/d", None, missing).await;
    check("GET", "/v1/organizations/none/objects/dataset", None, missing).await;
    check("POST", "/v1/organizations/none/objects/dataset", Some(json!({ "name": "x" })), missing).await;
    check("GET", &format!("{objects}/model-repository/d"), None, missing).await;
    check("GET", &format!("{objects}/picture/d"), None, missing).await;
    check("GET", &format!("{objects}/dataset/d?project=default"), None, malformed).await;
    check("GET", &format!("{objects}/artifact/d"), None, malformed).await;
    check("GET", &format!("{objects}/artifact/d?project=default"), None, missing).await;
    for name in ["", "a/b", "..", "-x", "é"] {
        check("POST", DATASETS, Some(json!({ "name": name })), malformed).await;
    }
    check("POST", DATASETS, Some(json!({ "name": "x", "project": "default" })), malformed).await;
    let artifacts = format!("{objects}/artifact");
    check("POST", &artifacts, Some(json!({ "name": "x" })), malformed).await;
    check("POST", &artifacts, Some(json!({ "name": "x", "project": "none" })), missing).await;
    check("POST", &artifacts, Some(json!({ "name": "x", "project": "default" })), StatusCode::CREATED).await;
    check("POST", DATASETS, Some(json!({ "name": "x", "metadata": { "": "v" } })), malformed).await;
    check("POST", DATASETS, Some(json!({ "name": "x", "tags": [" "] })), malformed).await;
}

#[tokio::test]
async fn what_a_run_uses_is_not_deleted_before_it_ends() {
    let place = Place::new();
    let server = place.open().await;
    let of = "/v1/organizations/default/objects/artifact/a?project=default";
    server
        .done(
            "POST",
            "/v1/organizations/default/objects/artifact",
            json!({ "name": "a", "project": "default" }),
        )
        .await;
    let lines = "export:\n  /out: vessl-artifact://default/default/a";
    let id = server.submit_yaml(&run_file("x", lines, "fake say running\nfake hold\nfake exit 0")).await;
    server.until(id, "running").await;
    let (status, body) = server.ask("DELETE", of, None).await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
    assert!(body["message"].as_str().unwrap().contains(&format!("run {}", id.0)), "{body}");
    place.world.release(crate::world::first_attempt(id));
    server.settled(id).await;
    assert_eq!(server.ask("DELETE", of, None).await.0, StatusCode::NO_CONTENT);
}

/// Names of a tree of files that an agent has exported; its version.
fn exported(place: &Place, names: &[&str]) -> String {
    let store = Store::open(&place.dir.path().join("data/blobs")).unwrap();
    let file = |name: &&str| {
        let put = store.put_bytes(name.as_bytes()).unwrap();
        let kind = Kind::File { mode: 0o644, size: put.size, digest: put.digest, form: Form::Plain };
        Entry { path: name.into(), kind, modified: None }
    };
    let manifest = Manifest::new(names.iter().map(file).collect()).unwrap();
    store.put_bytes(&manifest.text()).unwrap().digest.to_string()
}

#[tokio::test]
async fn an_export_adds_to_a_dataset_and_is_the_next_model() {
    let place = Place::new();
    let server = place.open().await;
    dataset(&server, "d", &["first"]).await;
    let models = "/v1/organizations/default/objects/model-repository";
    server.done("POST", models, json!({ "name": "m" })).await;
    let lines = "export:\n  /d: vessl-dataset://default/d\n  /m: vessl-model://default/m";
    let run = async |names: &[&str]| {
        let tree = exported(&place, names);
        // What is seen in an event and again in the exit record is one version.
        let script = format!(
            "fake exported /d {tree}\nfake exported /m {tree}\nfake export /d {tree}\nfake export /m {tree}\nfake exit 0"
        );
        let id = server.submit_yaml(&run_file("x", lines, &script)).await;
        let run = server.settled(id).await;
        assert_eq!(run["status"], "completed", "{run:#}");
        (id, run)
    };
    let (first, read) = run(&["second"]).await;
    let numbers: Vec<_> =
        read["exports"].as_array().unwrap().iter().map(|export| &export["number"]).collect();
    assert_eq!(numbers, [&json!(2), &json!(1)], "{read:#}");
    let of = format!("{DATASETS}/d");
    assert_eq!(paths(&server, &format!("{of}/versions/2")).await, ["first", "second"]);
    assert_eq!(paths(&server, &format!("{models}/m/versions/latest")).await, ["second"]);
    let version = server.get(&format!("{of}/versions/2")).await;
    assert_eq!(
        (&version["run"], &version["created_by"], &version["bytes"]),
        (&json!(first.0), &json!("admin"), &json!(11))
    );
    // The same again by another run is a version of its own; two at once lose nothing of each other.
    let others = ["second", "third", "fourth"];
    let names: Vec<[&str; 1]> = others.iter().map(|name| [*name]).collect();
    futures::future::join_all(names.iter().map(|names| run(names))).await;
    assert_eq!(
        paths(&server, &format!("{of}/versions/latest")).await,
        ["first", "fourth", "second", "third"]
    );
    for object in [of, format!("{models}/m")] {
        let all = server.get(&format!("{object}/versions")).await;
        let expected = if object.contains("dataset") { 5 } else { 4 };
        assert_eq!(all.as_array().unwrap().len(), expected, "{all:#}");
    }
    // Files of runs are what they exported, not what that became.
    let files = server.get(&format!("{}/{}/files", crate::world::RUNS, first.0)).await;
    assert_eq!(files.as_array().unwrap().len(), 2, "{files}");
}

#[tokio::test]
async fn another_attempt_with_the_same_files_is_another_version() {
    let place = Place::new();
    let server = place.open().await;
    let tree = exported(&place, &["f"]);
    let lines = "export:\n  /out: vessl-artifact://default/default/a";
    let script = format!("fake exported /out {tree}\nfake export /out {tree}\nfake exit 0");
    let id = server.submit_yaml(&run_file("x", lines, &script)).await;
    server.settled(id).await;
    let restart = format!("{}/{}/restart", crate::world::RUNS, id.0);
    server.done("POST", &restart, Value::Null).await;
    server.settled(id).await;
    let of = "/v1/organizations/default/objects/artifact/a/versions?project=default";
    let numbers: Vec<_> =
        server.get(of).await.as_array().unwrap().iter().map(|version| version["version"].clone()).collect();
    assert_eq!(numbers, [json!(2), json!(1)]);
    assert_eq!(server.run(id).await["exports"][0]["number"], 2);
}
