//! What is noted beside a staged directory: one line of JSON, and what its kind of source wants to find again.
use serde::{Deserialize, Serialize};
use vessl_data::staging::Staged;

use super::Moved;

/// What a staged directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    /// The source as its first author named it.
    pub(super) label: String,
    /// Commit, or what was seen.
    pub(super) version: String,
    /// Bytes of all files.
    pub(super) bytes: u64,
    /// Number of files.
    pub(super) files: u64,
}

impl About {
    pub(super) fn print(&self, rest: &[u8]) -> Vec<u8> {
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        text.push(b'\n');
        text.extend_from_slice(rest);
        text
    }

    /// The line, and what is behind it.
    pub(super) fn of(staged: &Staged) -> Option<(Self, Vec<u8>)> {
        let text = staged.about().ok()?;
        let end = text.iter().position(|byte| *byte == b'\n')?;
        Some((serde_json::from_slice(&text[..end]).ok()?, text[end + 1..].to_vec()))
    }

    pub(super) fn moved(self) -> Moved {
        let Self { version, bytes, files, .. } = self;
        Moved { version, bytes, files, ..Moved::default() }
    }
}
