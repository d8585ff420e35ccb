//! The text of a run file: its limits, its lines and the places in it. It knows no YAML but what indentation needs.
use std::borrow::Cow;
use std::collections::BTreeMap;

use saphyr_parser::Marker;

use super::lines;
use super::problem::{Code, Report};

/// Largest file, in bytes.
pub(super) const LARGEST: usize = 1 << 20;

/// Longest piece of a line that a problem shows, in characters.
pub(super) const SHOWN: usize = 400;

/// A place in the file as its author sees it: line and column from 1, the column in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Location {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Location {
    /// The beginning of a file.
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// A file that may be parsed: UTF-8, no forbidden character, tabs in the indentation replaced.
pub(super) struct Source<'t> {
    original: &'t str,
    repaired: Cow<'t, str>,
    /// Where each line of `original` begins, in bytes.
    starts: Vec<u32>,
    /// Lines (from 1) whose indentation was replaced, with the original indentation.
    tabs: BTreeMap<u32, &'t str>,
}

impl<'t> Source<'t> {
    /// Takes the bytes of a file. What stops its reading is returned with its place, beside the readable part.
    pub(super) fn read(bytes: &'t [u8]) -> (Self, Option<(Location, Report)>) {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.len() > LARGEST {
            let message = format!("the file has {} bytes; at most {LARGEST} are read", bytes.len());
            let report =
                Report::new(Code::TooLarge, message).hint("move scripts and data out of it and import them");
            return (Self::plain(""), Some((Location::START, report)));
        }
        let (text, broken) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, false),
            Err(error) => {
                let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
                (std::str::from_utf8(valid).unwrap_or_default(), true)
            }
        };
        let source = Self::plain(text);
        if let Some((at, found)) = text.char_indices().find(|(_, c)| is_forbidden(*c)) {
            let place = source.location_of(at);
            return (source, Some((place, forbidden(found))));
        }
        if broken {
            let place = source.location_of(text.len());
            let report = Report::new(Code::NotUtf8, "this is not UTF-8 text").hint("save the file as UTF-8");
            return (source, Some((place, report)));
        }
        (source.repair(), None)
    }

    fn plain(text: &'t str) -> Self {
        let starts = lines::each(text).scan(0, |end, line| {
            let start = *end;
            *end += line.len();
            Some(number(start))
        });
        let starts = starts.collect();
        Self { original: text, repaired: Cow::Borrowed(text), starts, tabs: BTreeMap::new() }
    }

    /// Replaces tabs in the indentation by two spaces each.
    fn repair(mut self) -> Self {
        if let Some((repaired, tabs)) = lines::untab(self.original) {
            self.repaired = Cow::Owned(repaired);
            self.tabs = tabs;
        }
        self
    }

    /// The text as its author wrote it.
    pub(super) fn original(&self) -> &'t str {
        self.original
    }

    /// The text to parse.
    pub(super) fn text(&self) -> &str {
        &self.repaired
    }

    /// The first tab that was replaced and the number of lines where some were.
    pub(super) fn tabs(&self) -> Option<(Location, usize)> {
        let (line, indent) = self.tabs.first_key_value()?;
        let before = indent.chars().take_while(|c| *c != '\t').count();
        Some((Location { line: *line, column: number(before + 1) }, self.tabs.len()))
    }

    /// The place that the parser means, in the original text.
    pub(super) fn location(&self, marker: Marker) -> Location {
        let last = number(self.starts.len()).max(1);
        let line = number(marker.line()).clamp(1, last);
        let column = match self.tabs.get(&line) {
            Some(indent) => original_column(indent, marker.col()),
            None => marker.col(),
        };
        // The parser places the end of the file on a line of its own, which need not exist.
        let column = if number(marker.line()) > last { self.line(line).chars().count() } else { column };
        Location { line, column: number(column + 1) }
    }

    /// The place of a byte of the original text.
    fn location_of(&self, byte: usize) -> Location {
        let line = self.starts.partition_point(|start| *start as usize <= byte).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or_default() as usize;
        let before = self.original.get(start..byte).unwrap_or_default();
        Location { line: number(line), column: number(before.chars().count() + 1) }
    }

    /// A line (from 1) as written, without its end.
    pub(super) fn line(&self, line: u32) -> &'t str {
        let index = (line as usize).saturating_sub(1);
        let Some(start) = self.starts.get(index) else { return "" };
        let end = self.starts.get(index + 1).map_or(self.original.len(), |end| *end as usize);
        self.original.get(*start as usize..end).unwrap_or_default().trim_end_matches(['\n', '\r'])
    }

    /// The line of `place` for showing: cut after 400 characters, and empty if `place` lies behind the cut.
    pub(super) fn shown(&self, place: Location) -> String {
        if place.column as usize > SHOWN {
            return String::new();
        }
        self.line(place.line).chars().take(SHOWN).collect()
    }
}

/// Lines, columns and counts fit in 32 bits: the file has at most 1 MiB.
pub(super) fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The column (from 0) of the original line for a column of the line whose tabs became two spaces.
fn original_column(indent: &str, column: usize) -> usize {
    let mut width = 0;
    for (index, c) in indent.chars().enumerate() {
        if width >= column {
            return index;
        }
        width += if c == '\t' { 2 } else { 1 };
    }
    indent.chars().count() + (column.saturating_sub(width))
}

/// Characters that YAML refuses as they stand.
fn is_forbidden(c: char) -> bool {
    matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\x7f'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}')
}

fn forbidden(c: char) -> Report {
    let what = if c == '\0' {
        "a NUL byte".to_owned()
    } else {
        format!("the control character U+{:04X}", u32::from(c))
    };
    let report = Report::new(Code::ControlCharacter, format!("{what} is not allowed in a run file"));
    if c == '\0' {
        report.hint("save the file as UTF-8 text; UTF-16 looks like this")
    } else {
        report.hint(format!("delete it, or write it as `\\u{:04x}` in a double-quoted value", u32::from(c)))
    }
}
