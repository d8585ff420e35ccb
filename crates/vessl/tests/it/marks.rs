//! Commands that say they are further than they are: what a run tells of its items is not theirs to say.
use serde_json::Value;

use crate::bad_days::save;
use crate::specs::head;
use crate::test::Test;

/// Writes what only the script may say, and a hundred thousand lines of nothing, to every descriptor that it finds: as a builtin of
/// the shell, in a subshell, in the background and as programs.
const FORGE: &str = r#"lie() { printf 'item 2\ndone 1 0\nitem 999\nitem 2\nworkdir 1\ndone 2 9\nitem 3\n'; }
junk() { lie; echo "$JUNK"; lie; }
found() {
    for path in /proc/self/fd/* /proc/$$/fd/*; do
        n=${path##*/}
        [ "$n" -ge 3 ] && echo "$n"
    done
}
forge() {
    for n in $(found); do { "$@" >&$n; } 2>/dev/null; done
    return 0
}
for n in $(found); do [ -S /proc/$$/fd/$n ] && socket=$n; done
[ -n "$socket" ] || exit 99
JUNK=$(seq 100000)
forge junk
(forge junk)
forge junk &
wait
forge seq 100000
forge printf 'item 2\n'
for path in /proc/self/fd/* /proc/$$/fd/*; do
    [ -S "$path" ] && lie | tee "$path" >/dev/null 2>&1
done
echo still the first"#;

fn items(image: &str, first: &str) -> String {
    let first = first.replace('\n', "\n      ");
    let rest = "  - command: echo the second\n  - command: echo the third; (exit 5)\n";
    format!("{}run:\n  - command: |\n      {first}\n{rest}", head(image))
}

/// A run whose first item forges tells what one tells that does not.
fn check(test: &Test, image: &str) {
    let run = test.wait(&items(image, FORGE)).code(5).json();
    assert_eq!(run["reason"], "item 3 of 3 ended with exit code 5", "{run}");
    let id = run["id"].to_string();
    let events = std::fs::read_to_string(test.attempt(&id).join("events")).unwrap();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_items: Vec<&Value> =
        events.iter().map(|event| &event["what"]).filter(|what| what["kind"] == "item").collect();
    let expected = [1, 2, 3].map(|n| serde_json::json!({"kind": "item", "n": n, "of": 3}));
    assert_eq!(of_items, expected.iter().collect::<Vec<_>>(), "{image}");
    // Copies of the output are descriptors too, so the log has all of it.
    let log = test.vessl(["run", "logs", &id, "--output", "json"]).ok().stdout;
    let lines: Vec<String> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned())
        .filter(|text| text.ends_with(" of 3") || text.contains("the "))
        .collect();
    let expected =
        ["item 1 of 3", "still the first", "item 2 of 3", "the second", "item 3 of 3", "the third"];
    assert_eq!(lines, expected, "{image}");
}

#[test]
fn commands_in_bash_do_not_say_which_item_runs() {
    check(&Test::new(), "host://");
}

#[test]
fn commands_in_busybox_do_not_say_which_item_runs() {
    let test = Test::new();
    let dir = test.path("layout");
    let root = "mkdir -p root/bin && cp $(command -v busybox) root/bin/busybox && \
                for name in sh seq tee printf; do ln -s busybox root/bin/$name; done";
    save(&dir, "root", root);
    check(&test, &format!("oci://{}/image.tar", dir.display()));
}

/// What stays possible, and no more than this: a builtin that knows the word can say that a later item ran. The exit code is the
/// shell's, and no item is told of twice.
#[test]
fn the_shell_itself_can_only_be_wrong_about_its_own_items() {
    let forge = r#"fd=$(ls /proc/$$/fd | sort -n | tail -n 1)
for n in $(seq 3 $fd); do
    { printf '\ndone 1 0 %s\nitem 2 %s\nitem 2 %s\nitem 9 %s\n' "$__vessl_word" "$__vessl_word" "$__vessl_word" "$__vessl_word" >&$n; } 2>/dev/null
done
exit 4"#;
    let test = Test::new();
    let run = test.wait(&items("host://", forge)).code(4).json();
    assert_eq!((&run["status"], &run["exit_code"]), (&"failed".into(), &4.into()), "{run}");
    let events = std::fs::read_to_string(test.attempt(&run["id"].to_string()).join("events")).unwrap();
    let told = |n: u32| events.matches(&format!("\"kind\":\"item\",\"n\":{n},")).count();
    assert!(told(1) == 1 && told(2) <= 1 && told(3) == 0 && told(9) == 0, "{events}");
}
