//! Which files of a version or volume come where on this machine, as `cp -r` would put them.
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use vessl_core::spelling;
use vessl_core::wire::{FileKind, FileView};

use super::place::tree_path;
use super::with_hint;
use crate::client::{Client, FileSource, Listed, is_missing};
use crate::commands::download::{Chosen, bring};
use crate::commands::upload::spelled;
use crate::error::Result;
use crate::output::{Format, clean};
use crate::session::Session;

/// What is at a path; `None` if there is nothing.
pub(crate) async fn kind_at(
    client: &mut Client,
    source: &FileSource,
    path: &Path,
) -> Result<Option<FileKind>> {
    let path = spelled(path);
    if path.is_empty() {
        return Ok(Some(FileKind::Directory));
    }
    match client.files_of(source, Listed::in_dir(&path)).await {
        Ok(files) => Ok(Some(itself(&files, &path).map_or(FileKind::Directory, |file| file.kind))),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The one that a list of a path is of, if that is no directory.
fn itself<'a>(files: &'a [FileView], path: &str) -> Option<&'a FileView> {
    match files {
        [one] if one.path == path && one.kind != FileKind::Directory => Some(one),
        _ => None,
    }
}

/// Brings a file or directory here.
pub(crate) async fn download(
    client: &mut Client,
    source: FileSource,
    (wanted, dest): (&str, &Path),
    session: &Session,
) -> Result<()> {
    let path = tree_path(wanted)?;
    let text = spelled(&path);
    let files = client.files_of(&source, Listed::below(&text)).await;
    let files = files
        .map_err(|error| with_hint(error, || "`list-files --recursive` lists what there is".to_owned()))?;
    if let Some(file) = itself(&files, &text) {
        let (dir, name) = file_place(&path, dest);
        return bring(client, source, vec![(file.clone(), name)], (&dir, session)).await;
    }
    let is_content = path.as_os_str().is_empty() || wanted == "." || wanted.ends_with("/.");
    let above = if is_content { path.clone() } else { path.parent().unwrap_or(Path::new("")).to_owned() };
    let mut chosen: Vec<Chosen> = Vec::new();
    if !is_content {
        // The directory itself is not in its list, but in that of the one above it.
        let beside = client.files_of(&source, Listed::in_dir(&spelled(&above))).await?;
        let own = beside.into_iter().find(|file| file.path == text);
        chosen.extend(own.and_then(|file| below(file, &above)));
    }
    chosen.extend(files.into_iter().filter_map(|file| below(file, &above)));
    if chosen.is_empty() {
        let nothing = format!("there is nothing in `{}`", clean(wanted));
        return match session.out.format() {
            Format::Table => {
                session.out.note(&nothing);
                Ok(())
            }
            _ => session.out.data::<[(); 0]>(&[]),
        };
    }
    bring(client, source, chosen, (dest, session)).await
}

/// A file with where it lands; the directory that lands itself has no place.
fn below(file: FileView, above: &Path) -> Option<Chosen> {
    let path = spelling::path(&file.path);
    let place = path.strip_prefix(above).ok()?.to_owned();
    let is_top = place.as_os_str().is_empty() || place == Path::new(".");
    (!is_top).then_some((file, place))
}

/// The directory that a single file lands in, and its name there.
fn file_place(path: &Path, dest: &Path) -> (PathBuf, PathBuf) {
    let own = path.file_name().unwrap_or(OsStr::new(""));
    let means_dir = dest.as_os_str().as_bytes().ends_with(b"/") || dest.is_dir();
    match dest.file_name() {
        Some(name) if !means_dir => {
            let dir = dest.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            (dir.to_owned(), name.into())
        }
        _ => (dest.to_owned(), own.into()),
    }
}
