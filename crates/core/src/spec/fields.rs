//! Reads nodes as maps, lists, text and numbers. Every part of the run file uses it; it knows no field by name.
use super::keys::Keys;
use super::problem::{Code, Problems, Report};
use super::source::Source;
use super::syntax;
use super::tree::{Entry, Kind, Node};
use crate::problem::Level;

/// A node with its path from the top of the file, such as `run[0].command`.
#[derive(Clone)]
pub(super) struct At<'n> {
    pub(super) node: &'n Node,
    pub(super) path: String,
    /// Where the last step of `path` begins.
    last: usize,
}

impl<'n> At<'n> {
    /// The top of the file.
    pub(super) fn top(node: &'n Node) -> Self {
        At { node, path: String::new(), last: 0 }
    }

    /// The value under `key` of the map at this place.
    pub(super) fn child(&self, key: &str, node: &'n Node) -> Self {
        let key = syntax::clip(key);
        if self.path.is_empty() {
            return At { node, path: key, last: 0 };
        }
        At { node, path: format!("{}.{key}", self.path), last: self.path.len() + 1 }
    }

    /// The keys and values of the map at this place, whose keys are the author's own.
    pub(super) fn entries(&self, entries: &'n [Entry]) -> Vec<(Self, Self)> {
        let named = entries.iter().filter(|entry| entry.has_name());
        named.map(|e| (self.child(e.name(), &e.key), self.child(e.name(), &e.value))).collect()
    }

    /// The item `index` of the list at this place.
    fn item(&self, index: usize, node: &'n Node) -> Self {
        At { node, path: format!("{}[{index}]", self.path), last: self.last }
    }

    /// The last step of the path, for messages.
    pub(super) fn name(&self) -> &str {
        self.path.get(self.last..).unwrap_or_default()
    }
}

/// A map that was checked for unknown keys.
pub(super) struct Fields<'n> {
    pub(super) at: At<'n>,
    entries: &'n [Entry],
}

impl<'n> Fields<'n> {
    /// The value of `key`, also if it is null.
    pub(super) fn raw(&self, key: &str) -> Option<At<'n>> {
        self.entries.iter().find(|e| e.has_name() && e.name() == key).map(|e| self.at.child(key, &e.value))
    }

    /// The value of `key` unless it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<At<'n>> {
        self.raw(key).filter(|at| !at.node.is_null())
    }

    /// Whether every key is one of `keys`. If not, that was reported, and what is missing may only be misspelled.
    pub(super) fn all_known(&self, keys: &Keys) -> bool {
        self.entries.iter().all(|entry| keys.has(entry.name()))
    }

    /// The key itself, for problems that are about it.
    pub(super) fn key(&self, key: &str) -> Option<At<'n>> {
        self.entries.iter().find(|e| e.has_name() && e.name() == key).map(|e| self.at.child(key, &e.key))
    }
}

/// Reads the nodes of one file and collects its problems.
pub(super) struct Reader<'a, 't> {
    source: &'a Source<'t>,
    problems: &'a mut Problems,
    unknown: Level,
    base: Option<&'a str>,
}

impl<'a, 't> Reader<'a, 't> {
    /// A reader that reports unknown keys at the level `unknown`, of a file in the directory `base`.
    pub(super) fn new(
        source: &'a Source<'t>,
        problems: &'a mut Problems,
        (unknown, base): (Level, Option<&'a str>),
    ) -> Self {
        Self { source, problems, unknown, base }
    }

    /// The directory of the file, where it is known.
    pub(super) fn base(&self) -> Option<&'a str> {
        self.base
    }

    /// Reports an error at a value.
    pub(super) fn error(&mut self, at: &At<'_>, report: Report) {
        self.problems.add(self.source, (at.node.place, &at.path), Level::Error, report);
    }

    /// Reports an error that makes every other problem pointless.
    pub(super) fn only_error(&mut self, at: &At<'_>, report: Report) {
        self.problems.clear();
        self.error(at, report);
    }

    /// Reports a warning at a value.
    pub(super) fn warn(&mut self, at: &At<'_>, report: Report) {
        self.problems.add(self.source, (at.node.place, &at.path), Level::Warning, report);
    }

    /// Says something about a value that is as it should be.
    pub(super) fn note(&mut self, at: &At<'_>, report: Report) {
        self.problems.add(self.source, (at.node.place, &at.path), Level::Note, report);
    }

    /// Reads a map and reports its unknown keys; `None`, with a report, if it is no map.
    pub(super) fn fields<'n>(&mut self, at: At<'n>, keys: &Keys, form: &str) -> Option<Fields<'n>> {
        let entries = self.map(&at, form)?;
        for entry in entries.iter().filter(|entry| entry.has_name()) {
            let name = entry.name();
            if !keys.has(name) && self.problems.has_room(self.unknown) {
                let report = unknown_key(entry.name(), keys);
                let at = at.child(name, &entry.key);
                self.problems.add(self.source, (at.node.place, &at.path), self.unknown, report);
            }
        }
        Some(Fields { at, entries })
    }

    /// The entries of a map whose keys are the author's own; `None`, with a report, if it is no map.
    pub(super) fn map<'n>(&mut self, at: &At<'n>, form: &str) -> Option<&'n [Entry]> {
        match &at.node.kind {
            Kind::Map(_) if self.is_placeholder(at) => None,
            Kind::Map(entries) => Some(entries),
            Kind::List(_) | Kind::Scalar { .. } => {
                self.wrong_type(at, "a map", form);
                None
            }
        }
    }

    /// The items of a list; none, with a report, if it is no list.
    pub(super) fn list<'n>(&mut self, at: &At<'n>, form: &str) -> Vec<At<'n>> {
        if let Kind::List(items) = &at.node.kind {
            return items.iter().enumerate().map(|(index, node)| at.item(index, node)).collect();
        }
        if !self.is_placeholder(at) {
            self.wrong_type(at, "a list", form);
        }
        Vec::new()
    }

    /// Whether the node is `{NAME}` or `{{ name }}`, which YAML reads as a map; reported if so.
    pub(super) fn is_placeholder(&mut self, at: &At<'_>) -> bool {
        let Kind::Map(entries) = &at.node.kind else { return false };
        let [entry] = entries.as_slice() else { return false };
        if !entry.has_name() {
            return true; // `{{ name }}`, reported where its key was read
        }
        if !entry.value.is_null() || !entry.value.text().is_some_and(str::is_empty) {
            return false;
        }
        let Some((_, found)) = syntax::placeholder_at(self.source, at.node.place) else { return false };
        self.error(at, syntax::placeholder(&found));
        true
    }

    /// Reports a value of the wrong type, with the form it should have.
    pub(super) fn wrong_type(&mut self, at: &At<'_>, needed: &str, form: &str) {
        if self.is_placeholder(at) {
            return;
        }
        let found = match &at.node.kind {
            _ if at.node.is_null() => "nothing",
            Kind::Scalar { .. } => "text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        };
        let message = format!("`{}` needs {needed}, not {found}", at.name());
        self.error(at, Report::new(Code::WrongType, message).hint(format!("write {form}")));
    }

    /// Any text as written; templates in it are errors if it is plain and warnings if it is quoted.
    pub(super) fn prose(&mut self, at: &At<'_>, form: &str) -> Option<String> {
        let text = self.raw_text(at, form)?;
        if let Some(found) = syntax::template_in(&text) {
            if at.node.is_plain() {
                self.error(at, syntax::placeholder(found));
            } else {
                self.warn(at, syntax::quoted_placeholder(found));
            }
        }
        Some(text)
    }

    /// Text exactly as written, whatever stands in it.
    pub(super) fn raw_text(&mut self, at: &At<'_>, form: &str) -> Option<String> {
        let Some(text) = at.node.text() else {
            self.wrong_type(at, "text", form);
            return None;
        };
        if text.contains('\0') {
            let message = format!("`{}` contains a NUL character", at.name());
            self.error(at, Report::new(Code::ControlCharacter, message).hint("delete the `\\0`"));
            return None;
        }
        Some(text.to_owned())
    }

    /// Text that names something: not empty, one line; a placeholder in it is an error if it is plain and a warning if
    /// it is quoted.
    pub(super) fn word(&mut self, at: &At<'_>, form: &str) -> Option<String> {
        let text = self.raw_text(at, form)?;
        if let Some(found) = syntax::any_placeholder_in(&text) {
            if at.node.is_plain() {
                self.error(at, syntax::placeholder(found));
                return None;
            }
            self.warn(at, syntax::quoted_placeholder(found));
        }
        if text.trim().is_empty() {
            let report = Report::new(Code::MissingKey, format!("`{}` is empty", at.name()));
            self.error(at, report.hint(format!("write {form}")));
            return None;
        }
        if text.chars().any(char::is_control) {
            let report = Report::new(Code::BadValue, format!("`{}` must be one line", at.name()));
            self.error(at, report.hint(format!("write {form}")));
            return None;
        }
        Some(text)
    }

    /// What a rule says about a value: its result, or its report at the value.
    pub(super) fn take<T>(&mut self, at: &At<'_>, outcome: Result<T, Report>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(report) => {
                self.error(at, report);
                None
            }
        }
    }

    /// `true` or `false` in the spellings of YAML 1.1 and 1.2.
    pub(super) fn flag(&mut self, at: &At<'_>) -> Option<bool> {
        let flag = at.node.text().and_then(boolean);
        if flag.is_none() {
            let form = format!("`{0}: true` or `{0}: false`", at.name());
            self.wrong_type(at, "`true` or `false`", &form);
        }
        flag
    }

    /// A value of a type that reads itself from text, such as an amount.
    pub(super) fn amount<T>(&mut self, at: &At<'_>, form: &str) -> Option<T>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let text = self.word(at, form)?;
        let outcome = text.trim().parse().map_err(|error| {
            let closest = closest::<T>(&text).map(|closest| format!("`{}: {closest}`", at.name()));
            let form = closest.as_deref().unwrap_or(form);
            Report::new(Code::BadAmount, format!("`{}`: {error}", at.name())).hint(format!("write {form}"))
        });
        self.take(at, outcome)
    }

    /// A whole number within a range.
    pub(super) fn whole(
        &mut self,
        at: &At<'_>,
        range: std::ops::RangeInclusive<u64>,
        form: &str,
    ) -> Option<u64> {
        let text = self.word(at, form)?;
        let digits = text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|n| digits && range.contains(n));
        let outcome = number.ok_or_else(|| {
            let (name, range, text) = (at.name(), within(&range), syntax::clip(&text));
            let message = format!("`{name}` needs a whole number {range}, not `{text}`");
            Report::new(Code::BadAmount, message).hint(format!("write {form}"))
        });
        self.take(at, outcome)
    }

    /// The value of a required key, or a report at the map that lacks it.
    pub(super) fn required<'n>(&mut self, fields: &Fields<'n>, key: &str, form: &str) -> Option<At<'n>> {
        let found = fields.get(key);
        if found.is_none() {
            let at = fields.key(key).unwrap_or_else(|| fields.at.clone());
            let place =
                if fields.at.path.is_empty() { String::new() } else { format!(" in `{}`", fields.at.path) };
            let report = Report::new(Code::MissingKey, format!("`{key}` is missing{place}"));
            self.error(&at, report.hint(format!("add {form}")));
        }
        found
    }

    /// An optional word.
    pub(super) fn optional_word(&mut self, fields: &Fields<'_>, key: &str, form: &str) -> Option<String> {
        fields.get(key).and_then(|at| self.word(&at, form))
    }

    /// A list of words; empty if the key is absent or null.
    pub(super) fn words(&mut self, fields: &Fields<'_>, key: &str, form: &str) -> Vec<String> {
        let Some(at) = fields.get(key) else { return Vec::new() };
        let items = self.list(&at, form);
        items.iter().filter_map(|item| self.word(item, form)).collect()
    }
}

fn unknown_key(name: &str, keys: &Keys) -> Report {
    if let Some(found) = syntax::any_placeholder_in(name) {
        return syntax::placeholder(found);
    }
    let message = format!("{} has no key `{}`", keys.what, syntax::clip(name));
    Report::new(Code::UnknownKey, message).hint(keys.advice(name))
}

/// The amount that a text means which has a `B` behind its unit, or small letters in it: `4G` for `4 gb`.
fn closest<T: std::str::FromStr>(text: &str) -> Option<String> {
    let text = text.get(..32.min(text.len()))?.replace(' ', "");
    let bare = text.trim_end_matches(['b', 'B']);
    let (number, unit) = bare.split_at(bare.find(|c: char| c.is_ascii_alphabetic())?);
    let (letter, rest) = unit.split_at(1);
    let capital = format!("{number}{}{}", letter.to_uppercase(), rest.to_lowercase());
    [bare.to_owned(), capital].into_iter().find(|text| text.parse::<T>().is_ok())
}

/// `true` or `false` in the spellings of YAML 1.1 and 1.2.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Some(true),
        "false" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

fn within(range: &std::ops::RangeInclusive<u64>) -> String {
    if *range.end() >= u64::from(u32::MAX) {
        format!("of at least {}", range.start())
    } else {
        format!("from {} to {}", range.start(), range.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Memory, Span};

    #[test]
    fn the_amount_that_was_meant() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(closest::<Memory>(text).as_deref(), expected, "{text}");
        };
        check("4GB", Some("4G"));
        check("4 gb", Some("4G"));
        check("1.5GiB", Some("1.5Gi"));
        check("512mib", Some("512Mi"));
        check("4B", None);
        check("4 apples", None);
        check("GB", None);
        check("", None);
        assert_eq!(closest::<Span>("10 seconds"), None);
    }
}
