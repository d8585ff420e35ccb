//! Copies within and between volumes, whatever these are made of. Links are treated as exports do: one that stays inside is copied as a
//! link, one that leads out is not followed but named. Everything here blocks.
use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use vessl_core::spelling;
use vessl_core::wire::registry::VolumeCopied;
use vessl_data::Watch;
use vessl_data::bucket::Outgoing;
use vessl_data::dir::{self, Dir, Modified};
use vessl_data::tree::{self, Bounds, Source, Target};

use super::volume_files::{PARTS, check_way, make_way, missing, parent_of, place, said};
use super::volumes::Files;
use super::{RegistryError, Result, random_name};

/// A place in a volume; the empty path is the volume itself.
#[derive(Debug)]
pub(super) struct End {
    pub(super) files: Files,
    pub(super) path: PathBuf,
}

/// What is copied, on this machine.
#[derive(Clone, Copy)]
struct Here<'a> {
    root: &'a Dir,
    path: &'a Path,
    /// Whether it is a whole volume, with what is on its way into that.
    is_volume: bool,
}

/// Copies a file, or what is in a directory.
pub(super) fn copy(from: &End, to: &End) -> Result<VolumeCopied> {
    let is_volume = from.path.as_os_str().is_empty();
    match &from.files {
        Files::Directory(root) => deliver(Here { root, path: &from.path, is_volume }, to),
        Files::Bucket(bucket) => {
            let fetched = bucket.fetch(&from.path)?;
            let root = Dir::open(fetched.dir.path())?;
            let mut copied = deliver(Here { root: &root, path: &fetched.name, is_volume }, to)?;
            copied.notes.splice(0..0, fetched.notes);
            Ok(copied)
        }
    }
}

fn deliver(from: Here<'_>, to: &End) -> Result<VolumeCopied> {
    let text = spelling::spell(from.path.as_os_str().as_bytes());
    let kind = if from.path.as_os_str().is_empty() {
        Some(dir::Kind::Dir)
    } else {
        let (parent, name) = parent_of(from.root, from.path).map_err(|error| said(&text, error))?;
        parent.kind(&name)?
    };
    match kind {
        Some(dir::Kind::Dir) => directory(from, to),
        Some(dir::Kind::File) if to.path.as_os_str().is_empty() => {
            let message = format!("`{text}` is a file: say which name it gets in the volume");
            Err(RegistryError::Malformed(message))
        }
        Some(dir::Kind::File) => file(from, to, &text),
        Some(dir::Kind::Symlink) => Err(RegistryError::refused(
            format!("`{text}` is a symbolic link"),
            "copy what it leads to, or the directory that it is in",
        )),
        Some(dir::Kind::Other) => {
            Err(RegistryError::refused(format!("`{text}` is no file and no directory"), ""))
        }
        None => Err(missing(&text)),
    }
}

fn directory(from: Here<'_>, to: &End) -> Result<VolumeCopied> {
    let source = Source { root: from.root, path: from.path, reader: None };
    let into = match &to.files {
        Files::Directory(into) => into,
        Files::Bucket(bucket) => {
            let what = if from.is_volume { Outgoing::Volume(source) } else { Outgoing::Tree(source) };
            return bucket.add(what, &to.path);
        }
    };
    check_way(into, &to.path)?;
    let parts = PathBuf::from(format!("{}{}", tree::ON_ITS_WAY, random_name()?));
    let text = spelling::spell(to.path.as_os_str().as_bytes());
    let into = make_way(into, &to.path).map_err(|error| said(&text, error))?;
    let target = Target { dir: &into, owner: None, parts: &parts };
    let copy = if from.is_volume { tree::copy_volume } else { tree::copy };
    let copied = copy(source, target, Bounds::FORMAT, &Watch::NONE)?;
    let notes = copied.warnings.iter().map(|warning| {
        format!("`{}` {}", spelling::spell(warning.path.as_os_str().as_bytes()), warning.text)
    });
    Ok(VolumeCopied { files: copied.files, bytes: copied.bytes, notes: notes.collect() })
}

fn file(from: Here<'_>, to: &End, text: &str) -> Result<VolumeCopied> {
    let file = from.root.file(from.path).map_err(|error| said(text, error))?;
    let into = match &to.files {
        Files::Directory(into) => into,
        Files::Bucket(bucket) => return bucket.put(&to.path, &file),
    };
    check_way(into, &to.path)?;
    let meta = file.metadata()?;
    into.make_dir(Path::new(PARTS), 0o755)?;
    let dir = into.dir(Path::new(PARTS))?;
    let part = PathBuf::from(random_name()?);
    let copying = || {
        let mut new = dir.create_file(&part, 0o600)?;
        std::io::copy(&mut &file, &mut new)?;
        new.set_permissions(Permissions::from_mode(meta.mode() & 0o777))?;
        dir.set_modified(&part, Modified::of_file(&file)?)?;
        new.sync_all()?;
        place(&dir, &part, into, &to.path)
    };
    copying().map_err(|error| {
        let _ = dir.remove(&part);
        let text = spelling::spell(to.path.as_os_str().as_bytes());
        match error.kind() {
            ErrorKind::IsADirectory => RegistryError::refused(format!("`{text}` is a directory"), ""),
            _ => said(&text, error),
        }
    })?;
    Ok(VolumeCopied { files: 1, bytes: meta.len(), notes: Vec::new() })
}
