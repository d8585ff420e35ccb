//! From the order to the first instruction of the script.
use vessl_core::record::{InitAsk, InitConfig, InitReport};

use crate::rig::{Rig, order, run};

fn refused(order: &InitConfig) -> (String, i32) {
    match Rig::start(order).report() {
        Some(InitReport::Refused { why, exit_code }) => (why, exit_code),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_script_runs_in_a_shell_with_its_environment() {
    let mut order = order("echo \"$GREETING $0\"; pwd; echo $$ >/dev/null; umask\n");
    order.env.push("GREETING=it's me".to_owned());
    order.workdir = "/tmp".to_owned();
    assert_eq!(run(&order), (0, "it's me /.vessl/script\n/tmp\n0022\n".to_owned()));
}

#[test]
fn the_script_is_its_users_and_everybody_can_open_its_output() {
    let mut order = order("id -u; id -g; id -G; echo again >/dev/stdout\n");
    (order.uid, order.gid, order.groups) = (65534, 12, vec![12, 13]);
    assert_eq!(run(&order), (0, "65534\n12\n12 13\nagain\n".to_owned()));
    let script = "setpriv --reuid 65534 --clear-groups sh -c 'echo out >/dev/stdout; echo err 2>&1 >/dev/stderr' 2>&1\n";
    assert_eq!(run(&crate::rig::order(script)), (0, "out\nerr\n".to_owned()));
}

#[test]
fn no_signal_is_ignored_or_blocked() {
    let (code, text) = run(&order("grep -E 'SigIgn|SigBlk' /proc/self/status\n"));
    assert_eq!((code, text.lines().count()), (0, 2));
    for line in text.lines() {
        let bits = u64::from_str_radix(line.split_once('\t').unwrap().1, 16).unwrap();
        // From the 32nd on they are the C library's own and those without a name.
        assert_eq!(bits & 0x7fff_ffff, 0, "{line}");
    }
}

#[test]
fn nothing_but_the_three_standard_descriptors_and_the_marks_is_open() {
    // The `ls` holds 3 on the directory.
    let (code, text) = run(&order("exec ls /proc/self/fd\n"));
    assert_eq!((code, text.as_str()), (0, "0\n1\n2\n3\n7\n"));
}

#[test]
fn programs_of_the_image_run_without_a_shell() {
    let mut order = order("");
    order.script = None;
    order.argv = ["echo", "a  b", "$HOME"].map(str::to_owned).to_vec();
    assert_eq!(run(&order), (0, "a  b $HOME\n".to_owned()));
}

#[test]
fn what_cannot_be_started_is_told_in_words() {
    let mut missing = order("true\n");
    missing.workdir = "/nowhere/at/all".to_owned();
    let words = "cannot enter the working directory `/nowhere/at/all`: No such file or directory";
    assert_eq!(refused(&missing), (words.to_owned(), 126));

    let mut program = order("");
    program.script = None;
    program.argv = vec!["no-such-program".to_owned()];
    assert_eq!(refused(&program), ("no program `no-such-program` in the image".to_owned(), 127));

    program.argv = vec!["/etc/passwd".to_owned()];
    assert_eq!(refused(&program), ("cannot run `/etc/passwd`: Permission denied".to_owned(), 126));

    let mut nul = order("true\n");
    nul.env.push("A=b\0c".to_owned());
    assert!(refused(&nul).0.contains("NUL"), "{:?}", refused(&nul));
}

#[test]
fn a_session_without_commands_stays_until_it_is_told() {
    let mut order = order("");
    (order.script, order.stay) = (None, true);
    let mut rig = Rig::start(&order);
    assert_eq!(rig.report(), Some(InitReport::Running));
    rig.ask(&InitAsk::Stop);
    assert_eq!(rig.report(), None);
}
