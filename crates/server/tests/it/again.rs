//! Runs that are made from another one: what is taken over, who may, and what cannot be exact.
use http::StatusCode;
use serde_json::{Value, json};
use vessl_core::access::{Caller, Grant, Role, Scope};
use vessl_core::ids::{ProjectRef, RunId, TokenId};
use vessl_core::wire::{RunCreate, RunFrom};

use crate::world::{Place, RUNS, Server, first_attempt, run_file};

const OTHER: &str = "/v1/organizations/default/projects/other/runs";

/// A run with variables of every kind and with settings of its submit.
async fn submit(server: &Server) -> RunId {
    server.done("POST", "/v1/secrets", json!({ "name": "stored", "value": "hush-0a1b" })).await;
    let env = "env:\n  TEXT: a\n  OVER: a\n  STORED: {secret: stored}\n  MASK: {value: hush-2c3d, secret: true}\n  ASKED: {source: inject, secret: true}";
    let body = json!({
        "yaml": run_file("first", env, "true"), "strict": true, "retries": 2, "max_runtime": "2h",
        "overrides": { "tags": ["t"], "cpu": "500m" },
        "env": [{ "key": "OVER", "value": "b" }, { "key": "MORE", "value": "c" }, { "key": "ASKED", "value": "hush-4e5f" }],
    });
    let run = server.done("POST", RUNS, body).await;
    let id = RunId(run["id"].as_u64().unwrap());
    server.settled(id).await;
    id
}

async fn read(server: &Server, runs: &str, id: RunId) -> Value {
    server.get(&format!("{runs}/{}?provenance=true", id.0)).await
}

#[tokio::test]
async fn the_same_submit_again_comes_to_the_same() {
    let place = Place::new();
    let server = place.open().await;
    let first = submit(&server).await;
    let again = server.done("POST", RUNS, json!({ "from": { "run": first } })).await;
    let id = RunId(again["id"].as_u64().unwrap());
    server.settled(id).await;
    let (one, two) = (read(&server, RUNS, first).await, read(&server, RUNS, id).await);
    for key in ["name", "tags", "retries", "resources", "env", "yaml", "preset", "image"] {
        assert_eq!(one[key], two[key], "{key}");
    }
    assert_eq!((&one["from"], &two["from"]), (&Value::Null, &json!({ "run": first, "exact": false })));
    for key in ["strict", "max_runtime", "env"] {
        assert_eq!(one["provenance"][key], two["provenance"][key], "{key}");
    }
    assert_eq!(
        (&two["provenance"]["strict"], &two["provenance"]["max_runtime"]),
        (&json!(true), &json!("2h"))
    );
    let expected = json!({
        "TEXT": { "text": "a" }, "OVER": { "text": "b" }, "MORE": { "text": "c" },
        "STORED": { "secret": "stored" }, "MASK": { "given": first }, "ASKED": { "given": first },
    });
    assert_eq!(two["provenance"]["env"], expected);
    assert_eq!(place.world.values(first_attempt(id)), place.world.values(first_attempt(first)));
    let list = server.get(RUNS).await;
    assert_eq!((&list[0]["from"]["run"], &list[1]["from"]), (&json!(first), &Value::Null), "{list}");
    // What is given with it counts.
    let body = json!({
        "from": { "run": id }, "retries": 0, "max_runtime": "1h", "overrides": { "name": "third", "tags": ["u"] },
        "env": [{ "key": "MASK", "value": "hush-6a7b" }, { "key": "TEXT", "value": "z" }],
    });
    let third = RunId(server.done("POST", RUNS, body).await["id"].as_u64().unwrap());
    server.settled(third).await;
    let three = read(&server, RUNS, third).await;
    assert_eq!(
        (&three["name"], &three["tags"], &three["retries"]),
        (&json!("third"), &json!(["t", "u"]), &json!(0))
    );
    assert_eq!(three["provenance"]["max_runtime"], "1h");
    assert_eq!(three["provenance"]["env"]["MASK"], json!({ "given": third }), "it was given anew");
    assert_eq!(
        three["provenance"]["env"]["ASKED"],
        json!({ "given": first }),
        "wherever it was taken over from"
    );
    assert_eq!(three["provenance"]["env"]["TEXT"], json!({ "text": "z" }));
    let told = format!("{one}{two}{three}{list}");
    assert!(!told.contains("hush-"), "{told}");
}

#[tokio::test]
async fn a_run_of_another_project_is_there_for_whoever_may_see_it() {
    let place = Place::new();
    let server = place.open().await;
    server.done("POST", "/v1/organizations/default/projects", json!({ "name": "other" })).await;
    let first = server.submit("true").await;
    let again = server.done("POST", OTHER, json!({ "from": { "run": first } })).await;
    assert_eq!((&again["project"], &again["from"]["run"]), (&json!("other"), &json!(first)));
    let other = ProjectRef::new("default", "other");
    let grants = vec![Grant { role: Role::Admin, on: Scope::Project(other.clone()) }];
    let caller = Caller { user: "u".into(), token: TokenId(7), grants };
    let from = |run| RunCreate { from: Some(RunFrom { run, exact: false }), ..RunCreate::default() };
    let control = &server.opened.control;
    let unknown = control.submit(&caller, &other, from(RunId(1))).await.unwrap_err().to_string();
    assert_eq!(unknown, "there is no run `1` that you may see");
    let none = control.submit(&caller, &other, from(RunId(u64::MAX))).await.unwrap_err().to_string();
    assert_eq!(none, format!("there is no run `{}` that you may see", u64::MAX));
    let closed = control.submit(&caller, &other, from(first)).await.unwrap_err().to_string();
    assert_eq!(closed, unknown.replace('1', &first.0.to_string()), "nothing is told of what is there");
    let own = RunId(again["id"].as_u64().unwrap());
    assert!(control.submit(&caller, &other, from(own)).await.is_ok());
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let place = Place::new();
    let server = place.open().await;
    // The image of this machine never came.
    let first = server.submit("true").await;
    server.settled(first).await;
    let (status, refused) =
        server.ask("POST", RUNS, Some(json!({ "from": { "run": first, "exact": true } }))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    let problem = &refused["problems"][0];
    assert_eq!((&problem["code"], &problem["path"]), (&json!("not-pinned"), &json!("image")), "{refused}");
    assert_eq!(problem["source"], "image: alpine:3", "its place in the file of the run: {refused}");
    let both = json!({ "from": { "run": first }, "yaml": run_file("x", "", "true") });
    for (body, expected) in [
        (both, StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "from": { "run": 1 } }), StatusCode::NOT_FOUND),
        (json!({}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "from": { "run": first, "exactly": true } }), StatusCode::BAD_REQUEST),
    ] {
        let (status, refused) = server.ask("POST", RUNS, Some(body.clone())).await;
        assert_eq!(status, expected, "{body}: {refused}");
    }
    assert_eq!(server.get(RUNS).await.as_array().unwrap().len(), 1, "nothing was made");
}
