//! Exports: registered once with the verdict, listed, downloaded by ranges, collected after the last name is gone.
use axum::body::Body;
use http::{Request, StatusCode, header};
use serde_json::json;
use vessl_data::blob::{Digest, Store};
use vessl_data::dir::Modified;
use vessl_data::tree::{Entry, Form, Kind, Manifest};

use crate::world::{Place, RUNS, Server, run_file};

const TEXT: &[u8] = b"0123456789";

/// A tree with two files in the place's store; its version.
fn tree(place: &Place, marker: &str) -> String {
    let store = Store::open(&place.dir.path().join("data/blobs")).unwrap();
    let file = |path: &str, mode, bytes: &[u8]| {
        let put = store.put_bytes(bytes).unwrap();
        let kind = Kind::File { mode, size: put.size, digest: put.digest, form: Form::Plain };
        Entry { path: path.into(), kind, modified: None }
    };
    let modified = Some(Modified { seconds: 1_000_000_000, nanos: 5 });
    let dir = Entry { path: "d".into(), kind: Kind::Dir { mode: 0o2755 }, modified };
    let entries = vec![file("d/model.bin", 0o644, TEXT), file("run.sh", 0o755, marker.as_bytes()), dir];
    let text = Manifest::new(entries).unwrap().text();
    store.put_bytes(&text).unwrap().digest.to_string()
}

async fn export(server: &Server, manifest: &str, target: &str) -> u64 {
    let lines = format!("export:\n  /out: {target}");
    let script = format!("fake export /out {manifest}\nfake exit 0");
    let id = server.submit_yaml(&run_file("x", &lines, &script)).await;
    assert_eq!(server.settled(id).await["status"], "completed");
    id.0
}

#[tokio::test]
async fn a_file_comes_back_whole_and_in_parts() {
    let place = Place::new();
    let server = place.open().await;
    let id = export(&server, &tree(&place, "a"), "vessl-artifact://").await;
    let files = server.get(&format!("{RUNS}/{id}/files")).await;
    insta::assert_json_snapshot!(files);
    let all = server.get(&format!("{RUNS}/{id}/files?all_directories=1")).await;
    assert_eq!((all.as_array().unwrap().len(), &all[0]["kind"]), (3, &json!("directory")), "{all}");
    assert_eq!(
        (&all[0]["mode"], &all[0]["modified_at"]),
        (&json!("2755"), &json!("2001-09-09T01:46:40.000000005Z"))
    );
    let path = format!("{RUNS}/{id}/files/content?export=/out&path=d/model.bin");
    for (range, status, expected) in [
        (None, StatusCode::OK, TEXT),
        (Some("bytes=3-"), StatusCode::PARTIAL_CONTENT, &TEXT[3..]),
        (Some("bytes=3-4"), StatusCode::PARTIAL_CONTENT, &TEXT[3..5]),
    ] {
        let mut request = Request::builder()
            .uri(&path)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, format!("Bearer {}", server.token));
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        let answer =
            tower::ServiceExt::oneshot(server.router.clone(), request.body(Body::empty()).unwrap()).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()[header::ETAG], format!("\"blake3:{}\"", Digest::of(TEXT)));
        assert_eq!(answer.headers()[header::CONTENT_LENGTH], expected.len().to_string());
        let bytes = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
        assert_eq!(bytes, expected);
    }
    for wrong in ["export=/out&path=d", "export=/out&path=nothing", "export=/o&path=run.sh"] {
        let (status, body) = server.ask("GET", &format!("{RUNS}/{id}/files/content?{wrong}"), None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{wrong}: {body}");
    }
}

#[tokio::test]
async fn artifacts_have_versions_and_the_newest_is_imported() {
    let place = Place::new();
    let server = place.open().await;
    let artifacts = "/v1/organizations/default/projects/default/artifacts";
    let versions = [tree(&place, "one"), tree(&place, "two")];
    for manifest in &versions {
        export(&server, manifest, "vessl-artifact://default/default/model").await;
    }
    let all = server.get(artifacts).await;
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    assert_eq!(all[0]["versions"].as_array().unwrap().len(), 1, "{all}");
    assert_eq!((&all[0]["name"], &all[0]["versions"][0]["version"]), (&json!("model"), &json!(2)));
    assert_eq!(all[0]["versions"][0]["manifest"], json!(versions[1]), "{all}");
    let nowhere = artifacts.replace("projects/default", "projects/nowhere");
    assert_eq!(server.ask("GET", &nowhere, None).await.0, StatusCode::NOT_FOUND);
    let model = server.get(&format!("{artifacts}/model")).await;
    let listed: Vec<_> =
        model["versions"].as_array().unwrap().iter().map(|v| (&v["version"], &v["manifest"])).collect();
    assert_eq!(listed, [(&json!(2), &json!(versions[1])), (&json!(1), &json!(versions[0]))]);
    assert_eq!(server.ask("GET", &format!("{artifacts}/none"), None).await.0, StatusCode::NOT_FOUND);
    let id = server
        .submit_yaml(&run_file("x", "import:\n  /in: vessl-artifact://default/default/model", "true"))
        .await;
    assert_eq!(server.settled(id).await["status"], "completed");
    let sources = place.world.imports(crate::world::first_attempt(id));
    assert_eq!(sources, [versions[1].clone()]);
    let missing = run_file("x", "import:\n  /in: vessl-artifact://default/default/none", "true");
    let (status, body) = server.ask("POST", RUNS, Some(json!({ "yaml": missing }))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
    assert_eq!(body["problems"][0]["hint"], "there is `default/default/model`", "{body}");
    let slip = missing.replace("/none", "/modle");
    let (_, body) = server.ask("POST", RUNS, Some(json!({ "yaml": slip }))).await;
    let hint = "did you mean `default/default/model`? there is `default/default/model`";
    assert_eq!(body["problems"][0]["hint"], hint, "{body}");
}

#[tokio::test]
async fn a_finished_export_counts_whatever_becomes_of_its_run() {
    let place = Place::new();
    let server = place.open().await;
    let artifact = "/v1/organizations/default/projects/default/artifacts/model";
    let (first, second) = (tree(&place, "one"), tree(&place, "two"));
    let lines = "export:\n  /out: vessl-artifact://default/default/model\n  /log: vessl-artifact://";
    // The first is seen while its run goes on; then the run is lost.
    let script = format!(
        "fake say exporting\nfake exported /out {first}\nfake hold\nfake exported /log {second}\nfake die lost"
    );
    let id = server.submit_yaml(&run_file("x", lines, &script)).await;
    server.until(id, "stopping").await;
    let bound = async || server.ask("GET", artifact, None).await;
    while bound().await.0 != StatusCode::OK {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.get(&format!("{RUNS}/{}/files", id.0)).await.as_array().unwrap().len(), 2);
    place.world.release(crate::world::first_attempt(id));
    let run = server.settled(id).await;
    assert_eq!((&run["status"], run["exports"].as_array().unwrap().len()), (&json!("failed"), 2), "{run}");
    let files = server.get(&format!("{RUNS}/{}/files", id.0)).await;
    assert_eq!(files.as_array().unwrap().len(), 4, "{files}");
    // What is seen in an event and again in the exit record is one version.
    let script = format!("fake exported /out {second}\nfake export /out {second}\nfake exit 0");
    let id = server.submit_yaml(&run_file("x", lines, &script)).await;
    assert_eq!(server.settled(id).await["status"], "completed");
    let versions = bound().await.1["versions"].clone();
    let versions: Vec<_> = versions.as_array().unwrap().iter().map(|v| &v["manifest"]).collect();
    assert_eq!(versions, [&json!(second), &json!(first)]);
}

#[tokio::test]
async fn bytes_go_with_the_last_name() {
    let place = Place::new();
    let server = place.open().await;
    let (kept, lost) = (tree(&place, "kept"), tree(&place, "lost"));
    export(&server, &kept, "vessl-artifact://default/default/kept").await;
    let id = export(&server, &lost, "vessl-artifact://").await;
    assert_eq!(server.ask("DELETE", &format!("{RUNS}/{id}"), None).await.0, StatusCode::NO_CONTENT);
    server.opened.registry.collect().await.unwrap();
    let store = Store::open(&place.dir.path().join("data/blobs")).unwrap();
    let has = |digest: Digest| store.has(digest).unwrap();
    assert!(has(kept.parse().unwrap()) && has(Digest::of(TEXT)) && has(Digest::of(b"kept")));
    assert!(!has(lost.parse().unwrap()) && !has(Digest::of(b"lost")));
}

#[tokio::test]
async fn a_file_with_holes_comes_packed_or_from_anywhere() {
    let place = Place::new();
    let server = place.open().await;
    let store = Store::open(&place.dir.path().join("data/blobs")).unwrap();
    let (size, at) = (9_u64 << 40, 8_u64 << 40);
    let packed = [&at.to_le_bytes()[..], &4096_u64.to_le_bytes(), &[7; 4096]].concat();
    let put = store.put_bytes(&packed).unwrap();
    let entry = |path: &str, digest| {
        let kind = Kind::File { mode: 0o644, size, digest, form: Form::Packed };
        Entry { path: path.into(), kind, modified: None }
    };
    let entries = vec![entry("huge", put.digest), entry("none", store.put_bytes(TEXT).unwrap().digest)];
    let text = Manifest::new(entries).unwrap().text();
    let version = store.put_bytes(&text).unwrap().digest.to_string();
    let id = export(&server, &version, "vessl-artifact://").await;
    let files = server.get(&format!("{RUNS}/{id}/files")).await;
    assert_eq!(
        (&files[0]["size"], &files[0]["packed_size"]),
        (&json!(size), &json!(packed.len())),
        "{files}"
    );
    let ask = async |path: &str, range: &str| {
        let uri = format!("{RUNS}/{id}/files/content?export=/out&path={path}");
        let request = Request::builder()
            .uri(uri)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, format!("Bearer {}", server.token))
            .header(header::RANGE, range);
        let request = request.body(Body::empty()).unwrap();
        let answer = tower::ServiceExt::oneshot(server.router.clone(), request).await.unwrap();
        let (status, tag) = (answer.status(), answer.headers().get(header::ETAG).cloned());
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, tag.map(|tag| tag.to_str().unwrap().to_owned()), bytes.to_vec())
    };
    let (partial, digest) = (StatusCode::PARTIAL_CONTENT, put.digest);
    let whole = ask("huge&packed=1", "bytes=0-").await;
    assert_eq!(whole, (partial, Some(format!("\"blake3:{digest}\"")), packed));
    let tag = Some(format!("\"blake3-packed:{digest}\""));
    let around = ask("huge", &format!("bytes={}-{}", at - 3, at + 4096)).await;
    assert_eq!(around, (partial, tag.clone(), [&[0; 3][..], &[7; 4096], &[0]].concat()));
    assert_eq!(ask("huge", "bytes=-400000").await, (partial, tag, vec![0; 400_000]));
    assert_eq!(ask("none", "bytes=0-").await.0, StatusCode::INTERNAL_SERVER_ERROR);
}
