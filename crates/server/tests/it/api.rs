//! One run over the API: submit, read, events, list, change, delete.
use http::StatusCode;
use serde_json::{Value, json};

use crate::world::{Place, RUNS, first_attempt, run_file};

#[tokio::test]
async fn a_run_from_submit_to_end() {
    let place = Place::new();
    let server = place.open().await;
    let id = server.submit("true").await;
    insta::assert_json_snapshot!(server.settled(id).await);
    insta::assert_snapshot!(server.events_to_end(id).await);
    let tally = place.world.tally(first_attempt(id));
    assert_eq!((tally.agents, tally.starts), (1, 1));
    assert!(place.world.littered().is_empty());
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_told_at_once_and_at_its_place() {
    let place = Place::new();
    let server = place.open().await;
    let yaml = "name: x\nimage: alpine\nresources:\n  cluster: locl\n  presett: cpu-small\nrun: true\n";
    let (status, body) = server.ask("POST", RUNS, Some(json!({ "yaml": yaml }))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    insta::assert_json_snapshot!("file_problems", body);
    let yaml = "name: x\nimage: alpine\nresources:\n  cluster: locl\nrun: echo\n";
    let (status, body) = server.ask("POST", RUNS, Some(json!({ "yaml": yaml }))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    insta::assert_json_snapshot!("plan_problems", body);
    assert_eq!(server.get(RUNS).await, json!([]));
}

#[tokio::test]
async fn warnings_come_with_the_answer_only() {
    let place = Place::new();
    let server = place.open().await;
    let yaml = "name: x\nimage: alpine\nresourcess: 1\nrun: echo\n";
    let (status, body) = server.ask("POST", RUNS, Some(json!({ "yaml": yaml, "lenient": true }))).await;
    assert_eq!(status, StatusCode::CREATED, "{body:#}");
    assert_eq!(body["warnings"][0]["code"], "unknown-key");
    let read = server.get(&format!("{RUNS}/{}", body["id"])).await;
    assert!(read.get("warnings").is_none());
}

#[tokio::test]
async fn events_go_on_after_any_number() {
    let place = Place::new();
    let server = place.open().await;
    let id = server.submit("fake say pulling\nfake say importing\nfake say running\nfake exit 3").await;
    server.settled(id).await;
    let numbers = |text: &str| -> Vec<u64> {
        text.lines().filter_map(|line| line.strip_prefix("id: ")).map(|id| id.parse().unwrap()).collect()
    };
    let all = numbers(&server.events_to_end(id).await);
    assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>());
    for after in 0..=all.len() + 1 {
        let path = format!("{RUNS}/{}/events?after={after}", id.0);
        let rest = server.get(&path).await;
        assert_eq!(numbers(rest.as_str().unwrap_or_default()), all[after.min(all.len())..], "after {after}");
    }
}

#[tokio::test]
async fn pages_go_backwards_and_filter() {
    let place = Place::new();
    let server = place.open().await;
    let mut ids = Vec::new();
    for n in 0..7 {
        let lines = if n % 2 == 0 { "description: the Even one" } else { "tags: [odd]" };
        let script = if n == 3 { "fake exit 1" } else { "true" };
        let id = server.submit_yaml(&run_file(&format!("run {n}"), lines, script)).await;
        server.settled(id).await;
        ids.push(id.0);
    }
    ids.reverse();
    let page = async |query: &str| -> Vec<u64> {
        let runs = server.get(&format!("{RUNS}?{query}")).await;
        runs.as_array().unwrap().iter().map(|run| run["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(page("").await, ids);
    assert_eq!(page("limit=3").await, ids[..3]);
    assert_eq!(page(&format!("limit=3&before={}", ids[2])).await, ids[3..6]);
    assert_eq!(page("status=failed").await, [ids[3]]);
    assert_eq!(page("keyword=EVEN").await, [ids[0], ids[2], ids[4], ids[6]]);
    assert_eq!(page("keyword=run%205").await, [ids[1]]);
    assert_eq!(page("limit=0").await, [0; 0]);
    assert_eq!(page("before=1").await, [0; 0]);
    let (status, _) = server.ask("GET", &format!("{RUNS}?status=nonsense"), None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_list_is_filtered_and_sorted_as_it_is_asked_for() {
    let place = Place::new();
    let server = place.open().await;
    let mut ids = Vec::new();
    // Each ends later than the one before, and takes so many seconds.
    for (name, tags, script, seconds) in [
        ("b", "[one, 'x,y%']", "fake say running\nfake hold\nfake exit 0", 3),
        ("a", "[one, two]", "fake say running\nfake hold\nfake exit 1", 9),
        ("a [2]", "[two]", "fake say running\nfake hold\nfake exit 0", 6),
    ] {
        let lines = format!("tags: {tags}\nenv:\n  LR: '{seconds}'\n  KEY: {{value: hush, secret: true}}");
        let id = server.submit_yaml(&run_file(&format!("'{name}'"), &lines, script)).await;
        server.until(id, "running").await;
        place.advance(seconds);
        place.world.release(first_attempt(id));
        server.settled(id).await;
        ids.push(id.0);
    }
    let page = async |query: &str| -> Vec<usize> {
        let runs = server.get(&format!("{RUNS}?{query}")).await;
        let at = |run: &Value| ids.iter().position(|id| run["id"] == *id).unwrap();
        runs.as_array().unwrap().iter().map(at).collect()
    };
    for (query, expected) in [
        ("status=completed,failed", &[2, 1, 0][..]),
        ("status=completed,running", &[2, 0]),
        ("status=", &[2, 1, 0]),
        ("tag=one", &[1, 0]),
        ("tag=one,two", &[1]),
        ("tag=x%252Cy%2525", &[0]),
        ("tag=on", &[]),
        ("name=a", &[1]),
        ("name=a*", &[2, 1]),
        ("name=a%20[2]", &[2]),
        ("name=*[2]", &[2]),
        ("name=?", &[]),
        ("tag=one&status=failed&name=a", &[1]),
        ("since=2024-05-01T12:00:03Z", &[2, 1]),
        ("since=2024-05-01T12:00:03.5Z", &[2]),
        ("reverse=true", &[0, 1, 2]),
        ("sort=name", &[1, 2, 0]),
        ("sort=name&reverse=true", &[0, 2, 1]),
        ("sort=status", &[2, 0, 1]),
        ("sort=started", &[2, 1, 0]),
        ("sort=ended&reverse=true", &[0, 1, 2]),
        ("sort=time", &[1, 2, 0]),
        ("sort=time&limit=1&offset=1", &[2]),
        ("reason=command_failed", &[1]),
        ("keyword=TWO", &[2, 1]),
    ] {
        assert_eq!(page(query).await, expected, "{query}");
    }
    // A tag that is taken away is no longer found, a new one is.
    let path = format!("{RUNS}/{}", ids[1]);
    server.ask("PATCH", &path, Some(json!({ "tags": ["two", "three"] }))).await;
    assert_eq!((page("tag=one").await, page("tag=three").await), (vec![0], vec![1]));
    // Runs that have not ended come last, either way.
    let running = server.submit("fake say running\nfake hold").await;
    server.until(running, "running").await;
    for query in ["sort=ended", "sort=time&reverse=true"] {
        let last = &server.get(&format!("{RUNS}?{query}")).await[3]["id"];
        assert_eq!(*last, running.0, "{query}");
    }
    let runs = server.get(&format!("{RUNS}?env=true&tag=three")).await;
    assert_eq!(runs[0]["env"], json!({ "LR": "9", "KEY": null }));
    assert_eq!(server.get(&format!("{RUNS}?tag=three")).await[0].get("env"), None);
    for wrong in ["status=failed,", "status=failed,asleep", "sort=colour", "since=yesterday", "colour=red"] {
        let (status, said) = server.ask("GET", &format!("{RUNS}?{wrong}"), None).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}: {said}");
    }
}

#[tokio::test]
async fn name_description_and_tags_change_whatever_the_run_does() {
    let place = Place::new();
    let server = place.open().await;
    let id = server.submit("fake say running\nfake hold\nfake exit 0").await;
    server.until(id, "running").await;
    let path = format!("{RUNS}/{}", id.0);
    let change = json!({ "name": "new", "tags": ["a", "b"] });
    let (status, run) = server.ask("PATCH", &path, Some(change)).await;
    assert_eq!((status, &run["name"], &run["tags"]), (StatusCode::OK, &json!("new"), &json!(["a", "b"])));
    place.world.release(first_attempt(id));
    let (_, _) = server.ask("PATCH", &path, Some(json!({ "description": "text" }))).await;
    let run = server.settled(id).await;
    assert_eq!(run["description"], "text");
    assert_eq!(run["status"], "completed");
    for wrong in [json!({ "name": "" }), json!({ "tags": [""] }), json!({ "name": "x".repeat(254) })] {
        let (status, _) = server.ask("PATCH", &path, Some(wrong)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn only_an_ended_run_is_deleted_and_then_it_is_gone() {
    let place = Place::new();
    let server = place.open().await;
    let id = server.submit("fake say running\nfake hold\nfake exit 0").await;
    server.until(id, "running").await;
    let (path, dir) = (format!("{RUNS}/{}", id.0), place.run_dir(id));
    std::fs::create_dir_all(dir.join("1/log")).unwrap();
    let (status, body) = server.ask("DELETE", &path, None).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(body["message"].as_str().unwrap().contains("terminate it first"), "{body}");
    assert!(dir.exists());
    place.world.release(first_attempt(id));
    server.settled(id).await;
    assert_eq!(server.ask("DELETE", &path, None).await.0, StatusCode::NO_CONTENT);
    assert!(!dir.exists());
    for path in [path.clone(), format!("{path}/events"), format!("{path}/logs"), format!("{path}/files")] {
        let (status, body) = server.ask("GET", &path, None).await;
        assert_eq!((status, &body["code"]), (StatusCode::NOT_FOUND, &json!("not_found")), "{path}");
    }
    assert_eq!(server.ask("DELETE", &path, None).await.0, StatusCode::NOT_FOUND);
    let next = server.submit("true").await;
    assert!(next > id, "a number is never given twice");
}

#[tokio::test]
async fn a_key_makes_a_repeat_the_same_run() {
    let place = Place::new();
    let server = place.open().await;
    let submit = |yaml: &str, key: &str| json!({ "yaml": yaml, "idempotency_key": key });
    let yaml = run_file("x", "", "true");
    let (status, first) = server.ask("POST", RUNS, Some(submit(&yaml, "k"))).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, again) = server.ask("POST", RUNS, Some(submit(&yaml, "k"))).await;
    assert_eq!((status, &again["id"]), (StatusCode::OK, &first["id"]));
    let (status, other) = server.ask("POST", RUNS, Some(submit(&run_file("y", "", "true"), "k"))).await;
    assert_eq!(status, StatusCode::CONFLICT, "{other}");
    let (status, _) = server.ask("POST", RUNS, Some(submit(&yaml, ""))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    // Many at once, and again after a restart.
    let many = (0..16).map(|_| server.ask("POST", RUNS, Some(submit(&yaml, "many"))));
    let many: Vec<_> = futures::future::join_all(many).await;
    assert_eq!(many.iter().filter(|(status, _)| *status == StatusCode::CREATED).count(), 1);
    let ids: std::collections::BTreeSet<u64> =
        many.iter().map(|(_, run)| run["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    server.close().await;
    let server = place.open().await;
    let (status, again) = server.ask("POST", RUNS, Some(submit(&yaml, "k"))).await;
    assert_eq!((status, &again["id"]), (StatusCode::OK, &first["id"]));
}

#[tokio::test]
async fn clusters_nodes_presets_and_images() {
    let place = Place::new();
    let server = place.open().await;
    let id = server
        .submit_yaml(&run_file("x", "resources:\n  preset: gpu-1", "fake say running\nfake hold"))
        .await;
    server.until(id, "running").await;
    let mut all = serde_json::Map::new();
    for path in [
        "/v1/clusters",
        "/v1/clusters/local",
        "/v1/clusters/local/nodes",
        "/v1/clusters/local/presets",
        "/v1/clusters/local/presets/gpu-2",
        "/v1/clusters/local/images",
        "/v1/clusters/local/images/0123456789ab",
    ] {
        all.insert(path.to_owned(), server.get(path).await);
    }
    insta::assert_json_snapshot!(Value::Object(all));
    for path in ["/v1/clusters/x", "/v1/clusters/local/presets/x", "/v1/clusters/local/images/x"] {
        let (status, body) = server.ask("GET", path, None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
    }
    let pull = json!({ "reference": "alpine:3" });
    let (status, lines) = server.ask("POST", "/v1/clusters/local/images/pull", Some(pull)).await;
    assert_eq!(status, StatusCode::OK);
    insta::assert_snapshot!("pull", lines.as_str().unwrap());
}
