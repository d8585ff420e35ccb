//! Uploads: blobs that come before the version that needs them. What came is kept until the upload ends, also over a restart.
use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use jiff::ToSpan;
use vessl_core::access::{Action, Caller, Scope, allowed};
use vessl_core::ids::OrganizationName;
use vessl_core::wire::registry::{BlobState, UploadView};
use vessl_data::blob::Digest;
use vessl_data::incoming::{Incoming, Pack};
use vessl_data::locked;

use super::receive::Receiver;
use super::{Registry, RegistryError, Result, random_name};
use crate::store::uploads::Upload;

/// Longest address of what an upload is for, in bytes.
const LONGEST: usize = 500;
/// Seconds between two notes that something came.
const NOTED: i64 = 60;

/// An upload as people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRef {
    /// Whose it is.
    pub organization: OrganizationName,
    /// Its name.
    pub id: String,
}

/// What a client says of the piece of a blob that it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// BLAKE3 of the blob.
    pub digest: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// Where the piece begins.
    pub offset: u64,
}

/// Nobody else receives this blob of this upload, or this file of this volume, while it lives.
#[derive(Debug)]
pub struct OnlyOne {
    all: Arc<Mutex<HashSet<String>>>,
    own: String,
}

impl Drop for OnlyOne {
    fn drop(&mut self) {
        locked(&self.all).remove(&self.own);
    }
}

impl Registry {
    /// Begins an upload.
    pub async fn begin_upload(
        &self,
        caller: &Caller,
        of: &OrganizationName,
        object: Option<String>,
    ) -> Result<UploadView> {
        allowed(caller, Action::Run, Scope::Organization(of.clone()))?;
        self.known_organization(of).await?;
        if object.as_ref().is_some_and(|name| name.len() > LONGEST || name.contains(char::is_control)) {
            let words = format!("`object` has at most {LONGEST} bytes and no control characters");
            return Err(RegistryError::Malformed(words));
        }
        Ok(Self::view(&self.new_upload(caller, of, object).await?))
    }

    /// Uploads of an organization that go on, the oldest first, with what came for each.
    pub async fn uploads(&self, caller: &Caller, of: &OrganizationName) -> Result<Vec<UploadView>> {
        allowed(caller, Action::Read, Scope::Organization(of.clone()))?;
        self.known_organization(of).await?;
        let all = self.store.uploads().await?;
        let living = all.iter().filter(|upload| upload.organization == *of && self.is_living(upload));
        let mut views: Vec<UploadView> = living.map(Self::view).collect();
        let dirs = self.uploads.clone();
        self.blocking(move |_| {
            for view in &mut views {
                view.bytes += parts(&dirs.join(&view.id))?;
            }
            Ok(views)
        })
        .await
    }

    /// Whether an upload goes on, and how long.
    pub async fn upload(&self, caller: &Caller, of: &UploadRef) -> Result<UploadView> {
        Ok(Self::view(&self.living(caller, of).await?))
    }

    /// Ends an upload whose blobs nobody needs.
    pub async fn end_upload(&self, caller: &Caller, of: &UploadRef) -> Result<()> {
        let upload = self.living(caller, of).await?;
        self.forget_upload(upload.id).await
    }

    /// Those of the blobs that are not here. The others are kept until the upload ends.
    pub async fn missing(
        &self,
        caller: &Caller,
        of: &UploadRef,
        digests: Vec<String>,
    ) -> Result<Vec<String>> {
        let upload = self.touched(caller, of).await?;
        let wanted = digests.iter().map(|text| read_digest(text)).collect::<Result<Vec<_>>>()?;
        let missing = self.blocking(move |blobs| Ok(blobs.missing(&wanted, since(&upload))?)).await?;
        Ok(missing.into_iter().map(String::from).collect())
    }

    /// How much of a blob is here.
    pub async fn blob(&self, caller: &Caller, of: &UploadRef, digest: Digest) -> Result<BlobState> {
        let upload = self.living(caller, of).await?;
        let dir = self.uploads.join(&upload.id);
        self.blocking(move |blobs| {
            if blobs.missing(&[digest], since(&upload))?.is_empty() {
                let received = blobs.size(digest)?.unwrap_or_default();
                return Ok(BlobState { received, complete: true });
            }
            Ok(BlobState { received: Incoming::received(&dir, digest)?, complete: false })
        })
        .await
    }

    /// Begins to receive a piece of a blob.
    pub async fn receive(
        &self,
        caller: &Caller,
        of: &UploadRef,
        piece: Announced,
    ) -> Result<Receiver<Incoming, OnlyOne>> {
        let upload = self.touched(caller, of).await?;
        let digest = piece.digest.to_string();
        let one = self.only_one(format!("{}/{digest}", upload.id), &digest)?;
        let dir = self.uploads.join(&upload.id);
        let Announced { digest, size, offset } = piece;
        let (incoming, one) =
            self.blocking(move |_| Ok((Incoming::open(&dir, (digest, size), offset)?, one))).await?;
        Ok(Receiver::new(incoming, one))
    }

    /// The end of a piece: the blob, if it was the last one.
    pub async fn received(
        &self,
        of: &UploadRef,
        piece: Announced,
        from: Receiver<Incoming, OnlyOne>,
    ) -> Result<BlobState> {
        let blobs = Arc::clone(&self.blobs);
        let received = from.finish(move |incoming| incoming.finish(&blobs)).await?;
        let complete = received == piece.size;
        if complete {
            self.store.add_upload_bytes(of.id.clone(), received).await?;
        }
        Ok(BlobState { received, complete })
    }

    /// Begins to receive many small blobs.
    pub async fn receive_pack(&self, caller: &Caller, of: &UploadRef) -> Result<Receiver<Pack, ()>> {
        self.touched(caller, of).await?;
        Ok(Receiver::new(self.blocking(|blobs| Ok(Pack::begin(blobs)?)).await?, ()))
    }

    /// The end of a pack; answers how many blobs there were.
    pub async fn received_pack(&self, of: &UploadRef, from: Receiver<Pack, ()>) -> Result<usize> {
        let bytes = from.received();
        let blobs = from.finish(Pack::finish).await?;
        self.store.add_upload_bytes(of.id.clone(), bytes).await?;
        Ok(blobs)
    }

    pub(super) async fn new_upload(
        &self,
        caller: &Caller,
        of: &OrganizationName,
        object: Option<String>,
    ) -> Result<Upload> {
        let made = self.made(caller);
        let (id, organization, at) = (random_name()?, of.clone(), made.at);
        let by = made.by.as_ref().map(|by| by.as_str().to_owned());
        self.store.add_upload(id.clone(), (of.clone(), object.clone()), made).await?;
        Ok(Upload { id, organization, by, object, bytes: 0, created_at: at, touched_at: at })
    }

    /// An upload that goes on.
    pub(super) async fn living(&self, caller: &Caller, of: &UploadRef) -> Result<Upload> {
        allowed(caller, Action::Run, Scope::Organization(of.organization.clone()))?;
        let found = self.store.upload(of.id.clone()).await?;
        found.filter(|upload| upload.organization == of.organization && self.is_living(upload)).ok_or_else(
            || {
                let id: String = of.id.chars().take(40).collect();
                let id = id.escape_debug();
                RegistryError::Missing(format!(
                    "there is no upload `{id}`: it has ended, or a day went by; begin another one"
                ))
            },
        )
    }

    /// The same for one to which something comes.
    async fn touched(&self, caller: &Caller, of: &UploadRef) -> Result<Upload> {
        let upload = self.living(caller, of).await?;
        let now = self.now();
        if now.as_second() - upload.touched_at.as_second() >= NOTED {
            self.store.touch_upload(upload.id.clone(), now).await?;
        }
        Ok(upload)
    }

    /// Ends an upload, and removes what came and is no blob.
    pub(super) async fn forget_upload(&self, id: String) -> Result<()> {
        self.store.end_upload(id.clone()).await?;
        self.clear_upload(&id).await;
        Ok(())
    }

    /// Removes what came of an upload that has ended. What cannot be removed is when the next bytes are collected.
    pub(super) async fn clear_upload(&self, id: &str) {
        let dir = self.uploads.join(id);
        let _ = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(dir)).await;
    }

    /// Holds off everybody else who brings the same thing.
    pub(super) fn only_one(&self, own: String, shown: &str) -> Result<OnlyOne> {
        if !locked(&self.receiving).insert(own.clone()) {
            let message = format!("another request brings `{}` at this moment", shown.escape_debug());
            return Err(RegistryError::refused(
                message,
                "ask how much has come, and go on there when it has ended",
            ));
        }
        Ok(OnlyOne { all: Arc::clone(&self.receiving), own })
    }

    fn view(upload: &Upload) -> UploadView {
        let expires_at = upload.touched_at.checked_add(24.hours()).unwrap_or(upload.touched_at);
        UploadView {
            id: upload.id.clone(),
            expires_at,
            created_at: upload.created_at,
            created_by: upload.by.clone(),
            object: upload.object.clone(),
            bytes: upload.bytes,
        }
    }
}

/// Bytes of what has not come as a whole.
fn parts(dir: &Path) -> Result<u64> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut bytes = 0;
    for entry in entries {
        // One that has just become a blob is counted there.
        bytes += entry?.metadata().map_or(0, |about| about.len());
    }
    Ok(bytes)
}

/// From when on what is put is kept for an upload.
pub(super) fn since(upload: &Upload) -> SystemTime {
    SystemTime::from(upload.created_at)
}

pub(super) fn read_digest(text: &str) -> Result<Digest> {
    text.parse().map_err(|error| {
        let text: String = text.chars().take(80).collect();
        RegistryError::Malformed(format!("`{}` is no digest: {error}", text.escape_debug()))
    })
}
