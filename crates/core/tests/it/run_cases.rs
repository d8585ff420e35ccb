//! One turn at a time: what people read and what is done, case by case.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use jiff::{SignedDuration, Timestamp};
use vessl_core::ids::{Nonce, RunId};
use vessl_core::record::{ExitRecord, Phase, RECORD_VERSION};
use vessl_core::run::{
    Action, Admission, Answer, Applied, Ask, EndReason, Inputs, Left, Observation, Placement, Retries, Run,
    State, Status, Terminate, Turn, Verdict, Wait, decide, request,
};

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_750_000_000).unwrap() + SignedDuration::from_secs(seconds)
}

pub(crate) fn placement() -> Placement {
    Placement { cluster: "here".into(), node: "n1".into(), gpus: vec![0] }
}

pub(crate) fn run_in(state: State) -> Run {
    Run { state, ..Run::new(RunId(7), Nonce(9)) }
}

pub(crate) fn pending() -> State {
    State::Pending { placement: placement() }
}

pub(crate) fn active(phase: Phase) -> State {
    State::Active { placement: placement(), phase, started_at: (phase >= Phase::Running).then(|| at(1)) }
}

pub(crate) fn ended(status: Status, removed: bool) -> State {
    let verdict = Verdict {
        status,
        reason_code: EndReason::CommandFailed,
        reason: "because".to_owned(),
        exit_code: Some(1),
        cleanup: None,
    };
    State::Ended {
        verdict,
        placement: Some(placement()),
        started_at: Some(at(1)),
        ended_at: at(2),
        freed: removed,
        removed,
    }
}

pub(crate) fn retrying(freed: bool) -> State {
    let State::Ended { verdict, placement, started_at, ended_at, .. } = ended(Status::Failed, false) else {
        panic!("not ended")
    };
    State::Retrying { verdict, placement, started_at, ended_at, freed }
}

pub(crate) fn asked(grace_s: u64, export: bool) -> Terminate {
    Terminate { at: at(3), grace_s, export }
}

pub(crate) fn record(status: Status) -> Box<ExitRecord> {
    Box::new(ExitRecord {
        v: RECORD_VERSION,
        run: RunId(7),
        attempt: 1,
        nonce: Nonce(9),
        status,
        reason_code: EndReason::CommandFailed,
        reason: "recorded".to_owned(),
        exit_code: Some(4),
        oom: false,
        started_at: Some(at(1)),
        ended_at: at(5),
        imports: Vec::new(),
        exports: Vec::new(),
        usage: None,
        cleanup: None,
    })
}

pub(crate) fn seen(observed: Observation) -> Inputs {
    Inputs { observed, admission: None, applied: Applied::default(), nonce: Nonce(77) }
}

pub(crate) fn dead(left: Left) -> Observation {
    Observation::Dead {
        proof: "the machine was started anew".to_owned(),
        started_at: None,
        exit_code: None,
        exporting: false,
        left,
    }
}

pub(crate) fn unreachable() -> Observation {
    Observation::Unreachable { why: "no route".to_owned() }
}

fn alive(phase: Phase) -> Observation {
    Observation::Alive { phase: Some(phase), started_at: None }
}

/// A turn in one line: status, `+removed`, actions, then why.
fn line(turn: &Turn) -> String {
    let removed = if turn.run.is_settled() { "+removed" } else { "" };
    let actions: Vec<_> = turn
        .actions
        .iter()
        .map(|action| match action {
            Action::Start(placement) => format!("start {}", placement.node),
            Action::Stop(asked) => format!("stop {} {}", asked.grace_s, asked.export),
            Action::Export => "export".to_owned(),
            Action::Remove => "remove".to_owned(),
        })
        .collect();
    format!("{}{removed} [{}] {}", turn.run.status().word(), actions.join(", "), turn.why)
}

fn check(state: State, seen: &Inputs, expected: &str) {
    assert_eq!(line(&decide(&run_in(state), seen, at(10))), expected);
}

fn check_asked(state: State, seen: &Inputs, expected: &str) {
    let mut run = run_in(state);
    run.asked.terminate = Some(asked(30, true));
    assert_eq!(line(&decide(&run, seen, at(10))), expected);
}

/// A run in `state` with one retry of two used.
fn check_retry(state: State, seen: &Inputs, expected: &str) {
    let run = Run { attempt: 1, retries: Retries { allowed: 2, used: 1 }, ..run_in(state) };
    assert_eq!(line(&decide(&run, seen, at(10))), expected);
}

#[test]
fn a_failed_attempt_is_followed_by_another() {
    let exited = |status, code, left| {
        let record = Box::new(ExitRecord { reason_code: code, ..*record(status) });
        seen(Observation::Exited { record, left })
    };
    let running = || active(Phase::Running);
    let follows = "attempt 1 failed: recorded; attempt 2 follows (retry 2 of 2)";
    let failed = |code, left| exited(Status::Failed, code, left);
    for code in EndReason::ALL.iter().copied() {
        let again = [
            EndReason::CommandFailed,
            EndReason::OutOfMemory,
            EndReason::ScratchLimit,
            EndReason::Killed,
            EndReason::ImageFailed,
            EndReason::ImportFailed,
            EndReason::Lost,
        ];
        let expected = if again.contains(&code) {
            format!("queued [] {follows}")
        } else {
            "failed+removed [] recorded".to_owned()
        };
        check_retry(running(), &failed(code, Left::Nothing), &expected);
    }
    let command_failed = |left| failed(EndReason::CommandFailed, left);
    check_retry(running(), &command_failed(Left::Scratch), &format!("queued [remove] {follows}"));
    let lost =
        "attempt 1 failed: the run was lost: the machine was started anew; attempt 2 follows (retry 2 of 2)";
    check_retry(running(), &seen(dead(Left::Scratch)), &format!("queued [remove] {lost}"));
    check_retry(
        running(),
        &exited(Status::Completed, EndReason::Completed, Left::Nothing),
        "completed+removed [] recorded",
    );
    check(running(), &command_failed(Left::Nothing), "failed+removed [] recorded");
    check_asked(running(), &command_failed(Left::Nothing), "failed+removed [] recorded");

    // between the attempts
    let said = "attempt 1 failed: because; attempt 2 follows (retry 2 of 2)";
    check_retry(retrying(true), &command_failed(Left::Scratch), &format!("queued [remove] {said}"));
    check_retry(retrying(true), &seen(unreachable()), &format!("queued [] {said}"));
    check_retry(
        retrying(true),
        &command_failed(Left::Nothing),
        &format!("queued [] waits for its turn; {said}"),
    );
    let State::Retrying { mut verdict, placement, started_at, .. } = retrying(true) else {
        panic!("not retrying")
    };
    verdict.reason_code = EndReason::ImportFailed;
    let waiting = |ended_at| State::Retrying {
        verdict: verdict.clone(),
        placement: placement.clone(),
        started_at,
        ended_at,
        freed: true,
    };
    let gone = command_failed(Left::Nothing);
    check_retry(waiting(at(10 - 19)), &gone, &format!("queued [] {said}"));
    check_retry(waiting(at(10 - 20)), &gone, &format!("queued [] waits for its turn; {said}"));
    check_asked(
        retrying(true),
        &command_failed(Left::Nothing),
        "terminated+removed [] terminated before its next attempt",
    );
}

#[test]
fn a_run_that_has_ended_is_started_again_by_a_person() {
    let ask = Ask::Restart { nonce: Nonce(5) };
    let used = Retries { allowed: 2, used: 2 };
    for status in [Status::Completed, Status::Failed, Status::Terminated] {
        let mut run = Run { retries: used, ..run_in(ended(status, true)) };
        run.asked.terminate = Some(asked(30, true));
        let Answer::Accepted(again) = request(&run, ask, at(10)) else { panic!("{status:?}") };
        let expected = Run {
            attempt: 2,
            nonce: Nonce(5),
            retries: Retries { used: 0, ..used },
            ..run_in(State::Queued)
        };
        assert_eq!(*again, expected);
    }
    let denied = |state, expected: &str| {
        let Answer::Denied(why) = request(&run_in(state), ask, at(10)) else { panic!("{expected}") };
        assert!(why.contains(expected), "{why}");
    };
    denied(ended(Status::Failed, false), "run 7 has ended and is still being cleaned up on `n1`");
    denied(retrying(true), "the next attempt of run 7 follows without being asked for");
    denied(active(Phase::Running), "run 7 is running, and only a run that has ended can be started again");
}

#[test]
fn a_queued_run_follows_the_queue() {
    let with = |admission| Inputs { admission: Some(admission), ..seen(Observation::Nothing) };
    check(State::Queued, &seen(Observation::Nothing), "queued [] waits for its turn in the queue");
    let wait = Wait { why: "waits for 4 cores".to_owned(), next: vec!["the end of run 3".to_owned()] };
    check(State::Queued, &with(Admission::Waiting(wait.clone())), "queued [] waits for 4 cores");
    assert_eq!(
        decide(&run_in(State::Queued), &with(Admission::Waiting(wait.clone())), at(10)).next,
        wait.next
    );
    check(
        State::Queued,
        &with(Admission::Granted(placement())),
        "pending [start n1] placed on `n1`, being started",
    );
    let never = "failed+removed [] can never be placed: no node has 9 cores";
    check(State::Queued, &with(Admission::Impossible("no node has 9 cores".to_owned())), never);
    let away = Inputs { admission: Some(Admission::Granted(placement())), ..seen(unreachable()) };
    check(State::Queued, &away, "queued [] waits: the cluster cannot be reached: no route");
}

#[test]
fn a_terminate_before_the_start_starts_nothing() {
    let free = Inputs { admission: Some(Admission::Granted(placement())), ..seen(Observation::Nothing) };
    check_asked(State::Queued, &free, "terminated+removed [] terminated before it was placed");
    check_asked(State::Queued, &seen(unreachable()), "terminated+removed [] terminated before it was placed");
    check_asked(
        pending(),
        &seen(Observation::Nothing),
        "terminated [remove] terminated before it was started",
    );
    let refused = Observation::Refused { why: "no space".to_owned() };
    check_asked(pending(), &seen(refused), "terminated [remove] terminated before it was started");
}

#[test]
fn a_start_is_repeated_but_not_for_ever() {
    check(pending(), &seen(Observation::Nothing), "pending [start n1] placed on `n1`, being started");
    let mut seen = seen(Observation::Nothing);
    seen.applied.note(&Action::Start(placement()), at(5));
    let why = "started on `n1`, but the agent left no trace; it is started again";
    check(pending(), &seen, &format!("pending [] {why}"));
    seen.applied.note(&Action::Start(placement()), at(0));
    check(pending(), &seen, &format!("pending [start n1] {why}"));
    seen.applied.note(&Action::Start(placement()), at(10));
    let given_up = "failed [remove] the agent ended 3 times on `n1` before it took the run; `agent.log` in the run directory may say why";
    check(pending(), &seen, given_up);
}

#[test]
fn a_living_agent_is_followed() {
    let silent = seen(Observation::Alive { phase: None, started_at: None });
    check(pending(), &silent, "pending [] started on `n1`, the agent has not said anything yet");
    check(pending(), &seen(alive(Phase::Pulling)), "initializing [] fetching the image");
    check(active(Phase::Pulling), &seen(alive(Phase::Running)), "running [] the commands run");
    check(active(Phase::Running), &silent, "running [] the commands run");
    check(active(Phase::Running), &seen(alive(Phase::Exporting)), "stopping [] writing the exports");
    let idle = "idle [] the commands ended; the container is kept until the run is terminated";
    check(active(Phase::Running), &seen(alive(Phase::Idle)), idle);
}

#[test]
fn the_start_of_the_commands_is_kept() {
    let turn = decide(&run_in(active(Phase::Running)), &seen(alive(Phase::Exporting)), at(10));
    assert_eq!(turn.run.started_at(), Some(at(1)));
    let turn = decide(&turn.run, &seen(dead(Left::Scratch)), at(11));
    assert_eq!((turn.run.started_at(), turn.run.ended_at()), (Some(at(1)), Some(at(11))));
}

#[test]
fn a_terminate_is_passed_on_until_it_is_heard() {
    check_asked(
        active(Phase::Running),
        &seen(alive(Phase::Running)),
        "stopping [stop 30 true] asked to end; now: the commands run",
    );
    let silent = seen(Observation::Alive { phase: None, started_at: None });
    check_asked(
        pending(),
        &silent,
        "pending [stop 30 true] started on `n1`, the agent has not said anything yet",
    );
    let words = "being terminated: the commands are told to end";
    let again = format!("stopping [stop 30 true] {words}");
    check_asked(active(Phase::Running), &seen(alive(Phase::Terminating)), &again);
    let mut heard = seen(alive(Phase::Terminating));
    heard.applied.note(&Action::Stop(asked(30, true)), at(-500));
    check_asked(active(Phase::Running), &heard, &format!("stopping [] {words}"));
    heard.applied = Applied::default();
    heard.applied.note(&Action::Stop(asked(60, true)), at(-500));
    check_asked(active(Phase::Running), &heard, &again);
    let mut lost = seen(alive(Phase::Running));
    lost.applied.note(&Action::Stop(asked(30, true)), at(-5));
    check_asked(active(Phase::Running), &lost, "stopping [stop 30 true] asked to end; now: the commands run");
}

#[test]
fn the_record_decides() {
    for status in [Status::Completed, Status::Failed, Status::Terminated] {
        let exited = |left| seen(Observation::Exited { record: record(status), left });
        let word = status.word();
        check(active(Phase::Running), &exited(Left::Nothing), &format!("{word}+removed [] recorded"));
        check(active(Phase::Running), &exited(Left::Scratch), &format!("{word} [remove] recorded"));
        check(active(Phase::Running), &exited(Left::Agent), &format!("{word} [] recorded"));
        check(pending(), &exited(Left::Nothing), &format!("{word}+removed [] recorded"));
        check_asked(active(Phase::Running), &exited(Left::Nothing), &format!("{word}+removed [] recorded"));
    }
    let turn = decide(
        &run_in(pending()),
        &seen(Observation::Exited { record: record(Status::Failed), left: Left::Nothing }),
        at(10),
    );
    let State::Ended { verdict, started_at, ended_at, .. } = turn.run.state else { panic!("not ended") };
    assert_eq!((verdict.exit_code, started_at, ended_at), (Some(4), Some(at(1)), at(5)));
}

#[test]
fn a_record_that_cannot_be_ours_decides_nothing() {
    let mut other = record(Status::Completed);
    other.run = RunId(8);
    let words =
        "the exit record found is of run 8 attempt 1 (0000000000000009), not of this one; it is left alone";
    check(
        active(Phase::Running),
        &seen(Observation::Exited { record: other, left: Left::Nothing }),
        &format!("running [] {words}"),
    );
    let mut odd = record(Status::Running);
    odd.reason = "x".to_owned();
    let turn =
        decide(&run_in(pending()), &seen(Observation::Exited { record: odd, left: Left::Nothing }), at(10));
    assert_eq!(turn.run.status(), Status::Failed);
    assert_eq!(turn.run.reason(), "the exit record says `running`, which is not an end: x");
}

#[test]
fn death_needs_proof() {
    let lost = "the run was lost: the machine was started anew";
    check(active(Phase::Running), &seen(dead(Left::Scratch)), &format!("failed [remove] {lost}"));
    check(active(Phase::Running), &seen(dead(Left::Nothing)), &format!("failed+removed [] {lost}"));
    let ended = Observation::Dead {
        proof: "p".to_owned(),
        started_at: None,
        exit_code: Some(3),
        exporting: false,
        left: Left::Nothing,
    };
    let turn = decide(&run_in(active(Phase::Exporting)), &seen(ended), at(0));
    let State::Ended { verdict, .. } = turn.run.state else { panic!("{turn:?}") };
    assert_eq!(verdict.exit_code, Some(3));
    assert_eq!(verdict.reason, "the run was lost after its commands had ended with exit status 3: p");
    check(active(Phase::Running), &seen(unreachable()), "running [] no contact: no route");
    let gone = "failed [remove] the record of attempt 1 is gone from `n1`: nothing shows that it runs or how it ended";
    check(active(Phase::Running), &seen(Observation::Nothing), gone);
    let again = Observation::Refused { why: "busy".to_owned() };
    check(
        active(Phase::Running),
        &seen(again),
        "running [] the commands run; a second start was refused: busy",
    );
    let asked =
        "failed [remove] the run was lost while it was being terminated: the machine was started anew";
    check_asked(active(Phase::Running), &seen(dead(Left::Scratch)), asked);
}

#[test]
fn no_contact_is_shown_and_ends_with_contact() {
    let turn = decide(&run_in(active(Phase::Running)), &seen(unreachable()), at(10));
    assert_eq!(turn.run.no_contact_since, Some(at(10)));
    let turn = decide(&turn.run, &seen(unreachable()), at(20));
    assert_eq!(turn.run.no_contact_since, Some(at(10)), "it keeps the first time");
    assert_eq!(turn.run.status(), Status::Running);
    assert_eq!(turn.run.reason(), "no contact since 2025-06-15T15:06:50Z; before: the commands run");
    let turn = decide(&turn.run, &seen(alive(Phase::Running)), at(30));
    assert_eq!(turn.run.no_contact_since, None);
}

#[test]
fn a_refused_start_fails() {
    let refused = Observation::Refused { why: "no space left".to_owned() };
    check(pending(), &seen(refused), "failed [remove] could not be started on `n1`: no space left");
}

#[test]
fn what_was_started_is_removed() {
    let over = || ended(Status::Failed, false);
    let exited = |left| seen(Observation::Exited { record: record(Status::Failed), left });
    check(over(), &exited(Left::Scratch), "failed [remove] because");
    check(over(), &exited(Left::Nothing), "failed+removed [] because");
    check(over(), &exited(Left::Agent), "failed [] because");
    assert_eq!(
        line(&decide(&run_in(over()), &exited(Left::Agent), at(62))),
        "failed [remove] because",
        "it hangs"
    );
    check(over(), &seen(alive(Phase::Running)), "failed [remove] because");
    check(over(), &seen(dead(Left::Agent)), "failed [remove] because");
    check(over(), &seen(unreachable()), "failed [] because");
    check(over(), &seen(Observation::Nothing), "failed [remove] because");
    let mut seen = seen(Observation::Nothing);
    seen.applied.note(&Action::Remove, at(0));
    check(over(), &seen, "failed+removed [] because");
}

fn answer(run: &Run, ask: Ask) -> String {
    match request(run, ask, at(20)) {
        Answer::Accepted(run) => {
            format!("accepted {:?}", run.asked.terminate.map(|asked| (asked.grace_s, asked.export)))
        }
        Answer::AlreadySo(why) => format!("already: {why}"),
        Answer::Denied(why) => format!("denied: {why}"),
    }
}

#[test]
fn terminate_is_answered() {
    let ask = |grace_s, export| Ask::Terminate { grace_s, export };
    for state in [State::Queued, pending(), active(Phase::Running), active(Phase::Exporting)] {
        assert_eq!(answer(&run_in(state.clone()), ask(None, true)), "accepted Some((30, true))");
        let mut run = run_in(state);
        run.asked.terminate = Some(asked(30, true));
        let already = "already: run 7 is already being terminated";
        assert_eq!(answer(&run, ask(None, true)), already);
        assert_eq!(answer(&run, ask(Some(90), true)), already, "a longer grace takes nothing back");
        assert_eq!(answer(&run, ask(Some(5), true)), "accepted Some((5, true))");
        assert_eq!(answer(&run, ask(Some(90), false)), "accepted Some((30, false))");
    }
    let over = run_in(ended(Status::Completed, true));
    assert_eq!(answer(&over, ask(None, true)), "already: run 7 is already completed");
    let long = "denied: a grace of 86401 s is too long: at most 86400 s";
    assert_eq!(answer(&run_in(State::Queued), ask(Some(86_401), true)), long);
}

#[test]
fn only_what_is_over_and_removed_is_deleted() {
    assert_eq!(answer(&run_in(ended(Status::Failed, true)), Ask::Delete), "accepted None");
    let cleaning =
        "denied: run 7 has ended and is still being cleaned up on `n1`; try again when that is done";
    assert_eq!(answer(&run_in(ended(Status::Failed, false)), Ask::Delete), cleaning);
    for (state, word) in
        [(State::Queued, "queued"), (pending(), "pending"), (active(Phase::Running), "running")]
    {
        let denied = format!("denied: run 7 is {word}; terminate it first: `vessl run terminate 7`");
        assert_eq!(answer(&run_in(state.clone()), Ask::Delete), denied);
        let mut run = run_in(state);
        run.asked.terminate = Some(asked(30, true));
        let denied = "denied: run 7 is being terminated and has not ended yet; try again when it has: \
                      `vessl run read 7` shows it";
        assert_eq!(answer(&run, Ask::Delete), denied);
    }
}

#[test]
fn a_seat_is_held_until_the_container_has_ended() {
    let check = |state: State, held: bool| {
        assert_eq!(run_in(state.clone()).allocation().is_some(), held, "{state:?}");
    };
    check(State::Queued, false);
    check(pending(), true);
    check(active(Phase::Terminating), true);
    check(active(Phase::Exporting), false);
    check(ended(Status::Failed, false), true);
    check(ended(Status::Failed, true), false);
    // The record is written, and a death is proven, after the end of the container.
    let record = record(Status::Failed);
    for look in [Observation::Exited { record, left: Left::Scratch }, dead(Left::Scratch)] {
        let turn = decide(&run_in(active(Phase::Running)), &seen(look), at(9));
        assert_eq!(turn.run.allocation(), None, "{turn:?}");
    }
    // Nothing says that it has ended.
    let turn = decide(&run_in(active(Phase::Running)), &seen(Observation::Nothing), at(9));
    assert!(turn.run.allocation().is_some(), "{turn:?}");
}

#[test]
fn the_record_of_another_attempt_is_not_believed() {
    for change in [
        (|record: &mut ExitRecord| record.nonce = Nonce(8)) as fn(&mut ExitRecord),
        |record| record.nonce = Nonce::default(),
        |record| record.attempt = 2,
        |record| record.run = RunId(8),
    ] {
        let mut other = record(Status::Completed);
        change(&mut other);
        for state in [State::Queued, pending(), active(Phase::Running)] {
            let run = run_in(state);
            let look = Observation::Exited { record: other.clone(), left: Left::Nothing };
            assert_eq!(decide(&run, &seen(look), at(9)).run, run);
        }
    }
}

#[test]
fn the_stored_form_does_not_change() {
    let mut run = run_in(active(Phase::Running));
    run.asked.terminate = Some(asked(30, false));
    let text = serde_json::to_string(&run).unwrap();
    let expected = r#"{"id":7,"attempt":1,"nonce":"0000000000000009","state":{"status":"active","place":{"cluster":"here","node":"n1","gpus":[0]},"phase":"running","started_at":"2025-06-15T15:06:41Z"},"asked":{"terminate":{"at":"2025-06-15T15:06:43Z","grace_s":30,"export":false}},"no_contact_since":null,"retries":{"allowed":0,"used":0}}"#;
    assert_eq!(text, expected);
    assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), run);
    // Before there were clusters.
    let earlier: Run = serde_json::from_str(&text.replace(r#""cluster":"here","#, "")).unwrap();
    assert_eq!(earlier.placement().unwrap().node, *"n1");
}

fn dead_over_exports(left: Left) -> Observation {
    let proof = "it is gone".to_owned();
    Observation::Dead { proof, started_at: Some(at(1)), exit_code: Some(0), exporting: true, left }
}

fn exporting(before: Option<i64>, tries: u32) -> State {
    let State::Ended { verdict, placement, started_at, .. } = ended(Status::Failed, false) else {
        panic!("not ended")
    };
    State::Exporting { verdict, placement, started_at, before: before.map(at), tries }
}

#[test]
fn exports_go_on_after_the_death_of_their_agent() {
    let died = "the agent died over the exports; another one goes on with them";
    let look = seen(dead_over_exports(Left::Scratch));
    check(active(Phase::Exporting), &look, &format!("stopping [] {died}"));
    check(exporting(None, 0), &look, &format!("stopping [export] {died}"));
    // Not for ever, and only where its files are.
    check(exporting(None, 3), &look, "failed [remove] because");
    let lost = "failed [] the run was lost after its commands had ended with exit status 0: it is gone";
    let gone = seen(dead_over_exports(Left::Nothing));
    check(active(Phase::Exporting), &gone, &lost.replace("failed", "failed+removed"));
    check(exporting(None, 1), &seen(alive(Phase::Exporting)), &format!("stopping [] {died}"));
    let exited = Observation::Exited { record: record(Status::Completed), left: Left::Nothing };
    check(exporting(None, 1), &seen(exited), "completed+removed [] recorded");
    let mut no_export = run_in(exporting(None, 1));
    no_export.asked.terminate = Some(asked(0, false));
    assert_eq!(line(&decide(&no_export, &look, at(10))), "failed [remove] because");
    // Each try is counted, and the next one waits for what became of it.
    let first = decide(&run_in(exporting(None, 0)), &look, at(10)).run;
    let mut soon = look.clone();
    soon.applied.note(&Action::Export, at(9));
    let again = decide(&first, &soon, at(10));
    assert_eq!((again.actions.len(), &again.run), (0, &first));
}

#[test]
fn exports_that_failed_are_written_again_when_asked() {
    let ask = |state, failed, kept| request(&run_in(state), Ask::Export { failed, kept }, at(10));
    let Answer::Accepted(run) = ask(ended(Status::Failed, true), 1, true) else { panic!("not accepted") };
    assert_eq!(run.state, exporting(Some(2), 0));
    assert!(run.allocation().is_none() && run.verdict().is_none() && !run.is_settled());
    assert!(matches!(ask(exporting(Some(2), 1), 1, true), Answer::AlreadySo(_)));
    for (state, failed, kept, words) in [
        (ended(Status::Completed, true), 0, false, "no export of run 7 failed"),
        (ended(Status::Failed, true), 1, false, "`vessl run restart 7`"),
        (ended(Status::Failed, false), 1, true, "still being cleaned up"),
        (active(Phase::Running), 1, true, "has not ended"),
    ] {
        let Answer::Denied(why) = ask(state, failed, kept) else { panic!("{words}: not denied") };
        assert!(why.contains(words), "{why}");
    }
    // The record of before says nothing about this time.
    let mut old = record(Status::Failed);
    old.ended_at = at(2);
    let again = "writing the exports again that failed";
    for (left, expected) in [(Left::Nothing, "stopping [export] "), (Left::Agent, "stopping [] ")] {
        let look = seen(Observation::Exited { record: old.clone(), left });
        check(exporting(Some(2), 0), &look, &format!("{expected}{again}"));
    }
    let look = seen(Observation::Exited { record: old, left: Left::Scratch });
    check(exporting(Some(2), 3), &look, "failed [remove] because");
    let new = Observation::Exited { record: record(Status::Completed), left: Left::Agent };
    check(exporting(Some(2), 1), &seen(new), "completed [] recorded");
}
