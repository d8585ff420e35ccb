//! The run script: all items of a run as one shell program, and how its end reads in words. Text only; it starts nothing.
//!
//! ```text
//! for each item:  mark "item N" → enter the directory → options of the items back → eval the text → keep the options, take our own
//!                 → status ≠ 0: mark "done N STATUS", exit STATUS → pause → mark "done N 0"
//! ```
//!
//! The text of an item is evaluated as it stands, in the one shell, outside of any function, condition or loop, so that
//! `set -e`, `exit`, `return`, here-documents and background processes do what they do in a script of their own, and all that an
//! item does to the shell (options, traps, functions, `umask`, `exec >file`) counts for the next one. A syntax error (an open quote,
//! a missing `fi`) fails that item alone. The script works in bash, dash and busybox.
//!
//! Our own lines stand between the items and must mean the same whatever those did. They run with the options that the shell began
//! with, call what is built in by `command`, which passes by functions of the same name (one that is called `command` itself is taken
//! away after its item: nothing else could pass by it), and assign to no variable that is not theirs. `$-` says which options are on: bash turns `-e` off in the very `$(…)` that would ask `set +o`.
//!
//! Marks go to [`MARK_FD`], which is closed while an item runs. After the mark of an item the script waits for one line from
//! there, so that the log names the item before its first output. The marks that follow carry the word of that line. If the
//! descriptor cannot be read, the script goes on at once. A mark always begins on a new line, whatever an item wrote there.
use std::fmt::Write;

use crate::record::{Ending, MARK_FD};
use crate::spec::{Item, Shell};
use crate::spelling;
use crate::units::Span;

/// Exit code of the script when a directory does not exist.
const NO_SUCH: i32 = 127;
/// Exit code of the script when something is there that cannot be entered.
const NOT_ALLOWED: i32 = 126;
/// Exit code of the script when its own variables are gone.
const LOST: i32 = 125;
/// What the first item finds set. The subshell tries what would end some shells.
const STRICT: &str = "\
set -eu
if (set -o pipefail) 2>/dev/null; then set -o pipefail; fi
__vessl_keep 0 \"$-\"
";

/// The script that runs `items` in order in one shell. An item without a directory starts in `default_workdir` (an absolute
/// path in the container), a relative directory begins there.
pub fn build(items: &[Item], default_workdir: &str, shell: Shell) -> String {
    let mut script = prelude();
    if shell == Shell::Strict {
        script.push_str(STRICT);
    }
    for (index, item) in items.iter().enumerate() {
        push_item(&mut script, index + 1, items.len(), item, default_workdir);
    }
    script.push_str("\\command exit 0\n");
    script
}

/// The functions that every item uses.
fn prelude() -> String {
    format!(
        r#"# One run: every item in this shell, in order.
__vessl_own=$(command set +o)
__vessl_options=$__vessl_own
__vessl_flags=$-
__vessl_word=
__vessl_mine=yes
__vessl_status=0
__vessl_mark() {{
    {{ command echo "
$1 $__vessl_word" >&{MARK_FD}; }} 2>/dev/null || command :
}}
__vessl_item() {{
    if command test -z "$__vessl_mine"; then
        command echo 'vessl: an item took the variables away that this script needs (`unset`)' >&2
        command exit {LOST}
    fi
    __vessl_mark "item $1"
    {{ command read -r __vessl_word <&{MARK_FD}; }} 2>/dev/null || command :
}}
__vessl_enter() {{
    {{ command cd "$2"; }} 2>/dev/null && command return 0
    __vessl_status={NO_SUCH}
    command test -e "$2" && __vessl_status={NOT_ALLOWED}
    __vessl_mark "workdir $1"
    command exit "$__vessl_status"
}}
__vessl_restore() {{
    command eval "$__vessl_options"
    for __vessl_flag in a e v x; do
        case $__vessl_flags in
            *"$__vessl_flag"*) command set "-$__vessl_flag" ;;
        esac
    done
}}
__vessl_keep() {{
    \unset -f command
    command set +aevx
    __vessl_status=$1 __vessl_flags=$2
    __vessl_options=$(command set +o)
    command eval "$__vessl_own"
}}
__vessl_check() {{
    command test "$2" -eq 0 && command return 0
    __vessl_mark "done $1 $2"
    command exit "$2"
}}
__vessl_pause() {{
    {{ command -p sleep "$3"; }} && command return 0
    __vessl_status=$?
    command printf 'vessl: item %s of %s: the pause needs the program `sleep` in the image\n' "$1" "$2" >&2
    __vessl_check "$1" "$__vessl_status"
}}
"#
    )
}

fn push_item(script: &mut String, n: usize, of: usize, item: &Item, default_workdir: &str) {
    let _ = write!(script, "\n__vessl_item {n}\n");
    if item.command.is_some() || item.workdir.is_some() {
        let dir = absolute(item.workdir.as_deref(), default_workdir);
        let _ = writeln!(script, "__vessl_enter {n} {}", quoted_path(&dir));
    }
    if let Some(command) = &item.command {
        // The first line break ends a here-document whose last line has none; the second is for a text that ends in the middle of a
        // continued line.
        let text = quoted(&format!("{{ __vessl_restore; }} 2>/dev/null; {command}\n\n"));
        // One line of our own, so that `set -v` shows nothing of it. The first part of it that runs with the options of an item takes
        // them back, and says nothing of that.
        let _ = write!(script, "{{ \\command eval {text}; }} {MARK_FD}>&-; ");
        script.push_str("{ __vessl_keep \"$?\" \"$-\"; } 2>/dev/null\n");
        let _ = writeln!(script, "__vessl_check {n} \"$__vessl_status\"");
    }
    if let Some(wait) = item.wait.filter(|wait| wait.0 > 0) {
        let _ = writeln!(script, "__vessl_pause {n} {of} {}", seconds(wait));
    }
    let _ = writeln!(script, "__vessl_mark 'done {n} 0'");
}

fn absolute(workdir: Option<&str>, default_workdir: &str) -> String {
    match workdir {
        None => default_workdir.to_owned(),
        Some(dir) if dir.starts_with('/') => dir.to_owned(),
        Some(dir) => format!("{}/{dir}", default_workdir.trim_end_matches('/')),
    }
}

/// `text` as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A path as one word, as [`spelling`] writes it; what is not UTF-8 is written by the shell.
fn quoted_path(path: &str) -> String {
    let path = spelling::read(path);
    let mut word = String::new();
    for chunk in path.utf8_chunks() {
        if !chunk.valid().is_empty() {
            word.push_str(&quoted(chunk.valid()));
        }
        for byte in chunk.invalid() {
            let _ = write!(word, "\"$(\\command printf '\\{byte:03o}')\"");
        }
    }
    word
}

/// Seconds for `sleep`; a fraction only where there is one, because not every `sleep` knows fractions.
fn seconds(span: Span) -> String {
    match (span.0 / 1000, span.0 % 1000) {
        (whole, 0) => whole.to_string(),
        (whole, millis) => format!("{whole}.{millis:03}"),
    }
}

/// How the script of `items` ended, in words: `exit_code` of its shell, the `last` item that started, and what ended it.
pub fn ending(items: &[Item], exit_code: i32, last: Option<u32>, how: Ending) -> String {
    let of = items.len();
    let Some(n) = last.and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=of).contains(n)) else {
        let who = if of == 0 { "the image's program" } else { "the shell" };
        let when = if of == 0 { "" } else { " before the first item" };
        return format!("{who} ended with {}{when}", code_words(exit_code));
    };
    let who = if of == 1 { "the command".to_owned() } else { format!("item {n} of {of}") };
    let rest = not_started(n, of);
    match (how, exit_code) {
        (Ending::Workdir, _) => format!("{who}: {}{rest}", workdir_words(&items[n - 1], exit_code)),
        (_, 0) if n == of && of > 1 => format!("all {of} items ended with exit code 0"),
        (Ending::Shell, 0) if n < of => {
            format!("{who} ended the shell with exit code 0 (`exit` or `exec`){rest}")
        }
        _ => format!("{who} ended with {}{rest}", code_words(exit_code)),
    }
}

fn not_started(n: usize, of: usize) -> String {
    match of - n {
        0 => String::new(),
        1 => format!("; item {of} was not started"),
        _ => format!("; items {} to {of} were not started", n + 1),
    }
}

fn workdir_words(item: &Item, exit_code: i32) -> String {
    let dir = match &item.workdir {
        Some(dir) if dir.starts_with('/') => format!("the working directory `{dir}`"),
        Some(dir) => format!("the working directory `{dir}`, which begins at the image's,"),
        None => "the image's working directory".to_owned(),
    };
    let why = if exit_code == NOT_ALLOWED {
        "is no directory that may be entered"
    } else {
        "does not exist in the container"
    };
    format!("{dir} {why}")
}

/// An exit code in words, with the signal that it stands for by the shells' convention.
pub fn code_words(exit_code: i32) -> String {
    match signal_name(exit_code - 128) {
        Some(name) => format!("exit code {exit_code} ({name})"),
        None => format!("exit code {exit_code}"),
    }
}

/// Signals that people meet, by their numbers on Linux.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(of: usize) -> Vec<Item> {
        (0..of).map(|_| Item { command: Some("x".to_owned()), workdir: None, wait: None }).collect()
    }

    fn check(of: usize, exit_code: i32, last: Option<u32>, how: Ending, expected: &str) {
        assert_eq!(ending(&items(of), exit_code, last, how), expected);
    }

    #[test]
    fn every_end_reads_well() {
        use Ending::{Item, Shell, Workdir};
        check(1, 0, Some(1), Item, "the command ended with exit code 0");
        check(1, 0, Some(1), Shell, "the command ended with exit code 0");
        check(1, 137, Some(1), Shell, "the command ended with exit code 137 (SIGKILL)");
        check(3, 0, Some(3), Item, "all 3 items ended with exit code 0");
        check(3, 0, Some(3), Shell, "all 3 items ended with exit code 0");
        check(3, 1, Some(2), Item, "item 2 of 3 ended with exit code 1; item 3 was not started");
        check(3, 2, Some(1), Shell, "item 1 of 3 ended with exit code 2; items 2 to 3 were not started");
        let early =
            "item 1 of 3 ended the shell with exit code 0 (`exit` or `exec`); items 2 to 3 were not started";
        check(3, 0, Some(1), Shell, early);
        check(2, 143, None, Shell, "the shell ended with exit code 143 (SIGTERM) before the first item");
        check(0, 3, None, Shell, "the image's program ended with exit code 3");
        check(2, 1, Some(9), Item, "the shell ended with exit code 1 before the first item");
        check(
            2,
            127,
            Some(2),
            Workdir,
            "item 2 of 2: the image's working directory does not exist in the container",
        );
    }

    #[test]
    fn a_missing_directory_is_named() {
        let items = [Item { command: None, workdir: Some("/nope".to_owned()), wait: None }];
        let words = ending(&items, NO_SUCH, Some(1), Ending::Workdir);
        assert_eq!(words, "the command: the working directory `/nope` does not exist in the container");
        let words = ending(&items, NOT_ALLOWED, Some(1), Ending::Workdir);
        assert_eq!(words, "the command: the working directory `/nope` is no directory that may be entered");
    }

    #[test]
    fn pauses_are_whole_seconds_where_they_can_be() {
        assert_eq!([0, 1000, 1500, 61_007].map(|ms| seconds(Span(ms))), ["0", "1", "1.500", "61.007"]);
    }
}
