//! What becomes of runs whose machine does this or that.
use http::StatusCode;
use serde_json::{Value, json};
use vessl_core::ids::RunId;

use crate::world::{DEADLINE, Place, RUNS, Server, first_attempt, run_file};

/// The end of a run with this script: status, exit code, reason.
async fn check(script: &str, expected: (&str, Value, &str)) {
    let place = Place::new();
    let server = place.open().await;
    let id = server.submit(script).await;
    let time = async {
        loop {
            place.advance(11);
            tokio::task::yield_now().await;
        }
    };
    let run = tokio::select! {
        run = server.settled(id) => run,
        () = time => unreachable!("time goes on for ever"),
    };
    let (status, code, reason) = expected;
    assert_eq!((&run["status"], &run["exit_code"]), (&json!(status), &code), "{script}: {run:#}");
    assert!(run["reason"].as_str().unwrap().contains(reason), "{script}: {}", run["reason"]);
    assert!(place.world.littered().is_empty(), "{script}");
    assert!(place.world.tally(first_attempt(id)).agents <= 1, "{script}");
    assert_eq!(server.get("/v1/clusters/local/nodes").await[0]["runs"], json!([]), "{script}");
}

#[tokio::test]
async fn every_way_to_end() {
    check("true", ("completed", json!(0), "every command ended")).await;
    check("fake say running\nfake exit 137", ("failed", json!(137), "status 137")).await;
    check("fake say running\nfake die its agent is gone", ("failed", Value::Null, "its agent is gone")).await;
    check("fake refuse no room", ("failed", Value::Null, "no room")).await;
    check("fake vanish 1\nfake exit 0", ("completed", json!(0), "every command")).await;
    check("fake vanish 99", ("failed", Value::Null, "before it took the run")).await;
}

#[tokio::test]
async fn a_run_that_cannot_be_reached_goes_on() {
    let place = Place::new();
    let server = place.open().await;
    let id = server.submit("fake say running\nfake unreachable\nfake exit 0").await;
    lost(&server, id).await;
    assert_eq!(server.run(id).await["status"], "running");
    place.advance(86_400);
    place.world.release(first_attempt(id));
    let run = server.settled(id).await;
    assert_eq!((&run["status"], &run["no_contact_since"]), (&json!("completed"), &Value::Null));
    let events = server.events_to_end(id).await;
    assert!(
        events.contains("no contact: the line is cut") && events.contains("there is contact again"),
        "{events}"
    );
}

#[tokio::test]
async fn progress_is_told_and_not_kept() {
    let place = Place::new();
    let server = place.open().await;
    let id = server.submit("fake say pulling\nfake hold\nfake exit 0").await;
    server.until(id, "initializing").await;
    let dir = server.attempt_dir(id).await;
    std::fs::create_dir_all(&dir).unwrap();
    let mut events = server.stream(&format!("{RUNS}/{}/events", id.0)).await;
    let mut said = events.next().await;
    let progress = json!({ "kind": "image", "label": "alpine:3", "done": 3, "total": 9 });
    std::fs::write(dir.join("progress.new"), progress.to_string()).unwrap();
    std::fs::rename(dir.join("progress.new"), dir.join("progress")).unwrap();
    while !said.contains("event: progress") {
        said.push_str(&events.next().await);
    }
    assert!(
        said.contains("\"progress\":{\"kind\":\"image\",\"label\":\"alpine:3\",\"done\":3,\"total\":9}"),
        "{said}"
    );
    let explained = server.get(&format!("{RUNS}/{}/explain", id.0)).await;
    assert_eq!(explained["progress"], progress);
    place.world.release(first_attempt(id));
    server.settled(id).await;
    assert!(!server.events_to_end(id).await.contains("event: progress"));
}

#[tokio::test]
async fn what_is_fetched_and_copied_in_is_named() {
    let place = Place::new();
    let server = place.open().await;
    let import = "import:\n  /code: {git: {url: 'https://example.org/code'}}";
    for (phase, expected) in [
        ("pulling", "fetching the image: `alpine:3`"),
        ("importing", "copying the imports in: `https://example.org/code` to `/code` (1 of 1)"),
    ] {
        let script = format!("fake say {phase}\nfake hold");
        let id = server.submit_yaml(&run_file(phase, import, &script)).await;
        server.until(id, "initializing").await;
        let explained = server.get(&format!("{RUNS}/{}/explain", id.0)).await;
        assert_eq!(explained["why"], expected);
    }
}

#[tokio::test]
async fn silence_for_ever_is_no_end() {
    let place = Place::new();
    let server = place.open().await;
    let id = server.submit("fake say running\nfake unreachable").await;
    lost(&server, id).await;
    let since = server.run(id).await["no_contact_since"].clone();
    let looked_at = async {
        while place.world.tally(first_attempt(id)).looks < 45 {
            place.advance(3600);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, looked_at).await.expect("it is looked at again and again");
    let run = server.run(id).await;
    assert_eq!((&run["status"], &run["no_contact_since"]), (&json!("running"), &since));
}

async fn lost(server: &Server, id: RunId) {
    let mut follow = server.opened.control.follow(id).unwrap();
    let waiting = async {
        while server.run(id).await["no_contact_since"].is_null() {
            follow.changed().await.unwrap();
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.expect("contact is lost");
}

async fn terminate(server: &Server, id: u64, ask: Value) -> (StatusCode, Value) {
    server.ask("POST", &format!("{RUNS}/{id}/terminate"), Some(ask)).await
}

/// Terminates a run of this script as soon as it has this status; its end. Asking again is no error and does nothing.
async fn ended_while(place: &Place, script: &str, status: &str) -> (RunId, Value) {
    let server = place.open().await;
    let id = server.submit(script).await;
    let started = async {
        while place.world.tally(first_attempt(id)).starts == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, started).await.expect("it is started");
    server.until(id, status).await;
    let (answer, run) = terminate(&server, id.0, json!({})).await;
    assert_eq!(answer, StatusCode::OK, "{status}: {run}");
    assert!(status == "pending" || run["status"] == "stopping", "{status}: {run}");
    let run = server.settled(id).await;
    let (answer, again) = terminate(&server, id.0, json!({})).await;
    assert_eq!((answer, &again["history"]), (StatusCode::OK, &run["history"]), "{status}");
    assert_eq!(run["status"], "terminated", "{run:#}");
    assert!(place.world.littered().is_empty(), "{status}");
    server.close().await;
    (id, run)
}

#[tokio::test]
async fn terminate_ends_a_run_in_every_state() {
    for (script, status) in [
        ("fake hold", "pending"),
        ("fake say pulling\nfake hold", "initializing"),
        ("fake say importing\nfake hold", "initializing"),
        ("fake say starting\nfake hold", "initializing"),
        ("fake say running\nfake hold", "running"),
        ("fake say running\nfake say idle\nfake hold", "idle"),
        ("fake say running\nfake say exporting\nfake hold", "stopping"),
    ] {
        let place = Place::new();
        let (id, run) = ended_while(&place, script, status).await;
        assert_eq!(run["exit_code"], json!(143), "{script}: the agent's word counts: {run:#}");
        let tally = place.world.tally(first_attempt(id));
        assert_eq!((tally.agents, tally.stops), (1, 1), "{script}: the agent is asked once");
    }
}

#[tokio::test]
async fn terminate_of_a_run_whose_agent_left_no_trace() {
    let place = Place::new();
    let (id, run) = ended_while(&place, "fake vanish 99", "pending").await;
    assert_eq!(
        (&run["exit_code"], &run["reason"]),
        (&Value::Null, &json!("terminated before it was started"))
    );
    let tally = place.world.tally(first_attempt(id));
    assert_eq!((tally.agents, tally.starts, tally.stops), (0, 1, 0), "it is not started again");
}

#[tokio::test]
async fn terminate_of_a_run_that_waits() {
    let place = Place::new();
    let server = place.open().await;
    let all = "resources:\n  preset: cpu-large";
    let first = server.submit_yaml(&run_file("a", all, "fake say running\nfake hold")).await;
    server.until(first, "running").await;
    let second = server.submit_yaml(&run_file("b", all, "true")).await;
    let (answer, _) = terminate(&server, second.0, json!({})).await;
    assert_eq!(answer, StatusCode::OK);
    let run = server.settled(second).await;
    assert_eq!(
        (&run["status"], &run["reason"]),
        (&json!("terminated"), &json!("terminated before it was placed"))
    );
    assert_eq!((&run["status"], &run["node"]), (&json!("terminated"), &Value::Null));
    assert_eq!(place.world.tally(first_attempt(second)).starts, 0);
}

#[tokio::test]
async fn an_agent_that_does_not_listen_is_asked_again() {
    let place = Place::new();
    let server = place.open().await;
    let id = server.submit("fake say running\nfake hold\nfake deaf").await;
    server.until(id, "running").await;
    terminate(&server, id.0, json!({ "grace_s": 5 })).await;
    let waiting = async {
        while place.world.tally(first_attempt(id)).stops < 3 {
            place.advance(11);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap();
    assert_eq!(server.run(id).await["status"], "stopping");
    let (status, body) = terminate(&server, id.0, json!({ "grace_s": 1_000_000 })).await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
}

#[tokio::test]
async fn explain_says_how_long_a_fetch_has_been_silent() {
    let place = Place::new();
    let server = place.open().await;
    let id = server.submit("fake say pulling\nfake hold\nfake exit 0").await;
    server.until(id, "initializing").await;
    let path = format!("{RUNS}/{}/explain", id.0);
    place.advance(20);
    let said = server.get(&path).await;
    assert_eq!((&said["silent_millis"], &said["progress"]), (&json!(20_000), &json!(null)), "{said}");
    // Something came 5 s ago.
    let file = server.attempt_dir(id).await.join("progress");
    std::fs::write(&file, r#"{"kind":"image","label":"alpine:3","done":5,"total":9}"#).unwrap();
    let came = std::time::SystemTime::from(*place.clock.borrow()) - std::time::Duration::from_secs(5);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(came).unwrap();
    let said = server.get(&path).await;
    assert_eq!((&said["silent_millis"], &said["progress"]["done"]), (&json!(5000), &json!(5)), "{said}");
    place.world.release(first_attempt(id));
    server.settled(id).await;
    let said = server.get(&path).await;
    assert_eq!(said["silent_millis"], json!(null), "{said}");
    let run = server.run(id).await;
    assert_eq!(run["usage"], json!(null), "its commands never ran: {run}");
}

#[tokio::test]
async fn a_run_says_what_it_used_and_how_long_each_phase_took() {
    let place = Place::new();
    let server = place.open().await;
    let lines = "ports:\n  - {name: web, type: http, port: 8080}\n  - 9000";
    let id = server
        .submit_yaml(&run_file("x", lines, "fake say pulling\nfake say running\nfake hold\nfake exit 0"))
        .await;
    server.until(id, "running").await;
    place.advance(7);
    place.world.release(first_attempt(id));
    let run = server.settled(id).await;
    assert_eq!(run["usage"], json!({ "memory_peak": 4096, "cpu_millis": 7 }), "{run}");
    let phases: Vec<&str> =
        run["phases"].as_array().unwrap().iter().map(|change| change["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["pulling", "running"], "{run}");
    assert_eq!(run["ports"][0], json!({ "name": "web", "type": "http", "port": 8080, "public": false }));
    assert_eq!(run["ports"][1]["port"], 9000);
}
