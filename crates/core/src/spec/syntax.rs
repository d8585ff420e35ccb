//! Explains why a text is not YAML, or is still a template. It knows no field of the file.
use super::problem::{Code, Problems, Report};
use super::redact::has_login;
use super::source::{Location, Source, number};
use super::{keys, lines};
use crate::problem::Level;

/// Most placeholders reported for a text that cannot be parsed.
const MOST_PLACEHOLDERS: usize = 50;

/// Longest piece of a line that is searched for a placeholder at a place, in characters before and bytes behind it.
const LONGEST_SEARCHED: usize = 1000;

/// At most 60 characters of `text`, on one line, for messages; nothing of a text with a login.
pub(super) fn clip(text: &str) -> String {
    if has_login(text) {
        return "…".to_owned();
    }
    let plain = |c: char| match c {
        '`' => '\'',
        c if c.is_control() => ' ',
        c => c,
    };
    let mut short: String = text.chars().take(60).map(plain).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The report of a placeholder.
pub(super) fn placeholder(found: &str) -> Report {
    let message = format!("`{}` looks like a placeholder that was not filled in", clip(found));
    Report::new(Code::Placeholder, message)
        .hint("put the real value there, or quote the text if it is meant as it stands")
}

/// The report of a placeholder in quotes, which is kept.
pub(super) fn quoted_placeholder(found: &str) -> Report {
    placeholder(found).hint("put the real value there, unless it is meant as it stands")
}

/// The first `{{ name }}`, `{% … %}` or `<<NAME>>` in `text`.
pub(super) fn template_in(text: &str) -> Option<&str> {
    enclosed(text, "{{", "}}")
        .or_else(|| enclosed(text, "<<", ">>"))
        .or_else(|| text.find("{%").and_then(|at| statement(&text[at..])))
}

/// The first placeholder of any form, `{NAME}` and `<NAME>` included.
pub(super) fn any_placeholder_in(text: &str) -> Option<&str> {
    template_in(text).or_else(|| enclosed(text, "{", "}")).or_else(|| enclosed(text, "<", ">"))
}

/// The whole of `text` if it is one placeholder and nothing more.
pub(super) fn whole_placeholder(text: &str) -> Option<&str> {
    any_placeholder_in(text).filter(|found| found.len() == text.trim().len())
}

/// The placeholder of any form that `text` begins with.
fn leading_placeholder(text: &str) -> Option<&str> {
    const BRACKETS: [(&str, &str); 4] = [("{{", "}}"), ("<<", ">>"), ("{", "}"), ("<", ">")];
    BRACKETS.iter().find_map(|(open, close)| leading(text, open, close)).or_else(|| statement(text))
}

/// The `{% … %}` that `text` begins with.
fn statement(text: &str) -> Option<&str> {
    let end = text.strip_prefix("{%")?.find("%}")?;
    Some(&text[..end + 4])
}

/// The first piece of `text` that is a name between `open` and `close`, with them.
fn enclosed<'t>(text: &'t str, open: &str, close: &str) -> Option<&'t str> {
    let first = *open.as_bytes().first()?;
    let (bytes, mut from) = (text.as_bytes(), 0);
    // By bytes: in a long run of brackets each search of a string would cost its preparation.
    while let Some(at) = bytes.get(from..)?.iter().position(|&byte| byte == first) {
        let begin = from + at;
        if !bytes[begin..].starts_with(open.as_bytes()) {
            from = begin + 1;
        } else if let Some(found) = leading(&text[begin..], open, close) {
            return Some(found);
        } else {
            from = begin + open.len();
        }
    }
    None
}

/// The name between `open` and `close` that `text` begins with, with them.
fn leading<'t>(text: &'t str, open: &str, close: &str) -> Option<&'t str> {
    let inner = text.strip_prefix(open)?;
    // A name is short: looking no further keeps the search linear.
    let inner = &inner[..inner.floor_char_boundary(80)];
    let end = inner.find(close).filter(|end| is_name(inner[..*end].trim()))?;
    Some(&text[..open.len() + end + close.len()])
}

fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ' '))
}

/// The placeholder that begins at `place`, with the brackets around it and where they begin. Lines are searched as far
/// as people write them, which keeps the search of many places in one line short.
pub(super) fn placeholder_at(source: &Source<'_>, place: Location) -> Option<(Location, String)> {
    let line = source.line(place.line);
    let column = (place.column as usize).saturating_sub(1);
    if column > LONGEST_SEARCHED {
        return None;
    }
    let start = line.char_indices().nth(column).map(|(at, _)| at)?;
    let outer = line[..start].trim_end_matches('{').len();
    let text = &line[outer..line.floor_char_boundary(start + LONGEST_SEARCHED)];
    let found = leading_placeholder(text)?;
    let before = line[..outer].chars().count();
    Some((Location { line: place.line, column: number(before + 1) }, found.to_owned()))
}

/// Explains why the parser stopped at `place`. Placeholders elsewhere in the file are reported as well, because one of
/// them usually is the reason.
pub(super) fn explain(
    source: &Source<'_>,
    problems: &mut Problems,
    place: Location,
    info: &str,
) -> (Location, Report) {
    if info.contains("unknown anchor") {
        let report =
            Report::new(Code::UnknownAlias, "this alias refers to an anchor that is not defined above");
        return (
            place,
            report.hint("define it with `&name` first, or quote the text if the `*` belongs to it"),
        );
    }
    // The parser stands behind the text that it took for the quoted one.
    let begin = info.contains("in quoted scalar").then(|| open_quote(source, place.line)).flatten();
    let place = begin.unwrap_or(place);
    let mut here = None;
    for (at, found) in unquoted_templates(source).into_iter().take(MOST_PLACEHOLDERS) {
        if at.line == place.line && here.is_none() {
            here = Some((at, placeholder(&found)));
        } else {
            problems.add(source, (at, ""), Level::Error, placeholder(&found));
        }
    }
    here.unwrap_or_else(|| (place, syntax_error(source, place, info)))
}

fn unquoted_templates(source: &Source<'_>) -> Vec<(Location, String)> {
    let mut found = Vec::new();
    for (line, text) in lines::structure(source.original()) {
        let (bare, _) = without_quotes(text);
        if let Some(template) = template_in(&bare).filter(|_| !text.trim_start().starts_with('#')) {
            let before = bare.find(template).map_or(0, |at| bare[..at].chars().count());
            found.push((Location { line, column: number(before + 1) }, template.to_owned()));
        }
    }
    found
}

/// Where the quote begins that is not closed on the nearest line above `below` that leaves one open.
fn open_quote(source: &Source<'_>, below: u32) -> Option<Location> {
    (1..below).rev().find_map(|line| {
        let (_, open) = without_quotes(source.line(line));
        Some(Location { line, column: number(open? + 1) })
    })
}

/// The line with everything in quotes as spaces, and which letter is the quote that it leaves open.
fn without_quotes(line: &str) -> (String, Option<usize>) {
    let mut quote = None;
    let mut open = None;
    let mut last = ' ';
    let bare = line
        .chars()
        .enumerate()
        .map(|(at, c)| {
            let starts = quote.is_none() && matches!(c, '"' | '\'') && !last.is_alphanumeric();
            let inside = quote.is_some();
            if starts {
                (quote, open) = (Some(c), Some(at));
            } else if quote == Some(c) && last != '\\' {
                (quote, open) = (None, None);
            }
            last = c;
            if inside || starts { ' ' } else { c }
        })
        .collect();
    (bare, open)
}

/// What the parser's own words mean to the author of a run file: a piece of them, a message, a hint.
const EXPLAINED: [(&str, &str, &str); 19] = [
    (
        "mapping values are not allowed",
        "a `:` stands where no key can be",
        "quote the value if the `:` belongs to it, and check the indentation of this line and the one before",
    ),
    ("tab", "a tab stands where only spaces may", "indent with spaces"),
    (
        "did not find expected key",
        "this line is indented unlike the keys around it",
        "indent all keys of a map alike",
    ),
    (
        "did not find expected '-'",
        "this line is indented unlike the list items around it",
        "begin every item with `- ` in the same column",
    ),
    (
        "did not find expected ',' or '}'",
        "a `{` is not closed before this",
        "close it with `}`, or quote the value that begins with `{`",
    ),
    (
        "expected ',' or ']'",
        "a `[` is not closed before this",
        "close it with `]`, or quote the value that begins with `[`",
    ),
    (
        "illegal placement of ':'",
        "a `:` stands in a list or map that is not closed",
        "close the `[` or `{` before it, or quote the value that begins with it",
    ),
    ("unexpected end of stream", "this quote is not closed", "close it"),
    ("document indicator", "this quote is not closed", "close it"),
    ("unexpected character", "a value cannot begin with this character", "quote the value"),
    ("simple key expect", "a `:` is missing after this key", "write `key: value`"),
    ("trailing content", "text stands behind a closing quote", "put the whole value into the quotes"),
    (
        "unknown escape character",
        "a `\\` in double quotes begins an escape that does not exist",
        "write `\\\\`, or use single quotes",
    ),
    (
        "in quoted scalar",
        "this quote is not closed before a line that is not indented",
        "close it, or indent the lines that belong to it",
    ),
    ("invalid indentation", "this line is indented less than what it belongs to", "indent it further"),
    (
        "wrongly indented line",
        "this line is indented less than the text it belongs to",
        "indent all lines of the text alike",
    ),
    (
        "comment intercepting",
        "a comment stands in the middle of a text",
        "move the comment, or write the text as a block with `|`",
    ),
    ("<document start>", "this belongs to nothing before it", "check its indentation"),
    ("misplaced bracket", "a closing bracket without an opening one", "delete it, or quote the value"),
];

fn syntax_error(source: &Source<'_>, place: Location, info: &str) -> Report {
    if let Some(report) = missing_space(source, place) {
        return report;
    }
    match EXPLAINED.iter().find(|(piece, ..)| info.contains(piece)) {
        Some((_, message, _)) if let Some(key) = key_before(source, place) => {
            let hint =
                format!("quote the whole value, or write `{key}: |` and the value indented on the next line");
            Report::new(Code::Syntax, format!("not valid YAML: {message}")).hint(hint)
        }
        Some((_, message, hint)) => {
            Report::new(Code::Syntax, format!("not valid YAML: {message}")).hint(*hint)
        }
        None => Report::new(Code::Syntax, format!("not valid YAML: {}", clip(info)))
            .hint("check the indentation and the quotes of this line and the one before"),
    }
}

/// The known key of the line, if the `:` at `place` is a later one in its value.
fn key_before<'s>(source: &'s Source<'_>, place: Location) -> Option<&'s str> {
    let line = source.line(place.line);
    let end = line.char_indices().nth(usize::try_from(place.column).ok()?.checked_sub(1)?)?.0;
    let (before, rest) = line.split_at(end);
    let (key, value) = before.trim_start_matches([' ', '-']).split_once(": ")?;
    let plain = value.trim_start().starts_with(|c: char| !"\"'{[|>&*".contains(c));
    (rest.starts_with(':') && plain && keys::is_known(key)).then_some(key)
}

/// A key whose colon has no space behind it, on the line that cannot be parsed or the one before.
fn missing_space(source: &Source<'_>, place: Location) -> Option<Report> {
    let before = (1..place.line).rev().find(|line| !source.line(*line).trim().is_empty());
    let glued = [Some(place.line), before].into_iter().flatten().find_map(|line| {
        let text = source.line(line).trim_start_matches([' ', '\t', '-']).trim_end();
        let (key, value) = text.split_once(':')?;
        (keys::is_known(key) && value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '"'))
            .then(|| (line, clip(text)))
    });
    let (line, text) = glued?;
    let message = format!("not valid YAML: `{text}` on line {line} is not a key with a value");
    Some(Report::new(Code::Syntax, message).hint("put a space behind the colon"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(any_placeholder_in(text), expected, "{text:?}");
    }

    #[test]
    fn placeholders() {
        check("{NAME}", Some("{NAME}"));
        check("vessl-dataset://{organization}/{x}", Some("{organization}"));
        check("a {{ x.y }} b", Some("{{ x.y }}"));
        check("<<NAME>>", Some("<<NAME>>"));
        check("<YOUR_REPO>", Some("<YOUR_REPO>"));
        check("{% if x %}", Some("{% if x %}"));
        check("a{}b", None);
        check("a{1}b", None);
        check("a < b > c", Some("< b >"));
        check("f\"{x:.2}\"", None);
        check("{", None);
        check("}{", None);
        check("", None);
    }

    #[test]
    fn long_runs_of_brackets_are_searched_once() {
        let text = "{".repeat(1 << 16);
        assert_eq!(any_placeholder_in(&text), None);
    }
}
