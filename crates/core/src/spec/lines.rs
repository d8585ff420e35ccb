//! The lines of a YAML text before it is parsed: which are structure, and which are text of a block scalar (`|`, `>`). The
//! repair of tabs uses it, and the search for placeholders in files that cannot be parsed.
use std::collections::BTreeMap;

use super::source::number;

/// Lines with their ends, which are as YAML says: `\n`, `\r\n` or `\r`.
pub(super) fn each(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest
            .find(['\n', '\r'])
            .map_or(rest.len(), |at| at + if rest[at..].starts_with("\r\n") { 2 } else { 1 });
        let (line, after) = rest.split_at(end);
        rest = after;
        (!line.is_empty()).then_some(line)
    })
}

/// Follows block scalars from line to line.
#[derive(Default)]
struct Blocks {
    /// Indentation of the line that opened the block scalar.
    parent: usize,
    /// Indentation of its text, known after its first line.
    text: Option<usize>,
    open: bool,
}

/// What a line is.
enum Kind {
    /// Structure: all of its indentation counts.
    Structure,
    /// Text of a block scalar, or white space, with this many columns of indentation.
    Text(usize),
}

impl Blocks {
    /// Says what the next line is. `line` has no line end.
    fn next(&mut self, line: &str) -> Kind {
        let content = line.trim_start_matches([' ', '\t']);
        if content.is_empty() {
            return self.text.map_or(Kind::Text(0), Kind::Text);
        }
        let indent = &line[..line.len() - content.len()];
        let width = width(indent);
        if self.open && width > self.parent {
            // A first line that is deep enough by its spaces alone begins its text there, even with a tab.
            let spaces = indent.len() - indent.trim_start_matches(' ').len();
            let first = if spaces > self.parent { spaces } else { width };
            return Kind::Text(*self.text.get_or_insert(first));
        }
        self.open = opens_block(content);
        self.parent = width + dashes(content);
        self.text = None;
        Kind::Structure
    }
}

/// Columns that `indent` takes when a tab is two spaces.
fn width(indent: &str) -> usize {
    indent.chars().map(|c| if c == '\t' { 2 } else { 1 }).sum()
}

/// Columns taken by `- ` in front of the first key of a list item.
fn dashes(content: &str) -> usize {
    let mut rest = content;
    while let Some(after) = rest.strip_prefix("- ") {
        rest = after.trim_start_matches(' ');
    }
    // `- |` has no key: its text only has to be deeper than the dash.
    if rest.starts_with(['|', '>']) { 0 } else { content.len() - rest.len() }
}

/// Whether a line ends with the header of a block scalar (`key: |-`, `- >2`).
fn opens_block(content: &str) -> bool {
    if content.starts_with('#') {
        return false;
    }
    let content = content.split_once(" #").map_or(content, |(before, _)| before).trim_end();
    let Some(at) = content.rfind(['|', '>']) else { return false };
    let (before, header) = content.split_at(at);
    header.len() <= 3
        && header[1..].chars().all(|c| matches!(c, '+' | '-' | '1'..='9'))
        && (before.is_empty() || before.ends_with(' '))
}

/// The text with each tab in the indentation of its lines as two spaces, and the original indentation of the lines
/// changed (counted from 1). `None` if there is nothing to change.
pub(super) fn untab(text: &str) -> Option<(String, BTreeMap<u32, &str>)> {
    if !text.contains('\t') {
        return None;
    }
    let mut out = String::with_capacity(text.len() + 64);
    let mut tabs = BTreeMap::new();
    let mut blocks = Blocks::default();
    for (index, line) in each(text).enumerate() {
        let body = line.trim_end_matches(['\n', '\r']);
        let columns = match blocks.next(body) {
            Kind::Structure => usize::MAX,
            Kind::Text(columns) => columns,
        };
        let indent = replaced(body, columns);
        if indent.contains('\t') {
            tabs.insert(number(index + 1), indent);
            out.extend(std::iter::repeat_n(' ', width(indent)));
            out.push_str(&line[indent.len()..]);
        } else {
            out.push_str(line);
        }
    }
    (!tabs.is_empty()).then_some((out, tabs))
}

/// The part of the line's indentation that lies in its first `columns` columns.
fn replaced(line: &str, columns: usize) -> &str {
    let mut taken = 0;
    let end = line.find(|c: char| {
        let stop = taken >= columns || !matches!(c, ' ' | '\t');
        taken += if c == '\t' { 2 } else { 1 };
        stop
    });
    &line[..end.unwrap_or(line.len())]
}

/// Lines (from 1) that are structure, without their ends.
pub(super) fn structure(text: &str) -> impl Iterator<Item = (u32, &str)> {
    let mut blocks = Blocks::default();
    each(text).enumerate().filter_map(move |(index, line)| {
        let body = line.trim_end_matches(['\n', '\r']);
        matches!(blocks.next(body), Kind::Structure).then(|| (number(index + 1), body))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_three_ways() {
        assert_eq!(each("a\nb\r\nc\rd").collect::<Vec<_>>(), ["a\n", "b\r\n", "c\r", "d"]);
        assert_eq!(each("").count(), 0);
        assert_eq!(each("\n\n").count(), 2);
    }

    fn check(text: &str, expected: &str) {
        let found = untab(text).map_or_else(|| text.to_owned(), |(text, _)| text);
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn tabs_in_the_indentation_become_two_spaces() {
        check("a:\n\tb: 1\n", "a:\n  b: 1\n");
        check("a:\n\t- b: 1\n\t  c: 2\n", "a:\n  - b: 1\n    c: 2\n");
        check("a:\tb\t# c\n", "a:\tb\t# c\n");
        check("a: |\n\tx\n\t\ty\n", "a: |\n  x\n  \ty\n");
        check("a: |\n  x\n  \ty\n", "a: |\n  x\n  \ty\n");
        check("a: |\n  \tx\nb:\n\tc: 1\n", "a: |\n  \tx\nb:\n  c: 1\n");
        check("a:\n\tb: |-\n\t\tx\n\t\t\ty\n\tc: 1\n", "a:\n  b: |-\n    x\n    \ty\n  c: 1\n");
        check("- a: |\n    x\n\t# not text\n", "- a: |\n    x\n  # not text\n");
        check("a: |\r\n\tx\r\n", "a: |\r\n  x\r\n");
        check("a: |\n\tx\n\t\n\ty\n", "a: |\n  x\n  \n  y\n");
    }

    #[test]
    fn text_of_block_scalars_is_not_structure() {
        let text = "a: |\n  {{x}}\nb: >-\n  y\n- |2\n   z\n# c |\nd: 1\n";
        let found: Vec<_> = structure(text).map(|(line, _)| line).collect();
        assert_eq!(found, [1, 3, 5, 7, 8]);
    }
}
