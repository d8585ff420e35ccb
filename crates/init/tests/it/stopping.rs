//! Who gets SIGTERM when: a program before its workers, whoever reads a pipe after who writes it, a trap after what it waits for.
use vessl_core::record::InitAsk;

use crate::rig::{Rig, order};

/// A training program with three workers that need to live while it saves. It says how often it was told.
const TRAIN: &str = r#"
import multiprocessing, signal, sys
fork = multiprocessing.get_context("fork")
def work(pipe):
    while True:
        pipe.send(pipe.recv())
pipes = [fork.Pipe() for _ in range(3)]
for _, theirs in pipes:
    fork.Process(target=work, args=(theirs,), daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("ready", flush=True)
signal.sigwait([signal.SIGTERM])
for ours, _ in pipes:
    ours.send(1)
    if not (ours.poll(20) and ours.recv() == 1):
        sys.exit("a worker is gone")
print("x" * 40000)
again = signal.sigtimedwait([signal.SIGTERM], 0.3)
print("saved" if again is None else "told twice", flush=True)
"#;

/// A launcher that passes the signal on to the one program that it starts.
const LAUNCH: &str = r#"
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "/tmp/train.py"])
signal.signal(signal.SIGTERM, lambda *_: child.terminate())
while child.poll() is None:
    try:
        child.wait(0.01)
    except subprocess.TimeoutExpired:
        pass
print("launcher done", flush=True)
"#;

/// What a script prints from its stop on, without the filling, and its exit code.
fn stopped(script: &str) -> (i32, String) {
    let files = format!("cat >/tmp/train.py <<'EOF'{TRAIN}EOF\ncat >/tmp/launch.py <<'EOF'{LAUNCH}EOF\n");
    let mut rig = Rig::start(&order(&format!("{files}{script}\n")));
    rig.read_until("ready\n");
    rig.ask(&InitAsk::Stop);
    let code = rig.exit_code();
    (code, rig.finish().replace('x', "").trim().to_owned())
}

#[test]
fn programs_save_before_their_workers_end() {
    let check = |script: &str, code: i32, expected: &str| {
        assert_eq!(stopped(script), (code, expected.to_owned()), "{script}");
    };
    let python = "/usr/bin/python3 /tmp/train.py";
    check(python, 143, "saved");
    check(&format!("exec {python}"), 0, "saved");
    // A script of its own, a subshell, a launcher.
    check(&format!("echo '{python}; true' >/tmp/run.sh; bash /tmp/run.sh"), 143, "saved");
    check(&format!("(cd /tmp; {python}; echo not this)\necho nor this"), 143, "saved");
    check("/usr/bin/python3 /tmp/launch.py", 143, "saved\nlauncher done");
    // Pipelines: who reads writes down the last words.
    check(&format!("{python} | tee /tmp/log"), 143, "saved");
    check(&format!("{python} 2>&1 | grep --line-buffered '' | tee /tmp/log"), 143, "saved");
    check(&format!("exec > >(tee /tmp/log) 2>&1\n{python}"), 143, "saved");
    check(&format!("echo '{python} | tee /tmp/log; true' >/tmp/run.sh; bash /tmp/run.sh"), 143, "saved");
    // Traps: after the command that the shell waits for, or at once.
    check(&format!("trap 'echo trapped; exit 3' TERM\n{python}"), 3, "saved\ntrapped");
    check(&format!("trap 'wait $!; exit 4' TERM\n{python} | tee /tmp/log & wait $!"), 4, "saved");
}

#[test]
fn what_a_trap_starts_is_left_alone() {
    let slow = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.05; done; echo kept";
    let script = format!("trap 'sh -c \"{slow}\"; exit 5' TERM; echo ready; while :; do sleep 0.01; done");
    assert_eq!(stopped(&script), (5, "kept".to_owned()));
}

#[test]
fn who_reads_what_nobody_stopped_writes_is_told() {
    // `yes` ends at once, and what reads it with the end of its input.
    let (code, text) = stopped("yes | sh -c 'echo ready; while read -r line; do :; done; echo the end'");
    assert_eq!((code, text.as_str()), (143, "the end"));
}

#[test]
fn the_rest_is_told_when_the_agent_says_so() {
    let script = r#"
trap '' TERM
sh -c 'sh -c "trap \"echo told; exit 0\" TERM; echo ready; while :; do sleep 0.01; done"; echo over'
"#;
    // A signal that is ignored stays ignored below; the innermost shell takes it back by a program that can.
    let script = script.replace("sh -c \"trap", "env --default-signal=TERM sh -c \"trap");
    let mut rig = Rig::start(&order(&script));
    rig.read_until("ready\n");
    rig.ask(&InitAsk::Stop);
    rig.ask(&InitAsk::StopRest);
    assert_eq!(rig.exit_code(), 0);
    assert_eq!(rig.finish(), "told\nover\n");
}
