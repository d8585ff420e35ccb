//! YAML events → a tree of nodes with places, aliases and merge keys resolved, within fixed bounds. It knows no field.
use std::collections::BTreeMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use super::bounded::{Bounded, Gauge, Stop};
use super::problem::{Code, Problems, Report};
use super::source::{Location, Source};
use super::syntax;
use crate::problem::Level;

/// Most nodes, aliases and merge keys followed.
pub(super) const MOST_NODES: usize = 100_000;

/// Most anchors (`&name`): they cost the parser more than other values.
const MOST_ANCHORS: usize = 10_000;

/// Most text in all values, aliases and merge keys followed, in bytes: a file without them has no more.
pub(super) const MOST_TEXT: usize = 2 << 20;

/// Deepest nesting of lists and maps, aliases followed.
pub(super) const DEEPEST: usize = 64;

/// One value of the file.
pub(super) struct Node {
    /// Where it begins.
    pub(super) place: Location,
    /// What it is.
    pub(super) kind: Kind,
    /// What is in it, itself and what its aliases stand for included.
    size: Size,
    /// Levels of lists and maps in it.
    height: usize,
}

/// How much something is.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    /// Bytes of text.
    text: usize,
}

impl Size {
    fn one(text: usize) -> Self {
        Self { nodes: 1, text }
    }

    fn add(&mut self, other: Self) {
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.text = self.text.saturating_add(other.text);
    }
}

/// What a node is.
pub(super) enum Kind {
    /// Text, as written for a plain scalar, without quotes and escapes else.
    Scalar {
        /// The text.
        text: Box<str>,
        /// Whether it stands there without quotes and not as a block.
        plain: bool,
    },
    /// A list.
    List(Vec<Rc<Node>>),
    /// A map in file order, with unique text keys.
    Map(Vec<Entry>),
}

/// One key of a map with its value.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: Rc<Node>,
    pub(super) value: Rc<Node>,
}

impl Entry {
    /// Whether the key is text; another one was already refused.
    pub(super) fn has_name(&self) -> bool {
        self.key.text().is_some()
    }

    /// The key's text; empty if it is no text.
    pub(super) fn name(&self) -> &str {
        self.key.text().unwrap_or_default()
    }
}

impl Node {
    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// Whether it stands there without quotes and not as a block.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.kind, Kind::Scalar { plain: true, .. })
    }

    /// Whether it is nothing: empty, `~` or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// A list or map whose end was not seen yet.
struct Open {
    place: Location,
    anchor: usize,
    /// `None` for a list.
    entries: Option<Vec<Entry>>,
    items: Vec<Rc<Node>>,
}

/// Reads the one document of a file. `None` after an error that stopped the reading; others are only reported.
pub(super) fn read(source: &Source<'_>, problems: &mut Problems) -> Option<Rc<Node>> {
    let gauge = Gauge::default();
    let mut tree = Tree {
        source,
        problems,
        gauge: &gauge,
        anchors: BTreeMap::new(),
        open: Vec::new(),
        root: None,
        size: Size::default(),
    };
    let mut parser = Parser::new(Bounded::new(source.text(), &gauge));
    let mut documents = 0;
    while let Some(event) = parser.next_event() {
        let outcome = match event {
            Ok((Event::DocumentStart(_), span)) => {
                documents += 1;
                if documents == 2 { Err(ReadAbort::documents(source.location(span.start))) } else { Ok(()) }
            }
            Ok((event, span)) => tree.event(event, source.location(span.start)),
            Err(error) => Err(tree.scan_error(&error)),
        };
        gauge.event();
        if let Err(ReadAbort { place, report }) = outcome {
            tree.problems.add(source, (place, ""), Level::Error, report);
            return None;
        }
    }
    tree.root
}

/// An error that stops the reading.
struct ReadAbort {
    place: Location,
    report: Report,
}

impl ReadAbort {
    fn new(place: Location, report: Report) -> Self {
        Self { place, report }
    }

    fn documents(place: Location) -> Self {
        let report = Report::new(Code::ManyDocuments, "a second YAML document begins here");
        Self::new(place, report.hint("put each run into its own file"))
    }

    fn nodes(place: Location) -> Self {
        let message = format!("the file has more than {MOST_NODES} values, aliases followed");
        Self::new(
            place,
            Report::new(Code::TooManyNodes, message).hint("use fewer aliases, or move the data out of it"),
        )
    }

    fn text(place: Location) -> Self {
        let message = format!("the file has more than {MOST_TEXT} bytes of text, aliases followed");
        let report = Report::new(Code::TooLarge, message);
        Self::new(place, report.hint("use fewer aliases of long texts, or move them out of the file"))
    }

    fn anchors(place: Location) -> Self {
        let report =
            Report::new(Code::TooManyNodes, format!("the file has more than {MOST_ANCHORS} anchors"));
        Self::new(place, report.hint("write values out where they are needed"))
    }

    fn depth(place: Location) -> Self {
        let message = format!("lists and maps are nested more than {DEEPEST} deep");
        Self::new(place, Report::new(Code::TooDeep, message).hint("flatten them"))
    }
}

/// The tree as far as it was read.
struct Tree<'a, 't> {
    source: &'a Source<'t>,
    problems: &'a mut Problems,
    gauge: &'a Gauge,
    /// Finished nodes by the number of their anchor.
    anchors: BTreeMap<usize, Rc<Node>>,
    open: Vec<Open>,
    root: Option<Rc<Node>>,
    /// What was read, aliases and merge keys followed.
    size: Size,
}

impl Tree<'_, '_> {
    fn event(&mut self, event: Event<'_>, place: Location) -> Result<(), ReadAbort> {
        match event {
            Event::Alias(anchor) => self.alias(anchor, place),
            Event::Scalar(text, style, anchor, tag) => {
                let plain = self.plain(style, tag.as_deref(), place);
                let size = Size::one(text.len());
                self.count(size, place)?;
                let kind = Kind::Scalar { text: text.into_owned().into_boxed_str(), plain };
                self.close(Node { place, kind, size, height: 0 }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.tag(tag.as_deref(), "seq", place);
                self.open(Open { place, anchor, entries: None, items: Vec::new() })
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(tag.as_deref(), "map", place);
                self.open(Open { place, anchor, entries: Some(Vec::new()), items: Vec::new() })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => Ok(()),
        }
    }

    fn count(&mut self, size: Size, place: Location) -> Result<(), ReadAbort> {
        self.size.add(size);
        match self.size {
            Size { nodes, .. } if nodes > MOST_NODES => Err(ReadAbort::nodes(place)),
            Size { text, .. } if text > MOST_TEXT => Err(ReadAbort::text(place)),
            _ => Ok(()),
        }
    }

    fn open(&mut self, open: Open) -> Result<(), ReadAbort> {
        self.count(Size::one(0), open.place)?;
        if self.open.len() >= DEEPEST {
            return Err(ReadAbort::depth(open.place));
        }
        self.open.push(open);
        Ok(())
    }

    fn alias(&mut self, anchor: usize, place: Location) -> Result<(), ReadAbort> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            let report =
                Report::new(Code::RecursiveAlias, "this alias stands inside the value that it refers to");
            return Err(ReadAbort::new(place, report.hint("write the value out")));
        };
        self.count(node.size, place)?;
        if self.open.len() + node.height > DEEPEST {
            return Err(ReadAbort::depth(place));
        }
        self.attach(node);
        Ok(())
    }

    /// Ends the innermost list or map.
    fn end(&mut self) -> Result<(), ReadAbort> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let (place, anchor) = (open.place, open.anchor);
        let kind = match open.entries {
            None => Kind::List(open.items),
            Some(entries) => Kind::Map(self.map(entries)?),
        };
        let (mut size, mut height) = (Size::one(0), 0);
        let mut tally = |node: &Node| {
            size.add(node.size);
            height = height.max(node.height);
        };
        match &kind {
            Kind::List(items) => items.iter().for_each(|n| tally(n)),
            Kind::Map(entries) => entries.iter().for_each(|e| (tally(&e.key), tally(&e.value)).1),
            Kind::Scalar { .. } => {}
        }
        self.close(Node { place, kind, size, height: height + 1 }, anchor)
    }

    fn close(&mut self, node: Node, anchor: usize) -> Result<(), ReadAbort> {
        let node = Rc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
            if self.anchors.len() > MOST_ANCHORS {
                return Err(ReadAbort::anchors(node.place));
            }
        }
        self.attach(node);
        Ok(())
    }

    /// Puts a finished node into the list or map around it.
    fn attach(&mut self, node: Rc<Node>) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open { entries: None, items, .. }) => items.push(node),
            // In a map, `items` holds the key until its value comes.
            Some(Open { entries: Some(entries), items, .. }) => match items.pop() {
                None => items.push(node),
                Some(key) => entries.push(Entry { key, value: node }),
            },
        }
    }

    /// Resolves merge keys and refuses duplicate and unusable ones.
    fn map(&mut self, entries: Vec<Entry>) -> Result<Vec<Entry>, ReadAbort> {
        let mut own: BTreeMap<&str, Location> = BTreeMap::new();
        let mut merged: Vec<Entry> = Vec::new();
        let mut kept = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let Some(name) = entry.key.text() else {
                self.bad_key(entry);
                kept.push(index);
                continue;
            };
            if name == "<<" && entry.key.is_plain() {
                self.merge(entry, &mut merged)?;
            } else if let Some(first) = own.get(name).copied() {
                self.duplicate(name, first, entry.key.place);
            } else {
                own.insert(name, entry.key.place);
                kept.push(index);
            }
        }
        if merged.is_empty() && kept.len() == entries.len() {
            return Ok(entries);
        }
        let mut all = Vec::with_capacity(merged.len() + kept.len());
        let mut seen = own;
        for entry in &merged {
            if !seen.contains_key(entry.name()) {
                seen.insert(entry.name(), entry.key.place);
                all.push(entry.clone());
            }
        }
        all.extend(kept.into_iter().filter_map(|index| entries.get(index).cloned()));
        Ok(all)
    }

    /// Adds what `<<` refers to; the first of several maps wins.
    fn merge(&mut self, entry: &Entry, merged: &mut Vec<Entry>) -> Result<(), ReadAbort> {
        let maps = match &entry.value.kind {
            Kind::Map(_) => std::slice::from_ref(&entry.value),
            Kind::List(items) => items,
            Kind::Scalar { .. } => &[],
        };
        let all_maps = maps.iter().all(|map| matches!(map.kind, Kind::Map(_)));
        if !all_maps || matches!(entry.value.kind, Kind::Scalar { .. }) {
            let report = Report::new(Code::BadMerge, "the merge key `<<` needs a map or a list of maps");
            let at = (entry.value.place, "<<");
            self.problems.add(
                self.source,
                at,
                Level::Error,
                report.hint("write `<<: *name`, where `name` is a map"),
            );
            return Ok(());
        }
        for map in maps {
            if let Kind::Map(entries) = &map.kind {
                self.count(map.size, entry.key.place)?;
                merged.extend(entries.iter().cloned());
            }
        }
        Ok(())
    }

    fn bad_key(&mut self, entry: &Entry) {
        let (place, report) = match syntax::placeholder_at(self.source, entry.key.place) {
            Some((place, found)) => (place, syntax::placeholder(&found)),
            None => {
                (entry.key.place, Report::new(Code::BadKey, "a key must be text").hint("write `key: value`"))
            }
        };
        self.problems.add(self.source, (place, ""), Level::Error, report);
    }

    fn duplicate(&mut self, name: &str, first: Location, second: Location) {
        let name = syntax::clip(name);
        let message =
            format!("the key `{name}` stands here and on line {}:{} already", first.line, first.column);
        let report = Report::new(Code::DuplicateKey, message).hint("keep one of them");
        self.problems.add(self.source, (second, &name), Level::Error, report);
    }

    /// Whether a scalar is to be read as a plain one. `!!str` makes text of anything.
    fn plain(&mut self, style: ScalarStyle, tag: Option<&Tag>, place: Location) -> bool {
        let known = match tag {
            None => return style == ScalarStyle::Plain,
            Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => true,
            Some(tag) => tag.is_yaml_core_schema() && SCALAR_TAGS.contains(&tag.suffix.as_str()),
        };
        if !known {
            self.unknown_tag(tag, place);
        }
        style == ScalarStyle::Plain && tag.is_none_or(|tag| !matches!(tag.suffix.as_str(), "str" | "!"))
    }

    fn tag(&mut self, tag: Option<&Tag>, expected: &str, place: Location) {
        if tag.is_some_and(|tag| !(tag.is_yaml_core_schema() && tag.suffix == expected)) {
            self.unknown_tag(tag, place);
        }
    }

    fn unknown_tag(&mut self, tag: Option<&Tag>, place: Location) {
        let tag = syntax::clip(&tag.map(|tag| format!("{}{}", tag.handle, tag.suffix)).unwrap_or_default());
        let report = Report::new(Code::UnknownTag, format!("the tag `{tag}` has no meaning here"))
            .hint("remove it, or quote the text if the `!` belongs to it");
        self.problems.add(self.source, (place, ""), Level::Error, report);
    }

    /// What to say when the parser gives up: our own bounds first, then what YAML does not allow.
    fn scan_error(&mut self, error: &ScanError) -> ReadAbort {
        let place = self.source.location(*error.marker());
        match self.gauge.stopped() {
            Some(Stop::Tokens) => ReadAbort::nodes(place),
            Some(Stop::Depth) => ReadAbort::depth(place),
            None => {
                let (place, report) = syntax::explain(self.source, self.problems, place, error.info());
                ReadAbort::new(place, report)
            }
        }
    }
}

/// Tags of scalars that mean nothing more than the text itself.
const SCALAR_TAGS: [&str; 6] = ["str", "int", "float", "bool", "null", "timestamp"];
