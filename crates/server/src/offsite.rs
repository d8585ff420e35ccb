//! The bucket of the blobs, as the settings name it. What is brought home and what leaves the disk take turns here, so that nothing
//! leaves that a run has just been found to have.
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use vessl_core::secret::Secret;
use vessl_core::units::Memory;
use vessl_core::wire::BlobsView;
use vessl_data::blob::{self, Digest};
use vessl_data::bucket::{Identity, Location, Provider, Session};
use vessl_data::locked;
use vessl_data::offsite::{Amount, Offsite, OffsiteError};
use vessl_data::tree;

use crate::config::Config;
use crate::secrets::read_private;

/// Largest file with a credential.
const LARGEST_KEY: usize = 64 << 10;

/// A setting of the bucket that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the configuration's `{key}` is wrong: {why}")]
pub struct SettingError {
    pub(crate) key: &'static str,
    why: String,
}

fn wrong(key: &'static str, why: &dyn std::fmt::Display) -> SettingError {
    SettingError { key, why: why.to_string() }
}

/// The bucket, and how it stands.
#[derive(Debug)]
pub struct Bucket {
    pub(crate) offsite: Offsite,
    /// Bytes that may stay on this machine; 0 is no limit.
    pub(crate) limit: u64,
    /// Held while it is decided what leaves the disk, and while a run is found to have all that it needs.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// Something was put, or removed.
    pub(crate) wake: Notify,
    standing: Mutex<BlobsView>,
}

/// The bucket of these settings, for the store; `None` if they name none. Asks nobody yet.
pub fn open(config: &Config, store: &blob::Store) -> Result<Option<Arc<Bucket>>, SettingError> {
    if config.blobs_bucket.is_empty() {
        return Ok(None);
    }
    let at = location(config)?;
    let identity = identity(&config.blobs_key_file, at.provider)?;
    let limit: Memory =
        config.blobs_local_limit.parse().map_err(|error| wrong("blobs_local_limit", &error))?;
    let session = Session::open(at, identity).map_err(|error| wrong("blobs_bucket", &error))?;
    let offsite = Offsite::new(store, session);
    let standing = BlobsView { bucket: offsite.location(), ..BlobsView::default() };
    Ok(Some(Arc::new(Bucket {
        offsite,
        limit: limit.0,
        turn: tokio::sync::Mutex::default(),
        wake: Notify::new(),
        standing: Mutex::new(standing),
    })))
}

fn location(config: &Config) -> Result<Location, SettingError> {
    let text = &config.blobs_bucket;
    let parts = [("s3://", Provider::S3), ("gs://", Provider::Gs)];
    let found = parts.into_iter().find_map(|(scheme, provider)| Some((provider, text.strip_prefix(scheme)?)));
    let form = "it is like `s3://BUCKET/PREFIX` or `gs://BUCKET/PREFIX`";
    let (provider, rest) = found.ok_or_else(|| wrong("blobs_bucket", &form))?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Ok(Location {
        provider,
        bucket: bucket.to_owned(),
        prefix: prefix.trim_end_matches('/').to_owned(),
        endpoint: some(&config.blobs_endpoint),
        region: some(&config.blobs_region),
    })
}

fn identity(file: &Path, provider: Provider) -> Result<Identity, SettingError> {
    if file.as_os_str().is_empty() {
        return Ok(Identity::Machine);
    }
    let wrong =
        |why: &dyn std::fmt::Display| wrong("blobs_key_file", &format_args!("`{}`: {why}", file.display()));
    let bytes = read_private(file, LARGEST_KEY).map_err(|error| wrong(&error))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong(&"it is not text"))?;
    if provider == Provider::Gs {
        return Ok(Identity::ServiceAccount(Secret::from(text.to_owned())));
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let secret = |text: &&str| Secret::from((*text).to_owned());
    match lines.as_slice() {
        [id, key, token @ ..] if token.len() <= 1 => Ok(Identity::Keys {
            id: (*id).to_owned(),
            secret: secret(key),
            session_token: token.first().map(secret),
        }),
        _ => Err(wrong(&"it has a key id and a secret key, a line each, and perhaps a session token")),
    }
}

impl Bucket {
    /// How it stands.
    pub fn standing(&self) -> BlobsView {
        locked(&self.standing).clone()
    }

    pub(crate) fn stands(&self, backlog: Option<Amount>, problem: Option<String>) {
        let mut standing = locked(&self.standing);
        if let Some(backlog) = backlog {
            (standing.waiting, standing.waiting_bytes) = (backlog.units, backlog.bytes);
        }
        standing.problem = problem;
    }

    /// What of these versions is not on this machine. Whatever is, stays as long as an unfinished run needs it. Blocks on the disk.
    pub(crate) fn away_of(
        &self,
        blobs: &blob::Store,
        versions: &[String],
    ) -> Result<(Vec<Digest>, Amount), OffsiteError> {
        let mut digests = Vec::new();
        for version in versions {
            // What cannot be read is for the agent to say.
            let needs = version.parse().ok().and_then(|version| tree::needs(blobs, version).ok());
            digests.extend(needs.into_iter().flat_map(|needs| needs.names.into_iter().chain(needs.content)));
        }
        let away = self.offsite.away_of(&digests)?;
        Ok((digests, away))
    }
}

impl blob::Home for Bucket {
    fn bring(&self, digest: Digest) -> Result<(), vessl_data::DataError> {
        blob::Home::bring(&self.offsite, digest)
    }
}

/// Bytes for people, as `3.2 GiB`.
pub(crate) fn words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit =
        usize::try_from(bytes.checked_ilog2().unwrap_or_default() / 10).unwrap_or_default().min(UNITS.len());
    match unit.checked_sub(1) {
        None => format!("{bytes} B"),
        Some(at) => {
            let tenths = (u128::from(bytes) * 10) >> (10 * unit);
            format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[at])
        }
    }
}
