//! Storages, their volumes and the files in those: what can be asked of a server about them, one function each.
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use vessl_core::object::VolumeRef;
use vessl_core::wire::FileView;
use vessl_core::wire::registry::{
    BlobState, StorageCreate, StorageView, VolumeChange, VolumeCopied, VolumeCopy, VolumeCreate, VolumeView,
};

use super::Client;
use super::objects::Listed;
use super::outgoing::Pieces;
use super::path::Path;
use crate::error::Result;

/// A file on its way into a volume.
#[derive(Clone, Debug)]
pub(crate) struct VolumeFile {
    /// Where, spelled as in a list of files.
    pub(crate) path: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Permission bits in octal.
    pub(crate) mode: String,
    /// When it was last modified.
    pub(crate) modified_at: Option<jiff::Timestamp>,
}

impl Client {
    /// All storages.
    pub(crate) async fn storages(&mut self) -> Result<Vec<StorageView>> {
        let path = self.storage(&[]).await?;
        self.get(path.into()).await
    }

    /// Makes one.
    pub(crate) async fn create_storage(&mut self, request: &StorageCreate) -> Result<StorageView> {
        let path = self.storage(&[]).await?;
        self.post(path.into(), request).await
    }

    /// Forgets one.
    pub(crate) async fn delete_storage(&mut self, name: &str) -> Result<()> {
        let path = self.storage(&[name]).await?;
        self.delete(path.into()).await
    }

    /// Volumes of a storage.
    pub(crate) async fn volumes(
        &mut self,
        storage: &str,
        keyword: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Vec<VolumeView>> {
        let path = self.storage(&[storage, "volumes"]).await?;
        self.get(path.with("keyword", keyword).with("limit", limit).into()).await
    }

    /// Makes a volume.
    pub(crate) async fn create_volume(
        &mut self,
        storage: &str,
        request: &VolumeCreate,
    ) -> Result<VolumeView> {
        let path = self.storage(&[storage, "volumes"]).await?;
        self.post(path.into(), request).await
    }

    /// Removes a volume with its files.
    pub(crate) async fn delete_volume(&mut self, storage: &str, volume: &str) -> Result<()> {
        let path = self.storage(&[storage, "volumes", volume]).await?;
        self.delete(path.into()).await
    }

    /// What changed a volume, the newest first.
    pub(crate) async fn volume_changes(
        &mut self,
        volume: &VolumeRef,
        (path, limit): (&str, u32),
    ) -> Result<Vec<VolumeChange>> {
        let all = of(volume, &["changes"]).with("limit", Some(limit));
        self.get(all.with("path", Some(path).filter(|path| !path.is_empty())).into()).await
    }

    /// What is in a directory of a volume, or the one file of that path.
    pub(crate) async fn volume_files(
        &mut self,
        volume: &VolumeRef,
        listed: Listed<'_>,
    ) -> Result<Vec<FileView>> {
        self.get(listed.of(of(volume, &["files"])).into()).await
    }

    /// Removes a file of a volume; with `recursive` also a directory with everything in it.
    pub(crate) async fn delete_volume_file(&mut self, volume: &VolumeRef, listed: Listed<'_>) -> Result<()> {
        self.delete(listed.of(of(volume, &["files"])).into()).await
    }

    /// Copies inside a volume, or to another one.
    pub(crate) async fn copy_in_volumes(
        &mut self,
        from: &VolumeRef,
        request: &VolumeCopy,
    ) -> Result<VolumeCopied> {
        self.post(of(from, &["copy"]).into(), request).await
    }

    /// Puts a file into a volume; `command` is a word for all files that are put together.
    pub(crate) async fn put_volume_file(
        &mut self,
        volume: &VolumeRef,
        (file, command): (&VolumeFile, &str),
        moved: &Arc<AtomicU64>,
        read: impl FnOnce(Pieces) -> Result<()> + Send + 'static,
    ) -> Result<BlobState> {
        let path = of(volume, &["files", "content"])
            .with("path", Some(&file.path))
            .with("command", Some(command))
            .with("size", Some(file.size))
            .with("modified_at", file.modified_at)
            .with("mode", Some(&file.mode));
        self.put_bytes(path, file.size, moved, read).await
    }

    async fn storage(&mut self, rest: &[&str]) -> Result<Path> {
        let organization = self.organization().await?;
        let mut segments = vec!["organizations", organization.as_str(), "storages"];
        segments.extend(rest);
        Ok(Path::of(&segments))
    }
}

pub(super) fn of(volume: &VolumeRef, rest: &[&str]) -> Path {
    let VolumeRef { organization, storage, volume } = volume;
    let mut segments = vec![
        "organizations",
        organization.as_str(),
        "storages",
        storage.as_str(),
        "volumes",
        volume.as_str(),
    ];
    segments.extend(rest);
    Path::of(&segments)
}
