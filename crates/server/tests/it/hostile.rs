//! Requests that nobody should send.
use axum::body::Body;
use http::{Request, StatusCode, header};
use serde_json::json;

use crate::world::{Place, RUNS, Server};

async fn raw(server: &Server, method: &str, path: &str, body: Vec<u8>) -> (StatusCode, serde_json::Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::AUTHORIZATION, format!("Bearer {}", server.token))
        .body(Body::from(body))
        .unwrap();
    server.send(request).await
}

#[tokio::test]
async fn bodies_that_are_none() {
    let place = Place::new();
    let server = place.open().await;
    let cases: [(&[u8], StatusCode); 9] = [
        // An empty body is an empty object, which names neither a file nor a run.
        (b"", StatusCode::UNPROCESSABLE_ENTITY),
        (b"{", StatusCode::BAD_REQUEST),
        (b"[]", StatusCode::BAD_REQUEST),
        (br#"["name: x\nimage: host://\nrun: [id]\n", [], false, null, null]"#, StatusCode::BAD_REQUEST),
        (b"{\"yaml\": 1}", StatusCode::BAD_REQUEST),
        (b"{\"yaml\": \"\"}", StatusCode::UNPROCESSABLE_ENTITY),
        (b"{\"yaml\": \"name: x\\u0000\"}", StatusCode::UNPROCESSABLE_ENTITY),
        (b"\xff\xfe", StatusCode::BAD_REQUEST),
        (b"{\"yaml\": \"a: &a [*a]\"}", StatusCode::UNPROCESSABLE_ENTITY),
    ];
    for (body, expected) in cases {
        let (status, answer) = raw(&server, "POST", RUNS, body.to_vec()).await;
        assert_eq!(status, expected, "{}: {answer}", String::from_utf8_lossy(body));
        assert!(answer["message"].is_string(), "{answer}");
    }
    let deep = format!("{{\"yaml\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(raw(&server, "POST", RUNS, deep.into_bytes()).await.0, StatusCode::BAD_REQUEST);
    let large = json!({ "yaml": "#".repeat((1 << 20) + 1) }).to_string();
    assert_eq!(raw(&server, "POST", RUNS, large.into_bytes()).await.0, StatusCode::BAD_REQUEST);
    let huge = vec![b' '; (8 << 20) + 1];
    assert_eq!(raw(&server, "POST", RUNS, huge).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(server.get(RUNS).await, json!([]));
}

#[tokio::test]
async fn a_field_that_does_not_exist_is_refused_and_nothing_is_done() {
    let place = Place::new();
    let server = place.open().await;
    let yaml = "name: x\nimage: alpine\nrun: echo\n";
    let (status, answer) = server.ask("POST", RUNS, Some(json!({ "yaml": yaml, "leniant": true }))).await;
    assert_eq!((status, &answer["code"]), (StatusCode::BAD_REQUEST, &json!("malformed")), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("`leniant`"), "{answer}");
    assert_eq!(server.get(RUNS).await, json!([]));
    let run = format!("{RUNS}/{}", server.submit("true").await.0);
    for query in [format!("{RUNS}?limitt=1"), format!("{run}/logs?tial=1"), format!("{run}/events?afte=1")] {
        let (status, answer) = server.ask("GET", &query, None).await;
        assert_eq!(
            (status, &answer["code"]),
            (StatusCode::BAD_REQUEST, &json!("malformed")),
            "{query}: {answer}"
        );
    }
    let end = format!("{run}/terminate");
    for (method, path, body) in [
        ("PATCH", run.as_str(), json!({ "status": "running", "name": "new" })),
        ("POST", &end, json!({ "grace": 1 })),
        ("POST", "/v1/clusters/local/images/pull", json!({ "reference": "a", "platform": "b" })),
        ("POST", "/v1/secrets", json!({ "name": "a", "kind": "secret", "value": "b", "user": "c" })),
        ("POST", "/v1/organizations", json!({ "name": "a", "owner": "b" })),
    ] {
        let (status, answer) = server.ask(method, path, Some(body)).await;
        assert_eq!(
            (status, &answer["code"]),
            (StatusCode::BAD_REQUEST, &json!("malformed")),
            "{path} {answer}"
        );
        assert!(answer["message"].as_str().unwrap().contains("unknown field"), "{path} {answer}");
    }
    assert_eq!(server.get(&run).await["name"], "a run");
}

#[tokio::test]
async fn a_name_that_is_no_text_is_refused_in_json() {
    let place = Place::new();
    let server = place.open().await;
    for (method, path) in [
        ("GET", "/v1/clusters/%ff".to_owned()),
        ("GET", "/v1/clusters/local/presets/%ff".to_owned()),
        ("GET", "/v1/clusters/%ff/images".to_owned()),
        ("DELETE", "/v1/secrets/%ff".to_owned()),
        ("GET", "/v1/organizations/%ff/projects".to_owned()),
        ("GET", "/v1/organizations/default/projects/%ff/runs".to_owned()),
        ("GET", "/v1/organizations/default/projects/default/artifacts/%ff".to_owned()),
        ("GET", format!("{RUNS}/%ff")),
    ] {
        let (status, answer) = server.ask(method, &path, None).await;
        let said = (status, &answer["code"]);
        assert_eq!(said, (StatusCode::BAD_REQUEST, &json!("malformed")), "{path}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains("UTF-8"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_answered_in_words() {
    let place = Place::new();
    let server = place.open().await;
    for (method, path) in [("PUT", RUNS), ("POST", "/v1/whoami"), ("DELETE", "/healthz")] {
        let (status, answer) = raw(&server, method, path, Vec::new()).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}: {answer}");
        assert_eq!(answer["code"], "method_not_allowed", "{path}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(method), "{path}: {answer}");
    }
}

#[tokio::test]
async fn paths_that_lead_nowhere() {
    let place = Place::new();
    let server = place.open().await;
    let id = server.submit("true").await;
    server.settled(id).await;
    for (path, expected) in [
        (format!("{RUNS}/0"), StatusCode::NOT_FOUND),
        (format!("{RUNS}/-1"), StatusCode::NOT_FOUND),
        (format!("{RUNS}/18446744073709551615"), StatusCode::NOT_FOUND),
        (format!("{RUNS}/99999999999999999999999"), StatusCode::NOT_FOUND),
        (format!("{RUNS}/..%2f..%2fetc"), StatusCode::NOT_FOUND),
        (format!("{RUNS}/%00"), StatusCode::NOT_FOUND),
        (format!("/v1/organizations/default/projects/other/runs/{}", id.0), StatusCode::NOT_FOUND),
        (format!("/v1/organizations/x/projects/default/runs/{}", id.0), StatusCode::NOT_FOUND),
        ("/v1/organizations/x/projects/default/runs".to_owned(), StatusCode::NOT_FOUND),
        ("/v1/organizations/default/projects/x/runs".to_owned(), StatusCode::NOT_FOUND),
        (
            format!("{RUNS}/{}/files/content?export=/o&path=..%2f..%2f..%2fetc%2fpasswd", id.0),
            StatusCode::NOT_FOUND,
        ),
        (format!("{RUNS}/{}/files/content", id.0), StatusCode::BAD_REQUEST),
        (format!("{RUNS}/{}/logs?tail=-1", id.0), StatusCode::BAD_REQUEST),
        (format!("{RUNS}/{}/logs?follow=maybe", id.0), StatusCode::BAD_REQUEST),
        (format!("{RUNS}/{}/logs?follow=", id.0), StatusCode::BAD_REQUEST),
        (format!("{RUNS}/{}/events?after=x", id.0), StatusCode::BAD_REQUEST),
        (format!("{RUNS}?limit=99999999999"), StatusCode::BAD_REQUEST),
        (format!("{RUNS}?keyword=%25%27%22%3B--"), StatusCode::OK),
        (format!("{RUNS}?before=9223372036854775807"), StatusCode::OK),
        (format!("{RUNS}?before=18446744073709551615"), StatusCode::BAD_REQUEST),
    ] {
        let (status, body) = raw(&server, "GET", &path, Vec::new()).await;
        assert_eq!(status, expected, "{path}: {body}");
    }
}

#[tokio::test]
async fn clients_that_hang_up_in_the_middle_leave_nothing_half_done() {
    let place = Place::new();
    let server = place.open().await;
    let body = json!({ "yaml": crate::world::run_file("x", "", "true") }).to_string();
    for patience in 0..20 {
        let asked = raw(&server, "POST", RUNS, body.clone().into_bytes());
        let bored = async {
            for _ in 0..patience {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = asked => {}
            () = bored => {}
        }
    }
    // What was stored in the end is carried out; a last run behind them shows that all of them are known by now.
    let last = server.submit("true").await;
    server.settled(last).await;
    for run in server.get(RUNS).await.as_array().unwrap() {
        let id = vessl_core::ids::RunId(run["id"].as_u64().unwrap());
        assert_eq!(server.settled(id).await["status"], "completed");
    }
}

#[tokio::test]
async fn names_that_are_none() {
    let place = Place::new();
    let server = place.open().await;
    for name in ["", " ", "../x", "a/b", "-x", ".x", "x\u{0}", "ä", &"x".repeat(101)] {
        for (path, body) in [
            ("/v1/organizations", json!({ "name": name })),
            ("/v1/organizations/default/projects", json!({ "name": name })),
            ("/v1/secrets", json!({ "name": name, "kind": "secret", "value": "v" })),
            ("/v1/credentials", json!({ "name": name, "kind": "git", "value": "v" })),
        ] {
            let (status, answer) = raw(&server, "POST", path, body.to_string().into_bytes()).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {name:?}: {answer}");
        }
    }
}
