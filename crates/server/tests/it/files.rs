//! Exports: registered once with the verdict, listed, downloaded by ranges, collected after the last name is gone.
use axum::body::Body;
use http::{Request, StatusCode, header};
use serde_json::json;
use vessl_data::blob::{Digest, Store};
use vessl_data::dir::Modified;
use vessl_data::tree::{Entry, Kind, Manifest};

use crate::world::{Place, RUNS, Server, run_file};

const TEXT: &[u8] = b"0123456789";

/// A tree with two files in the place's store; its version.
fn tree(place: &Place, marker: &str) -> String {
    let store = Store::open(&place.dir.path().join("data/blobs")).unwrap();
    let file = |path: &str, mode, bytes: &[u8]| {
        let put = store.put_bytes(bytes).unwrap();
        let kind = Kind::File { mode, size: put.size, digest: put.digest };
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
