//! Whether everything is there that a version needs. It must not know how blobs are kept.
use std::path::PathBuf;

use super::{Form, Kind, Manifest, chunks_of, read};
use crate::DataError;
use crate::blob::{Checked, Digest, Standing, Store};

/// Something that a version needs and that is not there as it was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path inside the tree; `None` is the manifest, and so everything.
    pub path: Option<PathBuf>,
    /// What is needed.
    pub digest: Digest,
    /// The file on disk that is damaged; of what is missing there is none.
    pub file: Option<PathBuf>,
    /// What is wrong, as `a chunk of it is missing`.
    pub why: String,
}

/// Everything of a version that is damaged or missing, by what a look at the store found.
pub fn check_version(store: &Store, version: Digest, found: &Checked) -> Result<Vec<Fault>, DataError> {
    let mut faults = Vec::new();
    let harmed = |path: Option<PathBuf>, what: &str, digest: Digest| match found.standing(digest) {
        Standing::Whole => None,
        Standing::Damaged(harm) => {
            let why = format!("{what} is damaged: {}", harm.why);
            Some(Fault { path, digest, file: Some(harm.file.clone()), why })
        }
        Standing::Missing => Some(Fault { path, digest, file: None, why: format!("{what} is missing") }),
    };
    if let Some(fault) = harmed(None, "its list of files", version) {
        return Ok(vec![fault]);
    }
    let manifest = match read(store, version) {
        Ok(manifest) => manifest,
        Err(e @ DataError::Manifest { .. }) => {
            return Ok(vec![Fault { path: None, digest: version, file: None, why: e.to_string() }]);
        }
        Err(e) => return Err(e),
    };
    for entry in Manifest::entries(&manifest) {
        let Kind::File { digest, form, .. } = entry.kind else { continue };
        let path = || Some(entry.path.clone());
        let what = if form == Form::Chunks { "its list of chunks" } else { "its content" };
        if let Some(fault) = harmed(path(), what, digest) {
            faults.push(fault);
            continue;
        }
        match chunks_of(store, entry) {
            Ok(chunks) => {
                faults.extend(chunks.iter().filter_map(|chunk| harmed(path(), "a part of it", *chunk)));
            }
            Err(e @ DataError::Recipe { .. }) => {
                faults.push(Fault { path: path(), digest, file: None, why: e.to_string() });
            }
            Err(e) => return Err(e),
        }
    }
    Ok(faults)
}
