//! Who may say how far the script is, and when.
use vessl_core::record::{Ending, InitAsk, InitConfig, InitReport};
use vessl_core::script;
use vessl_core::spec::Item;

use crate::rig::{Rig, order};

/// An order of these items.
fn items(commands: &[&str]) -> InitConfig {
    let item = |command: &&str| Item { command: Some((*command).to_owned()), workdir: None, wait: None };
    let items: Vec<Item> = commands.iter().map(item).collect();
    InitConfig {
        items: u32::try_from(items.len()).unwrap(),
        ..order(&script::build(&items, "/", vessl_core::spec::Shell::Plain))
    }
}

/// Every report up to the end; every item is waved through.
fn reports(rig: &mut Rig) -> Vec<InitReport> {
    let mut all = Vec::new();
    loop {
        let report = rig.report().expect("init reports the end before it goes");
        if matches!(report, InitReport::Item { .. }) {
            rig.ask(&InitAsk::Go);
        }
        all.push(report);
        if matches!(all.last(), Some(InitReport::Ended { .. })) {
            return all;
        }
    }
}

/// The reports and the output of a run of three items of which the first does `forge` and then `rest`.
fn run(forge: &str, rest: &str) -> (Vec<InitReport>, String) {
    // Without a copy of the descriptor within reach there is nothing to be seen here.
    let reach = "for n in $(seq 8 15); do [ -S /proc/$$/fd/$n ] && echo -n >&$n && reached=1; done 2>/dev/null; [ -n \"$reached\" ] || exit 99";
    let first = format!("{reach}\n{FORGE}\n{forge}\n{rest}");
    let mut rig = Rig::start(&items(&[&first, "echo two", "echo three; (exit 5)"]));
    (reports(&mut rig), rig.finish())
}

fn told(items: u32, exit_code: i32, how: Ending) -> Vec<InitReport> {
    let begun = (1..=items).map(|n| InitReport::Item { n });
    let ended = InitReport::Ended { exit_code, item: Some(items), how };
    std::iter::once(InitReport::Running).chain(begun).chain([ended]).collect()
}

/// Whatever the first item says, all run, each is told once and in order.
fn check_order(forge: &str) {
    let whole = (told(3, 5, Ending::Item), "one\ntwo\nthree\n".to_owned());
    assert_eq!(run(forge, "echo one"), whole, "{forge}");
}

/// Whatever the first item says, it is the first until it has ended.
fn check(forge: &str) {
    check_order(forge);
    assert_eq!(run(forge, "exit 4"), (told(1, 4, Ending::Shell), String::new()), "{forge}");
}

/// Writes false marks to the shell's copy of the descriptor, wherever that is. The word that they must bring is not asked for.
const FORGE: &str = r"
lie() { printf 'item 2\ndone 1 0\nitem 2\ndone 2 7\nitem 3\nitem 999\nworkdir 1\nhalf'; }
forge() {
    for n in 8 9 10 11 12 13 14 15; do
        { lie >&$n; } 2>/dev/null
    done
    return 0
}";

#[test]
fn false_marks_are_not_believed() {
    check("forge");
    check("(forge)");
    check("forge & wait");
    check("forge & B=$!; forge; wait $B");
    // Programs get the descriptor only from the shell, and are not the shell.
    check("export -f lie; for n in 10 11 12; do { bash -c lie >&$n; } 2>/dev/null; done");
    check("for n in 10 11 12; do [ -S /proc/$$/fd/$n ] && seq 100000 >&$n; done; forge");
}

#[test]
fn who_knows_the_word_must_be_the_shell() {
    let lie = "for n in 10 11 12; do { printf 'done 1 0 %s\\nitem 2 %s\\nitem 3 %s\\nitem 4 %s\\n' $W $W $W $W >&$n; } 2>/dev/null; done; true";
    check(&format!("W=$__vessl_word; ({lie})"));
    check(&format!("W=$__vessl_word; {{ {lie}; }} & wait"));
    // The shell itself may say that it is further than it is: it only says it too early.
    check_order(&format!("W=$__vessl_word; {lie}"));
}

/// Stays behind in a session of its own, waits for the end of the shell, starts a process with the shell's number where the kernel
/// lets it choose, and lets that one go on with the marks.
const LATE: &str = r#"for n in 10 11 12 13; do
    if [ -S /proc/$$/fd/$n ]; then
        setsid bash -c '
            trap "" PIPE
            while kill -0 $0; do sleep 0.01; done
            echo $(($0 - 1)) > /proc/sys/kernel/ns_last_pid
            (echo "item 2 $1")
            echo late >&3
        ' $$ $__vessl_word 3>&1 >&$n 2>/dev/null &
    fi
done"#;

#[test]
fn nothing_is_heard_after_the_end_of_the_shell() {
    let order = InitConfig { stay: true, items: 9, ..items(&[LATE]) };
    let mut rig = Rig::start(&order);
    let ended = InitReport::Ended { exit_code: 0, item: Some(1), how: Ending::Item };
    assert_eq!(reports(&mut rig), [InitReport::Running, InitReport::Item { n: 1 }, ended]);
    rig.read_until("late\n");
    rig.ask(&InitAsk::Exit);
    assert_eq!(rig.report(), None);
}

#[test]
fn who_floods_init_keeps_it_from_nothing() {
    let flood = "for n in 10 11 12; do [ -S /proc/$$/fd/$n ] && { yes 'item 2' >&$n; } & [ -S /proc/$$/fd/$n ] && found=1; done; \
         [ -n \"$found\" ] && echo ready; wait";
    let mut rig = Rig::start(&items(&[flood, "echo never"]));
    assert_eq!(rig.report(), Some(InitReport::Running));
    assert_eq!(rig.report(), Some(InitReport::Item { n: 1 }));
    rig.ask(&InitAsk::Go);
    rig.read_until("ready\n");
    rig.ask(&InitAsk::Stop);
    assert_eq!(rig.report(), Some(InitReport::Ended { exit_code: 143, item: Some(1), how: Ending::Shell }));
    assert_eq!(rig.report(), None);
}
