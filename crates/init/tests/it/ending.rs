//! From the end of the script, or the wish for it, to the end of everything.
use vessl_core::record::{Ending, InitAsk, InitReport};

use crate::rig::{Rig, order, run};

fn check(script: &str, code: i32) {
    assert_eq!(run(&order(script)).0, code, "{script}");
}

#[test]
fn exit_codes_are_the_shells() {
    check("exit 7\n", 7);
    check("kill -9 $$\n", 137);
    // A signal without a name, and a child that one ends.
    check("kill -40 $$\n", 168);
    check("sh -c 'kill -40 $$' & wait $!; exit 3\n", 3);
    check("no-such-program 2>/dev/null\n", 127);
}

#[test]
fn marks_become_reports_and_wait_for_leave() {
    let mut rig = Rig::start(&order("echo 'item 1' >&7; read -r go <&7; echo went; exit 4\n"));
    assert_eq!(rig.report(), Some(InitReport::Running));
    assert_eq!(rig.report(), Some(InitReport::Item { n: 1 }));
    rig.ask(&InitAsk::Go);
    let ended = InitReport::Ended { exit_code: 4, item: Some(1), how: Ending::Shell };
    assert_eq!(rig.report(), Some(ended));
    assert_eq!(rig.finish(), "went\n");
}

#[test]
fn what_the_script_leaves_behind_ends_with_it() {
    // Both hold the output open; the end must not wait for them.
    check("sleep 1000 & setsid sleep 1000 & exit 5\n", 5);
}

#[test]
fn orphans_are_reaped() {
    let script = r"
for i in 1 2 3 4 5 6 7 8; do (sh -c 'exit 0' &); done
i=0
while [ $i -lt 500 ]; do
    i=$((i + 1))
    grep -qs '^State:.Z' /proc/[0-9]*/status || exit 0
    sleep 0.02
done
exit 1
";
    check(script, 0);
}

#[test]
fn a_stop_reaches_everybody_and_waits_for_them() {
    // The shell dies of the signal at once; the program below `timeout`, which leaves the process group, takes its time, and so does
    // the one that leaves the session.
    let script = r#"
timeout 1000 sh -c 'trap "sleep 0.3; echo saved; exit 0" TERM; echo ready; while :; do sleep 0.01; done' &
setsid sh -c 'trap "sleep 0.6; echo saved too; exit 0" TERM; echo ready; while :; do sleep 0.01; done' &
wait
"#;
    let mut rig = Rig::start(&order(script));
    rig.read_until("ready\n");
    rig.read_until("ready\n");
    rig.ask(&InitAsk::Stop);
    assert_eq!(rig.exit_code(), 143);
    let said = rig.finish();
    assert!(["saved\n", "saved too\n"].iter().all(|line| said.contains(line)), "{said}");
}

#[test]
fn a_signal_is_only_a_signal() {
    let mut rig =
        Rig::start(&order("trap 'echo got; exit 6' USR1; echo ready; while :; do sleep 0.01; done\n"));
    rig.read_until("ready\n");
    rig.ask(&InitAsk::Signal { signal: libc::SIGUSR1 });
    assert_eq!(rig.exit_code(), 6);
}

#[test]
fn the_container_goes_with_the_agent() {
    let mut rig = Rig::start(&order("trap '' TERM HUP; echo ready; sleep 1000\n"));
    rig.read_until("ready\n");
    rig.hang_up();
    rig.finish();
}

#[test]
fn a_session_outlives_its_script() {
    let mut order =
        order("sh -c 'trap \"echo bye; exit 0\" TERM; echo ready; while :; do sleep 0.01; done' & exit 3\n");
    order.stay = true;
    let mut rig = Rig::start(&order);
    assert_eq!(rig.exit_code(), 3);
    rig.read_until("ready\n");
    rig.ask(&InitAsk::Stop);
    assert_eq!(rig.report(), None);
    assert_eq!(rig.finish(), "bye\n");
}
