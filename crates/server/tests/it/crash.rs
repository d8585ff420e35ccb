//! The kill matrix: a server dies at each step of each kind of run, another one opens the same directory, and nothing
//! is lost and nothing happens twice.
//!
//! A scripted machine never answers at one point (`fake hang POINT`); there the server is dropped with everything it
//! has in memory. `look N` is the point after the turn before it was saved and applied.
use std::fmt::Write as _;

use serde_json::{Value, json};
use vessl_core::ids::RunId;

use crate::world::{Place, RUNS, first_attempt, run_file};

/// A run whose server dies at `point`; with `terminate` somebody asks for its end while it runs.
struct Case {
    name: &'static str,
    script: &'static str,
    terminate: bool,
}

const CASES: [Case; 5] = [
    Case {
        name: "completes",
        script: "fake say pulling\nfake say running\nfake say exporting\nfake exit 0",
        terminate: false,
    },
    Case { name: "fails", script: "fake say running\nfake exit 3", terminate: false },
    Case {
        name: "dies",
        script: "fake say running\nfake die the machine was started again",
        terminate: false,
    },
    Case { name: "refused", script: "fake refuse no room", terminate: false },
    Case { name: "terminated", script: "fake say running\nfake hold", terminate: true },
];

const POINTS: [&str; 11] = [
    "before start",
    "after start",
    "look 1",
    "look 2",
    "look 3",
    "look 4",
    "look 5",
    "before stop",
    "after stop",
    "before remove",
    "after remove",
];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Runs the case with a death at `point`, if it comes there; says what became of it.
fn live(case: &Case, point: &str) -> (bool, String) {
    let place = Place::new();
    let first = runtime();
    let (id, died) = first.block_on(async {
        let server = place.open().await;
        let script = format!("fake hang {point}\nfake export /out {}\n{}", "ab".repeat(32), case.script);
        let yaml = run_file("x", "export:\n  /out: vessl-artifact://default/default/thing", &script);
        let id = server.submit_yaml(&yaml).await;
        let goes_on = async {
            if case.terminate {
                server.until(id, "running").await;
                server.ask("POST", &format!("{RUNS}/{}/terminate", id.0), Some(json!({}))).await;
            }
            server.settled(id).await;
        };
        tokio::select! {
            () = place.world.hangs_at(point) => (id, true),
            () = goes_on => (id, false),
        }
    });
    // The death: every task and everything in memory is gone; what is on disk and on the machine stays.
    first.shutdown_timeout(crate::world::DEADLINE);
    let second = runtime();
    let said = second.block_on(async {
        let server = place.open().await;
        let asked = server.run(id).await["status"] == "stopping";
        if case.terminate && died && !asked && !server.run(id).await["status"].as_str().is_some_and(is_final)
        {
            // The death was before anybody could ask.
            server.ask("POST", &format!("{RUNS}/{}/terminate", id.0), Some(json!({}))).await;
        }
        place.world.release(first_attempt(id));
        let run = server.settled(id).await;
        let events = server.events_to_end(id).await;
        check(&place, id, &run, &events);
        let artifacts = server.get("/v1/organizations/default/projects/default/artifacts").await;
        format!("{} {} artifacts={}", run["status"], run["exit_code"], artifacts.as_array().unwrap().len())
    });
    (died, said)
}

fn is_final(status: &str) -> bool {
    matches!(status, "completed" | "failed" | "terminated")
}

/// What holds for every run, whenever its server died.
fn check(place: &Place, id: RunId, run: &Value, events: &str) {
    let tally = place.world.tally(first_attempt(id));
    assert!(tally.agents <= 1, "never started twice: {tally:?}");
    assert!(place.world.littered().is_empty(), "nothing is left on the machine");
    let numbers: Vec<u64> =
        events.lines().filter_map(|line| line.strip_prefix("id: ")).map(|id| id.parse().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "no event is lost or told twice");
    let history = run["history"].as_array().unwrap();
    let ends = history.iter().filter(|change| change["status"].as_str().is_some_and(is_final)).count();
    assert_eq!(ends, 1, "one verdict: {history:#?}");
}

#[test]
fn nothing_is_lost_and_nothing_happens_twice() {
    let mut table = String::new();
    for case in &CASES {
        let (_, undisturbed) = live(case, "nowhere");
        writeln!(table, "{}: {undisturbed}", case.name).unwrap();
        for point in POINTS {
            let (died, said) = live(case, point);
            assert_eq!(said, undisturbed, "{} with a death at {point}", case.name);
            if died {
                writeln!(table, "  died at {point}").unwrap();
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_run_that_was_answered_is_there_after_a_death_right_behind_the_answer() {
    let place = Place::new();
    let first = runtime();
    let ids = first.block_on(async {
        let server = place.open().await;
        let mut ids = Vec::new();
        for _ in 0..20 {
            ids.push(server.submit("true").await);
        }
        ids
    });
    first.shutdown_background();
    runtime().block_on(async {
        let server = place.open_when_free().await;
        for id in ids {
            let run = server.settled(id).await;
            assert_eq!(run["status"], "completed");
            assert_eq!(place.world.tally(first_attempt(id)).agents, 1);
        }
    });
}
