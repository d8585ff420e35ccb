//! A version of the store: copied into a directory, or as a directory of its own that its users share.
use vessl_core::wire::ProgressKind;
use vessl_data::blob::Digest;
use vessl_data::dir::Dir;
use vessl_data::tree::{self, Checkout};

use super::progress::follow;
use super::{Moved, TransferContext, TransferError};

pub(super) fn import(
    label: &str,
    manifest: &str,
    into: &Dir,
    cx: &TransferContext<'_>,
) -> Result<Moved, TransferError> {
    let (version, store) = (version(manifest)?, cx.sink.blobs()?);
    let copied = follow(cx, ProgressKind::Import, label, |watch| {
        tree::copy_into(&store, version, into, cx.owner, &watch)
    })?;
    let files = copied.files().count() as u64;
    Ok(Moved {
        version: version.to_string(),
        bytes: copied.bytes(),
        files,
        missing: Vec::new(),
        top: copied.top(),
    })
}

/// The version as a directory that is only read; it stays while what is returned lives.
pub(super) fn checkout(
    label: &str,
    manifest: &str,
    cx: &TransferContext<'_>,
) -> Result<(Moved, Checkout), TransferError> {
    let (version, store) = (version(manifest)?, cx.sink.blobs()?);
    let staging = cx.sink.staging()?;
    let checkout = follow(cx, ProgressKind::Import, label, |watch| {
        tree::checkout(&staging, &store, (label, version), &watch)
    })?;
    let (bytes, files) = (checkout.bytes, checkout.files);
    Ok((
        Moved { version: version.to_string(), bytes, files, missing: Vec::new(), top: checkout.top },
        checkout,
    ))
}

fn version(manifest: &str) -> Result<Digest, TransferError> {
    let bad = |_| TransferError::Plan(format!("`{manifest}` is not the version of a tree"));
    manifest.parse().map_err(bad)
}
