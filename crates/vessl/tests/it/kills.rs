//! Kills at random moments: of the server, of the agent, of a container's first process, of the script's shell, and of the
//! server while a run is submitted. After each one state, exit code, log and exports are what they must be, and nothing is
//! left. `docs/reliability.md` has the table.
//!
//! `VESSL_KILLS` says how many each test makes (default 75), `VESSL_SEED` repeats the choices of an earlier run; both are
//! printed.
use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::specs::head;
use crate::test::{Test, processes};

/// Lines that the commands of each run print.
const LINES: usize = 40;
/// Longest time between a submit and the kill, in milliseconds: somewhat longer than a run takes.
const LONGEST: u64 = 700;

/// Whom a test kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Server,
    Submit,
    Agent,
    Init,
    Shell,
}

/// `SplitMix64`: enough for choices, and the same for the same seed everywhere.
struct Choices(u64);

impl Choices {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Lets time pass: a kill at a random moment waits for nothing else.
fn pause(millis: u64) {
    let (_open, closed) = channel::<()>();
    let _ = closed.recv_timeout(Duration::from_millis(millis));
}

/// A run that prints its lines in some time, leaves a file, and ends with `code`.
fn run_file(code: u64) -> String {
    format!(
        "{}export: {{/o: vessl-artifact://}}\nrun:\n  - echo data > /o/x\n  - |\n    i=0; while [ $i -lt {LINES} ]; do echo line-$i; i=$((i+1)); sleep 0.005; done\n    exit {code}\n",
        head("host://")
    )
}

/// The first event of the attempt's agent, if it is there.
fn started(test: &Test, id: &str) -> Option<Value> {
    let run = std::fs::read_dir(test.data().join("runs").join(id)).ok()?;
    let attempt = run.flatten().next()?.path();
    let events = std::fs::read_to_string(attempt.join("events")).ok()?;
    serde_json::from_str(events.lines().next()?).ok()
}

fn process_of(victim: Victim, test: &Test, id: &str) -> Option<Pid> {
    if matches!(victim, Victim::Server | Victim::Submit) {
        let lead: Value =
            serde_json::from_slice(&std::fs::read(test.data().join("server.json")).ok()?).ok()?;
        return Some(Pid::from_raw(i32::try_from(lead["pid"].as_i64()?).ok()?));
    }
    let started = started(test, id)?;
    let agent = i32::try_from(started["what"]["pid"].as_i64()?).ok()?;
    if victim == Victim::Agent {
        return Some(Pid::from_raw(agent));
    }
    let children = |of: i32| processes().into_iter().filter(move |process| parent(*process) == Some(of));
    let init = children(agent).next()?;
    let shell = || children(init).next();
    Some(Pid::from_raw(if victim == Victim::Init { init } else { shell()? }))
}

fn parent(process: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// How a run ended that was not harmed: a kill that came too late, or that no run may notice.
fn is_unharmed(run: &Value, code: u64) -> bool {
    let status = if code == 0 { "completed" } else { "failed" };
    let lost = run["reason"].as_str().is_some_and(|reason| reason.contains("was lost"));
    run["status"] == status && run["exit_code"] == code && !lost
}

/// Checks everything that must be so after a kill, and names the outcome.
fn check(victim: Victim, test: &Test, id: &str, code: u64) -> &'static str {
    let run = test.until_end(id);
    let log = test.vessl(["run", "logs", id]).ok().stdout;
    let system = test.vessl(["run", "logs", id, "--only", "system"]).ok().stdout;
    let printed = log.lines().filter(|line| line.starts_with("line-")).count();
    let expected: Vec<String> = (0..printed).map(|n| format!("line-{n}")).collect();
    assert_eq!(
        log.lines().collect::<Vec<_>>(),
        expected,
        "each line once, in order, from the first one on: {run}"
    );
    let files = test.vessl(["run", "files", id, "--output", "json"]).ok().json();
    let exported = files.as_array().is_some_and(|files| files.len() == 1);
    if exported {
        let here = test.path(&format!("files-{id}"));
        test.vessl(["run", "download", id, here.to_str().unwrap(), "--path", "/o"]).ok();
        let text = std::fs::read_to_string(here.join("x")).unwrap();
        // A shell that is killed between opening the file and writing to it leaves it empty.
        assert!(text == "data\n" || (text.is_empty() && printed == 0), "{text:?} {run}");
    }
    let said = |words: &str| system.lines().any(|line| line.starts_with(words));
    assert!(
        exported || !said("exported `/o`"),
        "what is said to be exported can be fetched: {run}\n{system}"
    );
    let unharmed = is_unharmed(&run, code);
    if unharmed {
        assert_eq!(printed, LINES, "no line is lost: {run}");
        assert!(exported, "{run}");
        assert!(said(if code == 0 { "completed: " } else { "failed: " }), "the last line is there: {system}");
        return "unharmed";
    }
    let reason = run["reason"].as_str().unwrap_or_default();
    assert_eq!(run["status"], "failed", "{run}");
    match victim {
        Victim::Server | Victim::Submit => panic!("a run is none of the server's life: {run}\n{log}{system}"),
        Victim::Agent => {
            assert!(reason.contains("was lost"), "{run}");
            let ends = ["completed: ", "failed: item", "failed: the command"];
            assert!(
                !ends.iter().any(|end| said(end)),
                "the log tells of no end that there was not: {system}"
            );
            assert!(run["exit_code"].is_null() || run["exit_code"] == code, "{run}");
            "lost"
        }
        Victim::Init if reason.starts_with("cannot start the container: ") => {
            assert!(run["exit_code"].is_null() && printed == 0, "{run}");
            "not started"
        }
        Victim::Init | Victim::Shell => {
            assert_eq!(run["exit_code"], 137, "{run}");
            assert!(printed == 0 || exported, "exports are written after a failure too: {run}");
            if victim == Victim::Init { "killed from outside" } else { "killed (137)" }
        }
    }
}

/// Submits a run; the server may be killed on the way.
fn submit(victim: Victim, test: &Test, yaml: &str, choices: &mut Choices) -> (String, bool) {
    let file = test.file("run.yaml", yaml);
    let live = test.start(["run", "create", "-f", file.to_str().unwrap(), "--output", "json"]);
    let mut hit = false;
    if victim == Victim::Submit {
        pause(choices.next(25));
        hit = process_of(victim, test, "").is_some_and(|pid| kill(pid, Signal::SIGKILL).is_ok());
    }
    (live.finish().ok().json()["id"].to_string(), hit)
}

fn kills(victim: Victim) {
    let count = setting("VESSL_KILLS").unwrap_or(75);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    let seed = setting("VESSL_SEED").unwrap_or(u64::from(now));
    eprintln!("VESSL_SEED={seed} VESSL_KILLS={count} {victim:?}");
    let mut choices = Choices(seed ^ victim as u64);
    let test = Test::new();
    test.vessl(["whoami"]).ok();
    let (mut hits, mut tally, mut submitted) = (0, BTreeMap::<&str, u32>::new(), 0);
    while hits < count {
        let code = choices.next(3);
        let (id, mut hit) = submit(victim, &test, &run_file(code), &mut choices);
        submitted += 1;
        if victim != Victim::Submit {
            pause(choices.next(LONGEST));
            let process = process_of(victim, &test, &id);
            hit = process.is_some_and(|process| kill(process, Signal::SIGKILL).is_ok());
        }
        hits += u64::from(hit);
        let outcome = check(victim, &test, &id, code);
        *tally.entry(outcome).or_default() += u32::from(hit);
        assert!(submitted < count * 10, "most kills hit somebody: {tally:?}");
    }
    let listed = test.vessl(["run", "list", "--limit", "1000", "--output", "json"]).ok().json();
    assert_eq!(listed.as_array().unwrap().len() as u64, submitted, "each submit is one run");
    eprintln!("{victim:?}: {hits} kills, {submitted} runs: {tally:?}");
    if matches!(victim, Victim::Agent | Victim::Init | Victim::Shell) && hits >= 20 {
        let unharmed = u64::from(tally.get("unharmed").copied().unwrap_or_default());
        assert!(unharmed * 2 < hits, "most kills harm the run that they hit: {tally:?}");
    }
    // That nothing is left on the machine is looked at when the world ends.
}

#[test]
fn of_the_server_change_nothing() {
    kills(Victim::Server);
}

#[test]
fn of_the_server_at_a_submit_make_one_run() {
    kills(Victim::Submit);
}

#[test]
fn of_an_agent_lose_the_run_and_nothing_else() {
    kills(Victim::Agent);
}

#[test]
fn of_a_containers_first_process_are_told() {
    kills(Victim::Init);
}

#[test]
fn of_the_shell_are_an_exit_code() {
    kills(Victim::Shell);
}

/// The table of attacks and kills names tests that there are.
#[test]
fn are_in_a_table_that_names_tests() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let table = std::fs::read_to_string(root.join("../docs/reliability.md")).unwrap();
    let names = table.split('`').filter_map(|code| {
        let (place, name) = code.split_once("::")?;
        let (of, module) = place.split_once(' ')?;
        Some((of, module, name))
    });
    let mut count = 0;
    for (of, module, name) in names {
        // Below `tests/it`, or beside the rules.
        let (beside, name) =
            name.rsplit_once("::").map_or((None, name), |(beside, name)| (Some(beside), name));
        let file = match beside {
            None => format!("tests/it/{module}.rs"),
            Some(beside) => format!("src/{module}/{}.rs", beside.replace("::", "/")),
        };
        let file = root.join(of).join(file);
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(name == "*" || text.contains(&format!("fn {name}(")), "`{of} {module}::{name}`");
        count += 1;
    }
    assert!(count > 20, "{count}");
}
