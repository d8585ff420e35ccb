//! One run over the API, from submit to its end.
use crate::world::{Place, first_attempt};

#[tokio::test]
async fn a_run_from_submit_to_end() {
    let place = Place::new();
    let server = place.open().await;
    let id = server.submit("true").await;
    let run = server.settled(id).await;
    assert_eq!(run["status"], "completed", "{run:#}");
    println!("{run:#}\n{}", server.events_to_end(id).await);
    let tally = place.world.tally(first_attempt(id));
    assert_eq!((tally.agents, tally.starts), (1, 1));
    assert!(place.world.littered().is_empty());
}
