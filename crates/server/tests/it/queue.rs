//! Admission: the machine is never over-committed, who came first goes first, and everybody can ask why.
use serde_json::json;

use crate::world::{Place, RUNS, Server, first_attempt, run_file};
use vessl_core::ids::RunId;
use vessl_server::config::{ClusterConfig, PresetConfig};

const HOLD: &str = "fake say running\nfake hold\nfake exit 0";

async fn submit(server: &Server, preset: &str) -> RunId {
    let lines = format!("resources:\n  preset: {preset}");
    server.submit_yaml(&run_file(preset, &lines, HOLD)).await
}

async fn used(server: &Server) -> (u64, u64, Vec<u64>) {
    let node = &server.get("/v1/clusters/local/nodes").await[0];
    let runs = node["runs"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
    (node["cpu_milli_used"].as_u64().unwrap(), node["gpus_used"].as_u64().unwrap(), runs)
}

/// What a run waits for, once the queue's rule has spoken of it: until then it only has a place in the queue.
async fn explained(server: &Server, id: RunId) -> serde_json::Value {
    let said = async {
        loop {
            let said = server.get(&format!("{RUNS}/{}/explain", id.0)).await;
            let why = said["why"].as_str().expect("it has no reason");
            if said["next"] != json!([])
                && !why.starts_with("waits for its turn")
                && !why.starts_with("is next")
            {
                return said;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), said)
        .await
        .expect("it is never placed in the queue")
}

/// Each cluster has its own nodes and its own queue.
#[tokio::test]
async fn runs_of_one_cluster_are_never_placed_on_another() {
    let place = Place::new().cluster("far", "far-1", 64).cluster("full", "full-1", 2);
    let far = std::sync::Arc::clone(&place.others["far"]);
    let server = place.open().await;
    let submit = async |cluster: &str, cores: u32| {
        let lines = format!("resources:\n  cluster: {cluster}\n  requests: {{cpu: {cores}, memory: 1Gi}}");
        server.submit_yaml(&run_file(cluster, &lines, HOLD)).await
    };
    // The second run of `full` waits, and holds nobody of another cluster up.
    let (first, second) = (submit("full", 2).await, submit("full", 2).await);
    // No node of the first cluster has 32 cores.
    let (big, here) = (submit("far", 32).await, submit("local", 2).await);
    for (id, node) in [(first, "full-1"), (big, "far-1"), (here, "box")] {
        server.until(id, "running").await;
        assert_eq!(server.run(id).await["node"], node);
    }
    assert_eq!(server.run(second).await["status"], "queued");
    assert!(explained(&server, second).await["why"].as_str().unwrap().contains("`full-1`"));
    assert_eq!(far.order(), [first_attempt(big)]);
    assert_eq!(place.world.order(), [first_attempt(here)]);
    let nodes = server.get("/v1/clusters/far/nodes").await;
    assert_eq!(nodes[0]["runs"], json!([big.0]));
    assert_eq!(server.get("/v1/clusters").await.as_array().unwrap().len(), 3);
    // Also after a restart, from what is stored alone.
    server.close().await;
    let server = place.open().await;
    place.others["full"].release(first_attempt(first));
    server.until(second, "running").await;
    assert_eq!(server.run(second).await["node"], "full-1");
}

#[tokio::test]
async fn a_waiting_run_says_its_place_and_who_is_in_front_by_name() {
    let place = Place::new();
    let server = place.open().await;
    let cores = async |name: &str, cores: u32| {
        let lines = format!("resources:\n  requests: {{cpu: {cores}, memory: 1Gi}}");
        server.submit_yaml(&run_file(name, &lines, HOLD)).await
    };
    let holder = cores("holds it", 4).await;
    server.until(holder, "running").await;
    let (second, third) = (cores("waits", 4).await, cores("waits longer", 2).await);
    let said = explained(&server, second).await;
    assert_eq!(said["queue"], json!({ "place": 1, "of": 2 }), "{said}");
    assert!(said["why"].as_str().unwrap().contains(&format!("run {} (`holds it`) has", holder.0)), "{said}");
    assert_eq!(said["next"], json!([format!("the end of run {} (`holds it`) on `box`", holder.0)]));
    let said = explained(&server, third).await;
    assert_eq!(said["queue"], json!({ "place": 2, "of": 2 }), "{said}");
    assert!(said["why"].as_str().unwrap().contains(&format!("behind run {} (`waits`)", second.0)), "{said}");
    // A name that is changed is the one that is said: after the next look of the rule also of one in the queue.
    let path = format!("{RUNS}/{}", holder.0);
    server.ask("PATCH", &path, Some(json!({ "name": "renamed" }))).await;
    server.ask("POST", &format!("{RUNS}/{}/terminate", third.0), None).await;
    server.settled(third).await;
    let said = explained(&server, second).await;
    assert_eq!(said["queue"], json!({ "place": 1, "of": 1 }), "{said}");
    assert!(said["why"].as_str().unwrap().contains(&format!("run {} (`renamed`) has", holder.0)), "{said}");
    assert_eq!(server.get(&format!("{RUNS}/{}/explain", holder.0)).await["queue"], serde_json::Value::Null);
}

/// A cluster of the settings with GPU 1.
fn notebooks(cpu: &str) -> ClusterConfig {
    ClusterConfig {
        name: "notebooks".to_owned(),
        cpu: cpu.to_owned(),
        memory: "2Gi".to_owned(),
        gpus: vec![1],
        presets: vec![preset("1", 0), preset(cpu, 1)],
        ..ClusterConfig::default()
    }
}

fn preset(cpu: &str, gpus: u32) -> PresetConfig {
    let (name, memory) = (format!("p{gpus}"), "1Gi".to_owned());
    PresetConfig { name, cpu: cpu.to_owned(), memory, gpus, gpu_type: None }
}

async fn submit_to(server: &Server, cluster: &str, requests: &str) -> RunId {
    let lines = format!("resources:\n  cluster: {cluster}\n  requests: {{{requests}}}");
    server.submit_yaml(&run_file(cluster, &lines, HOLD)).await
}

/// Whatever becomes of a cluster in the settings: its runs keep what they hold of the machine, end as they end, and wait.
#[tokio::test]
async fn runs_outlive_their_cluster() {
    for later in [vec![], vec![notebooks("1")]] {
        let gone = later.is_empty();
        let mut place = Place::with(|config| config.clusters = vec![notebooks("3")]);
        let server = place.open().await;
        let first =
            submit_to(&server, "notebooks", "cpu: 3, memory: 1Gi, nvidia.com/gpu: {quantity: 1}").await;
        server.until(first, "running").await;
        let waits = submit_to(&server, "notebooks", "cpu: 1, memory: 1Gi").await;
        server.close().await;
        place.config.clusters = later;
        let server = place.open().await;
        assert_eq!(server.run(first).await["status"], "running");
        let waiting = explained(&server, waits).await;
        let why = waiting["why"].as_str().unwrap();
        assert_eq!(why.contains("the settings of the server name no cluster `notebooks`"), gone, "{why}");
        let both = submit_to(&server, "local", "cpu: 2, memory: 1Gi").await;
        let why = explained(&server, both).await["why"].to_string();
        assert!(why.contains(&first.0.to_string()), "it must wait for what is still held: {why}");
        assert_eq!(server.run(waits).await["status"], "queued");
        place.world.release(first_attempt(first));
        assert_eq!(server.settled(first).await["status"], "completed");
        server.until(both, "running").await;
        if gone {
            let path = format!("{RUNS}/{}/terminate", waits.0);
            assert_eq!(server.ask("POST", &path, Some(json!({}))).await.0, 200);
            assert_eq!(server.settled(waits).await["status"], "terminated");
        } else {
            server.until(waits, "running").await;
        }
    }
}

/// Clusters of the settings are parts of one machine: what one has, the others lack.
#[tokio::test]
async fn clusters_of_the_settings_share_the_machine() {
    let place = Place::with(|config| config.clusters = vec![notebooks("1")]);
    let server = place.open().await;
    let submit = async |cluster: &str, requests: &str| submit_to(&server, cluster, requests).await;
    let first = submit("notebooks", "cpu: 1, memory: 1Gi, nvidia.com/gpu: {quantity: 1}").await;
    let second = submit("notebooks", "cpu: 1, memory: 1Gi").await;
    let whole = submit("local", "cpu: 3, memory: 1Gi, nvidia.com/gpu: {quantity: 1}").await;
    server.until(first, "running").await;
    server.until(whole, "running").await;
    let why = explained(&server, second).await["why"].to_string();
    assert!(why.contains(&first.0.to_string()), "{why}");
    let nodes = server.get("/v1/clusters/notebooks/nodes").await;
    assert_eq!((&nodes[0]["cpu_milli"], &nodes[0]["runs"]), (&json!(1000), &json!([first.0])));
    assert_eq!(used(&server).await, (3000, 1, vec![whole.0]));
    assert_eq!(server.get("/v1/clusters/notebooks/images").await.as_array().unwrap().len(), 1);
    let yaml = run_file("x", "resources:\n  cluster: local\n  requests: {cpu: 4, memory: 1Gi}", HOLD);
    let (status, said) = server.ask("POST", RUNS, Some(json!({ "yaml": yaml }))).await;
    assert_eq!(status, 422, "{said}");
    place.world.release(first_attempt(first));
    server.until(second, "running").await;
}

#[tokio::test]
async fn first_come_first_served_and_never_too_much() {
    let place = Place::new();
    let server = place.open().await;
    let mut ids = Vec::new();
    for preset in ["cpu-small", "gpu-1", "gpu-2", "cpu-small"] {
        ids.push(submit(&server, preset).await);
    }
    server.until(ids[0], "running").await;
    server.until(ids[1], "running").await;
    // 4 cores: 1 + 2 are used; gpu-2 wants all 4, and the small one behind it may not overtake it.
    assert_eq!(used(&server).await, (3000, 1, vec![ids[0].0, ids[1].0]));
    insta::assert_json_snapshot!(
        "waits",
        json!([explained(&server, ids[2]).await, explained(&server, ids[3]).await,])
    );
    place.world.release(first_attempt(ids[0]));
    server.settled(ids[0]).await;
    assert_eq!(used(&server).await, (2000, 1, vec![ids[1].0]));
    place.world.release(first_attempt(ids[1]));
    server.until(ids[2], "running").await;
    assert_eq!(used(&server).await, (4000, 2, vec![ids[2].0]));
    place.world.release(first_attempt(ids[2]));
    server.until(ids[3], "running").await;
    place.world.release(first_attempt(ids[3]));
    server.settled(ids[3]).await;
    assert_eq!(used(&server).await, (0, 0, vec![]));
}

#[tokio::test]
async fn seats_survive_a_restart() {
    let place = Place::new();
    let server = place.open().await;
    let first = submit(&server, "gpu-1").await;
    server.until(first, "running").await;
    let second = submit(&server, "gpu-2").await;
    let third = submit(&server, "gpu-1").await;
    let before = used(&server).await;
    server.close().await;
    let server = place.open().await;
    assert_eq!(used(&server).await, before);
    place.world.release(first_attempt(first));
    server.until(second, "running").await;
    place.world.release(first_attempt(second));
    server.until(third, "running").await;
    place.world.release(first_attempt(third));
    server.settled(third).await;
    assert_eq!(used(&server).await, (0, 0, vec![]));
}

#[tokio::test]
async fn many_runs_pass_through_a_small_machine_in_order() {
    let place = Place::new();
    let server = place.open().await;
    let mut ids = Vec::new();
    for n in 0..70 {
        ids.push(
            server.submit_yaml(&run_file(&format!("{n}"), "resources:\n  preset: cpu-large", "true")).await,
        );
    }
    for &id in &ids {
        assert_eq!(server.settled(id).await["status"], "completed");
        assert_eq!(place.world.tally(first_attempt(id)).agents, 1);
    }
    assert_eq!(place.world.order(), ids.iter().map(|&id| first_attempt(id)).collect::<Vec<_>>());
    assert!(place.world.littered().is_empty());
}
