//! The manifests that were read last, so that whoever fetches the files of a version one by one does not have it read for each of
//! them. A manifest is named by its hash: one that is kept is never stale.
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vessl_data::blob;
use vessl_data::locked;
use vessl_data::tree::{MAX_ENTRIES, Manifest};

use super::Result;
use super::files::manifest;

/// Most that are kept, and their entries together; the newest is kept whatever it has.
const MOST: usize = 8;
const ENTRIES: usize = MAX_ENTRIES / 4;
/// How long one is kept that nobody asks for, until somebody asks for another.
const KEPT: Duration = Duration::from_mins(1);

/// Those that were read last, the newest first.
#[derive(Debug, Default)]
pub(super) struct Manifests(Mutex<VecDeque<Kept>>);

#[derive(Debug)]
struct Kept {
    version: String,
    manifest: Arc<Manifest>,
    asked: Instant,
}

impl Manifests {
    /// The manifest of a version. Blocks.
    pub(super) fn get(&self, blobs: &blob::Store, version: &str) -> Result<Arc<Manifest>> {
        if let Some(manifest) = self.known(version) {
            return Ok(manifest);
        }
        let manifest = Arc::new(manifest(blobs, version)?);
        self.keep(version, &manifest);
        Ok(manifest)
    }

    fn known(&self, version: &str) -> Option<Arc<Manifest>> {
        let mut all = locked(&self.0);
        let at = all.iter().position(|kept| kept.version == version)?;
        let mut kept = all.remove(at)?;
        kept.asked = Instant::now();
        let manifest = Arc::clone(&kept.manifest);
        all.push_front(kept);
        Some(manifest)
    }

    fn keep(&self, version: &str, manifest: &Arc<Manifest>) {
        let mut all = locked(&self.0);
        all.retain(|kept| kept.version != version && kept.asked.elapsed() < KEPT);
        let (version, manifest, asked) = (version.to_owned(), Arc::clone(manifest), Instant::now());
        all.push_front(Kept { version, manifest, asked });
        let mut entries = 0;
        let fits = all.iter().take_while(|kept| {
            entries += kept.manifest.entries().len();
            entries <= ENTRIES
        });
        let most = fits.count().clamp(1, MOST);
        all.truncate(most);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use vessl_data::tree::{Entry, Kind};

    use super::*;

    #[test]
    fn what_was_read_last_is_kept_as_far_as_there_is_room() {
        let of = |count: usize| {
            let entry = |n| Entry {
                path: PathBuf::from(format!("{n:08}")),
                kind: Kind::Dir { mode: 0o755 },
                modified: None,
            };
            Arc::new(Manifest::new((0..count).map(entry).collect()).unwrap())
        };
        let manifests = Manifests::default();
        let check = |expected: &[&str]| {
            let all = locked(&manifests.0);
            let kept: Vec<&str> = all.iter().map(|kept| kept.version.as_str()).collect();
            assert_eq!(kept, expected);
        };
        let small = of(1);
        for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "b"] {
            manifests.keep(name, &small);
        }
        check(&["b", "i", "h", "g", "f", "e", "d", "c"]);
        assert!(manifests.known("g").is_some() && manifests.known("a").is_none());
        check(&["g", "b", "i", "h", "f", "e", "d", "c"]);
        manifests.keep("large", &of(ENTRIES - 2));
        check(&["large", "g", "b"]);
        manifests.keep("larger", &of(ENTRIES + 1));
        check(&["larger"]);
    }
}
