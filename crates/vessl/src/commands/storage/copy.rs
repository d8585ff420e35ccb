//! `vessl storage copy-file`.
use std::path::Path;

use serde_json::json;
use vessl_core::wire::FileKind;
use vessl_core::wire::registry::VolumeCopy;

use super::{InVolume, SCHEME};
use crate::client::{Client, FileSource};
use crate::commands::objects::{download, kind_at, place, tree_path};
use crate::commands::upload;
use crate::error::{Error, Result};
use crate::output::views;
use crate::session::Session;

/// Copies into a volume, out of it, or between two.
pub(super) async fn copy(client: &mut Client, source: &str, dest: &str, session: &Session) -> Result<()> {
    match (source.starts_with(SCHEME), dest.starts_with(SCHEME)) {
        (true, true) => between(client, &InVolume::parse(source)?, &InVolume::parse(dest)?, session).await,
        (true, false) => {
            let from = InVolume::parse(source)?;
            let volume = FileSource::Volume(from.volume(client).await?);
            // Of a directory what is in it; of a file the same path is the file.
            let content = format!("{}/.", from.path);
            download(client, volume, (&content, Path::new(dest)), session).await
        }
        (false, true) => into(client, source, &InVolume::parse(dest)?, session).await,
        (false, false) => Err(Error::Usage {
            message: "neither of the two is in a volume".to_owned(),
            hint: "a place in a volume is `volume://STORAGE/VOLUME[/PATH]`".to_owned(),
        }),
    }
}

async fn into(client: &mut Client, source: &str, to: &InVolume, session: &Session) -> Result<()> {
    let mut local = upload::look(Path::new(source), session).await?;
    if local.top.is_some() {
        local.name = None;
    }
    let volume = to.volume(client).await?;
    let there = kind_at(client, &FileSource::Volume(volume.clone()), &tree_path(&to.path)?).await?;
    let dest = if to.means_dir { format!("{}/", to.path) } else { to.path.clone() };
    let place = place(&local, &dest, there)?;
    let (files, bytes) = upload::to_volume(client, local, (&volume, &place), session).await?;
    let counted = counted(files as u64);
    let words = format!("copied {counted}, {}, to {volume}/{}", views::size(bytes), to.path);
    session.out.outcome(&json!({ "files": files, "bytes": bytes }), &words)
}

async fn between(client: &mut Client, from: &InVolume, to: &InVolume, session: &Session) -> Result<()> {
    let (source, target) = (from.volume(client).await?, to.volume(client).await?);
    let kind = kind_at(client, &FileSource::Volume(source.clone()), &tree_path(&from.path)?).await?;
    let there = kind_at(client, &FileSource::Volume(target.clone()), &tree_path(&to.path)?).await?;
    let into_dir = to.means_dir || there == Some(FileKind::Directory);
    let is_dir = matches!(kind, Some(FileKind::Directory) | None);
    let name = from.path.rsplit('/').next().unwrap_or_default();
    let path = if into_dir && !is_dir { joined(&to.path, name) } else { to.path.clone() };
    let InVolume { storage, volume, .. } = to.clone();
    let request = VolumeCopy {
        from: from.path.clone(),
        to_storage: Some(storage),
        to_volume: Some(volume),
        to: path.clone(),
    };
    let copied = client.copy_in_volumes(&source, &request).await?;
    for note in &copied.notes {
        session.out.warn(note);
    }
    let counted = counted(copied.files);
    let words = format!(
        "copied {counted}, {}, from {source}/{} to {target}/{path}",
        views::size(copied.bytes),
        from.path
    );
    let told = json!({ "copied": format!("{target}/{path}"), "files": copied.files, "bytes": copied.bytes });
    session.out.outcome(&told, &words)
}

fn counted(files: u64) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}

fn joined(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}
