//! Organizations, projects, secrets, credentials: and that no secret value is ever seen again.
use std::os::unix::fs::PermissionsExt;

use http::StatusCode;
use serde_json::{Value, json};
use vessl_core::secret::Secret;
use vessl_server::testing::open;

use crate::world::{Place, RUNS, first_attempt};

const VALUES: [&str; 3] = ["hunter2-stored", "hunter2-literal", "hunter2-token"];

#[tokio::test]
async fn organizations_and_projects() {
    let place = Place::new();
    let server = place.open().await;
    let (status, _) = server.ask("POST", "/v1/organizations", Some(json!({ "name": "lab" }))).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, body) = server.ask("POST", "/v1/organizations", Some(json!({ "name": "lab" }))).await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
    let projects = "/v1/organizations/lab/projects";
    assert_eq!(server.get(projects).await, json!([]));
    assert_eq!(server.ask("POST", projects, Some(json!({ "name": "p1" }))).await.0, StatusCode::CREATED);
    let runs = "/v1/organizations/lab/projects/p1/runs";
    let yaml = "name: x\nimage: alpine\nrun: echo";
    let (status, run) = server.ask("POST", runs, Some(json!({ "yaml": yaml }))).await;
    assert_eq!((status, &run["project"]), (StatusCode::CREATED, &json!("p1")), "{run}");
    assert_eq!(server.get(RUNS).await, json!([]), "each project has its own runs");
    let (status, body) = server.ask("GET", "/v1/organizations/lib/projects", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["hint"], "there are: default, lab");
}

#[tokio::test]
async fn a_key_that_is_gone_is_not_replaced_in_silence() {
    let place = Place::new();
    let key = place.dir.path().join("data/secret.key");
    let server = place.open().await;
    server.close().await;
    // Nothing needs it yet.
    std::fs::remove_file(&key).unwrap();
    let server = place.open().await;
    let secret = json!({ "name": "API_KEY", "kind": "secret", "value": VALUES[0] });
    assert_eq!(server.ask("POST", "/v1/secrets", Some(secret)).await.0, StatusCode::CREATED);
    server.close().await;
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let refused = open(place.setup()).await.unwrap_err().to_string();
    assert!(refused.contains("secret.key` is gone") && refused.contains("from a copy"), "{refused}");
    assert!(!key.exists());
    std::fs::write(&key, kept).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let server = place.open().await;
    let id = server.submit_yaml("name: x\nimage: alpine\nenv:\n  A: {secret: API_KEY}\nrun: echo\n").await;
    assert_eq!(server.settled(id).await["status"], "completed");
    assert_eq!(place.world.values(first_attempt(id)), [VALUES[0].into()]);
}

#[tokio::test]
async fn a_secret_reaches_the_agent_and_nobody_else() {
    let place = Place::new();
    let server = place.open().await;
    let secret = json!({ "name": "API_KEY", "kind": "secret", "value": VALUES[0] });
    let (status, view) = server.ask("POST", "/v1/secrets", Some(secret)).await;
    assert_eq!((status, view.get("value")), (StatusCode::CREATED, None));
    let login = json!({ "name": "hub", "kind": "registry", "username": "me", "value": VALUES[2] });
    assert_eq!(server.ask("POST", "/v1/credentials", Some(login)).await.0, StatusCode::CREATED);
    let yaml = format!(
        "name: x\nimage: {{url: alpine, credential_name: hub}}\nenv:\n  A: {{secret: API_KEY}}\n  \
         B: {{value: {}, secret: true}}\nrun: echo\n",
        VALUES[1]
    );
    let id = server.submit_yaml(&yaml).await;
    let run = server.settled(id).await;
    assert_eq!((&run["status"], &run["env"]), (&json!("completed"), &json!({ "A": null, "B": null })));
    let tally = place.world.tally(first_attempt(id));
    assert_eq!(tally.secrets, ["A", "B", "hub"]);
    assert_eq!(place.world.values(first_attempt(id)), VALUES.map(Secret::from));
    let mut seen = vec![run.to_string(), server.events_to_end(id).await];
    for path in ["/v1/secrets", "/v1/credentials", RUNS] {
        seen.push(server.get(path).await.to_string());
    }
    server.close().await;
    for entry in walk(place.dir.path()) {
        seen.push(String::from_utf8_lossy(&std::fs::read(entry).unwrap()).into_owned());
    }
    for value in VALUES {
        assert!(seen.iter().all(|text| !text.contains(value)), "{value} is seen");
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

#[tokio::test]
async fn a_secret_that_is_gone_before_the_start_ends_the_run_in_words() {
    let place = Place::new();
    let server = place.open().await;
    let all = "resources:\n  preset: cpu-large";
    let first = server
        .submit_yaml(&crate::world::run_file("a", all, "fake say running\nfake hold\nfake exit 0"))
        .await;
    server.until(first, "running").await;
    let secret = json!({ "name": "KEY", "kind": "secret", "value": "v" });
    server.ask("POST", "/v1/secrets", Some(secret)).await;
    let lines = format!("{all}\nenv:\n  KEY: {{secret: KEY}}");
    let second = server.submit_yaml(&crate::world::run_file("b", &lines, "true")).await;
    assert_eq!(server.ask("DELETE", "/v1/secrets/KEY", None).await.0, StatusCode::NO_CONTENT);
    place.world.release(first_attempt(first));
    let run = server.settled(second).await;
    assert_eq!(run["status"], "failed");
    assert!(run["reason"].as_str().unwrap().contains("there is no secret `KEY`"), "{run:#}");
    assert_eq!(place.world.tally(first_attempt(second)).starts, 0);
}

#[tokio::test]
async fn stored_values_are_replaced_listed_and_forgotten() {
    let place = Place::new();
    let server = place.open().await;
    for (value, replaced) in [("one", Value::Null), ("two", json!(true))] {
        let secret = json!({ "name": "K", "kind": "secret", "value": value });
        let (status, body) = server.ask("POST", "/v1/secrets", Some(secret)).await;
        assert_eq!((status, &body["replaced"]), (StatusCode::CREATED, &replaced), "{body}");
    }
    assert_eq!(server.get("/v1/secrets").await.as_array().unwrap().len(), 1);
    let (status, body) = server.ask("DELETE", "/v1/secrets/L", None).await;
    assert_eq!((status, &body["hint"]), (StatusCode::NOT_FOUND, &json!("there are: K")));
    assert_eq!(server.ask("DELETE", "/v1/secrets/K", None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(server.get("/v1/secrets").await, json!([]));
    for (path, wrong) in [
        ("/v1/secrets", json!({ "name": "K", "kind": "git", "value": "v" })),
        ("/v1/credentials", json!({ "name": "K", "kind": "secret", "value": "v" })),
        ("/v1/secrets", json!({ "name": "K", "kind": "secret", "value": "" })),
        ("/v1/secrets?organization=x", json!({ "name": "K", "kind": "secret", "value": "v" })),
    ] {
        let (status, body) = server.ask("POST", path, Some(wrong)).await;
        let expected = if path.ends_with('x') { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST };
        assert_eq!(status, expected, "{body}");
    }
    let yaml = "name: x\nimage: alpine\nenv:\n  A: {secret: GONE}\nrun: echo\n";
    let (status, body) = server.ask("POST", RUNS, Some(json!({ "yaml": yaml }))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
    assert_ne!(body["problems"], Value::Null);
}
