//! Failures that nobody would see: commands of an item before its last one, and parts of a pipe before its last one. It reads shell
//! text only as far as that needs, and when in doubt it says nothing.
use super::fields::{At, Reader};
use super::problem::{Code, Report};

/// Words at whose failure nothing is lost, or that do not fail.
const HARMLESS: &[&str] = &[
    ":",
    "alias",
    "date",
    "df",
    "echo",
    "env",
    "exit",
    "export",
    "free",
    "hostname",
    "id",
    "local",
    "ls",
    "nvidia-smi",
    "printf",
    "pwd",
    "readonly",
    "return",
    "set",
    "shopt",
    "sleep",
    "trap",
    "true",
    "ulimit",
    "umask",
    "uname",
    "unset",
    "wait",
    "which",
    "whoami",
];
/// Words that begin or end a block, and are no commands.
const BLOCKS: &[&str] = &["do", "else", "then", "{", "}", "(", ")", "done", "fi", "esac"];
/// Words whose command is looked at by the shell itself.
const TESTED: &[&str] =
    &["if", "elif", "while", "until", "for", "case", "select", "function", "!", "[", "[[", "test"];

/// The status of the last command, and those of the parts of the last pipe.
const STATUS: &str = "$?";
const STATUSES: &str = "PIPESTATUS";

/// Says at most once for each kind which failure would not be seen; `items` have their text.
pub(super) fn note(reader: &mut Reader<'_, '_>, items: &[(At<'_>, &str)]) {
    let (mut options, mut said_command, mut said_pipe) = (Options::default(), false, false);
    for (at, text) in items {
        let (lines, pipes) = commands(text);
        options.read(&lines);
        if let (false, false, Some(word)) = (options.errexit, said_command, unseen_command(&lines)) {
            said_command = true;
            let message =
                format!("`{word} …` can fail without the run failing: an item is judged by its last command");
            reader.note(at, Report::new(Code::UnseenFailure, message).hint(HINT));
        }
        if let (false, false, Some(word)) = (options.pipefail, said_pipe, piped_into_tee(&pipes)) {
            said_pipe = true;
            let message = format!(
                "`{word} … | tee` can fail without the run failing: a pipe is judged by its last part"
            );
            reader.note(at, Report::new(Code::UnseenFailure, message).hint(HINT));
        }
    }
}

const HINT: &str = "begin with the item `set -euo pipefail`, or use `vessl run create --strict`";

/// What the items so far have set.
#[derive(Default)]
struct Options {
    errexit: bool,
    pipefail: bool,
}

impl Options {
    fn read(&mut self, lines: &[String]) {
        for line in lines {
            let mut words = words(line).skip_while(|word| *word != "set").skip(1);
            while let Some(word) = words.next().filter(|word| word.starts_with('-')) {
                self.errexit |= !word.starts_with("--") && word.contains('e');
                if word.ends_with('o') {
                    let name = words.next();
                    self.errexit |= name == Some("errexit");
                    self.pipefail |= name == Some("pipefail");
                }
            }
        }
    }
}

/// The first word of a command that can fail and has another after it.
fn unseen_command(lines: &[String]) -> Option<&str> {
    let mut depth = 0_usize;
    let mut first = None;
    for (at, line) in lines.iter().enumerate() {
        let word = words(line).find(|word| !BLOCKS.contains(word));
        let is_looked_at =
            lines.get(at + 1).is_some_and(|next| next.contains(STATUS) || next.contains(STATUSES));
        let begins = |words: &[&str]| words.iter().any(|word| line.split_whitespace().next() == Some(word));
        if begins(&["for", "while", "until"]) {
            depth += 1;
        } else if begins(&["done"]) {
            depth = depth.saturating_sub(1);
        }
        let Some(word) = word else { continue };
        if first.is_some() {
            return first;
        }
        if can_fail(word, line) && !is_looked_at {
            first = Some(word);
            if depth > 0 {
                return first;
            }
        }
    }
    None
}

fn can_fail(word: &str, line: &str) -> bool {
    let is_assignment = || word.split_once('=').is_some_and(|(name, _)| is_name(name));
    let is_harmless = HARMLESS.contains(&word) || TESTED.contains(&word) || word.ends_with("()");
    !is_harmless && !is_assignment() && !line.contains("||") && !line.trim_end().ends_with('&')
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

/// The first word of a command whose output goes through a pipe into `tee`.
fn piped_into_tee(lines: &[String]) -> Option<&str> {
    let is_tee = |part: &str| part.trim_start_matches('&').split_whitespace().next() == Some("tee");
    let is_looked_at = |at: usize| lines.get(at + 1).is_some_and(|next| next.contains(STATUSES));
    let is_unseen = |(at, line): &(usize, &String)| line.split('|').skip(1).any(is_tee) && !is_looked_at(*at);
    let (_, line) = lines.iter().enumerate().find(is_unseen)?;
    words(line).find(|word| !BLOCKS.contains(word))
}

/// The words of a command, the first one without the bracket of a subshell.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let line = line.trim_start();
    let inner = line.strip_prefix('(').filter(|inner| !inner.starts_with('('));
    inner.unwrap_or(line).split_whitespace()
}

/// The commands of a text, a line each, and those whose pipes may fail unseen. A subshell that ends at its first failure is one command.
fn commands(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut commands, mut pipes) = (Vec::new(), Vec::new());
    let mut lines = lines(text).into_iter();
    while let Some(line) = lines.next() {
        let mut group = vec![line];
        while is_open(&group) {
            let Some(line) = lines.next() else { break };
            group.push(line);
        }
        if begins_subshell(&group[0]) {
            let mut options = Options::default();
            options.read(&group);
            // What it sets counts for itself alone.
            group.retain(|line| words(line).next() != Some("set"));
            if options.errexit {
                group = vec![group.join(" ")];
            }
            if options.pipefail {
                commands.extend(group);
                continue;
            }
        }
        pipes.extend_from_slice(&group);
        commands.extend(group);
    }
    (commands, pipes)
}

fn begins_subshell(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with('(') && !line.starts_with("((")
}

/// Whether lines begin a subshell and do not end it.
fn is_open(lines: &[String]) -> bool {
    let count = |c| lines.iter().map(|line| line.matches(c).count()).sum::<usize>();
    begins_subshell(&lines[0]) && count('(') > count(')')
}

/// The commands of a text, a line each: without comments, quoted text and here-documents; what continues is joined.
fn lines(text: &str) -> Vec<String> {
    let (mut lines, mut line, mut quote, mut until) = (Vec::new(), String::new(), None, None::<String>);
    for raw in text.split('\n') {
        if let Some(end) = &until {
            if raw.trim() == end {
                until = None;
            }
            continue;
        }
        let mut before = ' ';
        let mut chars = raw.chars().peekable();
        let mut goes_on = false;
        while let Some(c) = chars.next() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (Some('"'), '\\') => drop(chars.next()),
                (Some('"'), '$') => {
                    let next: String = chars.clone().take(1 + STATUSES.len()).collect();
                    let looked = [STATUS, STATUSES].into_iter().find(|name| {
                        next.starts_with(name.trim_start_matches('$')) || next.get(1..) == Some(name)
                    });
                    line.extend(looked);
                }
                (Some(_), _) => {}
                (None, '\'' | '"') => {
                    quote = Some(c);
                    line.push('_');
                }
                (None, '\\') => goes_on = chars.next().is_none(),
                (None, '#') if before.is_whitespace() => break,
                (None, ';') if chars.peek() != Some(&';') && before != ';' => {
                    lines.push(std::mem::take(&mut line));
                }
                (None, c) => line.push(c),
            }
            before = c;
        }
        until = here_document(&line);
        let trimmed = line.trim_end();
        if quote.is_none() && !goes_on && !trimmed.ends_with("&&") && !trimmed.ends_with('|') {
            lines.push(std::mem::take(&mut line));
        } else {
            line.push(' ');
        }
    }
    lines.push(line);
    lines.retain(|line| !line.trim().is_empty());
    lines
}

/// The word that ends a here-document which begins on this line.
fn here_document(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("<<")?;
    let word = rest.trim_start_matches('-').split_whitespace().next()?;
    (!word.starts_with('<')).then(|| if word == "_" { "EOF".to_owned() } else { word.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, word: Option<&str>, pipe: bool) {
        let (lines, pipes) = commands(text);
        let mut options = Options::default();
        options.read(&lines);
        let found = unseen_command(&lines).filter(|_| !options.errexit);
        assert_eq!(found, word, "{text:?} {lines:?}");
        let piped = !options.pipefail && piped_into_tee(&pipes).is_some();
        assert_eq!(piped, pipe, "{text:?} {pipes:?}");
    }

    #[test]
    fn failures_that_would_not_be_seen() {
        check("pip install x\npython t.py", Some("pip"), false);
        check("pip install x; python t.py", Some("pip"), false);
        check("python t.py\necho done", Some("python"), false);
        check("for s in 1 2; do\n  python t.py $s\ndone", Some("python"), false);
        check("python t.py | tee log", None, true);
        check("python t.py 2>&1 |& tee -a log", None, true);
        check("cd x\npython t.py", Some("cd"), false);
        check("(set -e; make; make install)\npython t.py", Some("make"), false);
        check("(cd x; make)\npython t.py", Some("cd"), false);
        check("(set -o pipefail; python t.py)\npython t.py | tee log\nexit", Some("python"), true);
        check("(set -e; python t.py | tee log)", None, true);
        check("python t.py | tee log\nexit $?", None, true);
        check("pip install x\npython t.py\nexit $?", Some("pip"), false);
    }

    #[test]
    fn failures_that_are_seen() {
        for text in [
            "python t.py",
            "export A=1\nB=2\npython t.py",
            "set -e\npip install x\npython t.py",
            "set -euo pipefail\npip install x\npython t.py | tee log",
            "set -o errexit -o pipefail\npip install x\npython t.py | tee log",
            "pip install x && \\\n  python t.py",
            "pip install x &&\npython t.py",
            "python t.py \\\n  --lr 1 \\\n  --out 'a; b'",
            "python -c \"import a; print(1)\"",
            "python -c '\nimport a\nprint(1)\n'",
            "cat <<EOF\na\nb\nEOF",
            "# a comment; with words\npython t.py # and more",
            "make || exit 3\npython t.py",
            "python server.py &\npython t.py",
            "if [ -e x ]; then\n  python t.py\nfi",
            "echo a\nls\nnvidia-smi\npython t.py",
            "case x in a) ;; esac\npython t.py",
            "(set -e; make; python t.py)",
            "( set -e\n  make\n  python t.py )",
            "(set -euo pipefail; make; python t.py | tee log)",
            "(set -e; make; python t.py) || exit 3\necho done",
            "python t.py | tee log; exit ${PIPESTATUS[0]}",
            "python t.py | tee log\nexit \"${PIPESTATUS[0]}\"",
            "python t.py\ncode=$?\necho \"it is $code\"\nexit $code",
            "python t.py\nexit \"$?\"",
            "",
        ] {
            check(text, None, false);
        }
    }
}
