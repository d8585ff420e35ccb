//! Where in a settings file its keys stand, so that a wrong one can be named by line and column. It judges nothing.
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// One key of the file.
pub(super) struct Entry {
    /// Like `presets[0].cpu`.
    pub(super) path: String,
    /// Bytes of the key, for a table of a list those of the table.
    pub(super) key: Range<usize>,
    /// Bytes of its value.
    value: Range<usize>,
}

/// Every key of the file, outer ones first; none of a file that is not TOML.
pub(super) fn entries(text: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    if let Ok(table) = DeTable::parse(text) {
        of_table(table.get_ref(), "", &mut found);
    }
    found
}

fn of_table(table: &DeTable<'_>, above: &str, found: &mut Vec<Entry>) {
    for (key, value) in table {
        let path = format!("{above}{}", key.get_ref());
        found.push(Entry { path: path.clone(), key: key.span(), value: value.span() });
        for (index, item) in value.get_ref().as_array().into_iter().flatten().enumerate() {
            if let DeValue::Table(below) = item.get_ref() {
                let path = format!("{path}[{index}]");
                found.push(Entry { path: path.clone(), key: item.span(), value: item.span() });
                of_table(below, &format!("{path}."), found);
            }
        }
    }
}

/// The innermost key whose value has this byte.
pub(super) fn around(entries: &[Entry], offset: usize) -> Option<&Entry> {
    entries.iter().rev().filter(|entry| entry.value.contains(&offset)).min_by_key(|entry| entry.value.len())
}

/// `LINE:COLUMN` of a byte, both from 1, the column in characters.
pub(super) fn of_offset(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    format!("{}:{}", before.matches('\n').count() + 1, line.chars().count() + 1)
}
