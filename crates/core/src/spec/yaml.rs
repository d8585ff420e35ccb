//! The map that a canonical run file is printed from. It knows no field of the run file.
use serde_json::{Map, Value};

/// A map that grows key by key.
#[derive(Default)]
pub(super) struct Yaml(Map<String, Value>);

impl Yaml {
    /// `key: value`, or nothing for `None`.
    pub(super) fn text(&mut self, key: &str, value: Option<&str>) {
        self.0.extend(value.map(|value| (key.to_owned(), value.into())));
    }

    /// `key: value` for a number, or a flag, or an amount that reads as text.
    pub(super) fn bare(&mut self, key: &str, value: impl std::fmt::Display) {
        let text = value.to_string();
        self.0.insert(key.to_owned(), serde_json::from_str(&text).unwrap_or_else(|_| text.into()));
    }

    /// `key:` with any value.
    pub(super) fn value(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    /// `key:` with the map that `body` writes.
    pub(super) fn map(&mut self, key: &str, body: impl FnOnce(&mut Self)) {
        self.value(key, Self::of(body));
    }

    /// `key:` with a list whose items are maps written by `body`; nothing for an empty list.
    pub(super) fn maps<T>(&mut self, key: &str, items: &[T], body: impl Fn(&mut Self, &T)) {
        if !items.is_empty() {
            let items = items.iter().map(|item| Self::of(|yaml| body(yaml, item)));
            self.0.insert(key.to_owned(), items.collect());
        }
    }

    /// `key:` with a list of texts; nothing for an empty list.
    pub(super) fn texts(&mut self, key: &str, items: &[String]) {
        if !items.is_empty() {
            self.0.insert(key.to_owned(), items.into());
        }
    }

    /// The document.
    pub(super) fn finish(self) -> String {
        crate::yaml::write(&self.0.into())
    }

    fn of(body: impl FnOnce(&mut Self)) -> Value {
        let mut inner = Self::default();
        body(&mut inner);
        inner.0.into()
    }
}
