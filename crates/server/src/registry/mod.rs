//! What has names and files: datasets, models, artifacts and their versions, uploads, storages and volumes, and what runs left; their
//! bytes are in the content-addressed store or in the directories of volumes. Every function that serves a request takes the caller.
mod collect;
mod files;
mod manifests;
mod objects;
mod offsite;
mod receive;
mod uploads;
mod versions;
mod volume_copy;
mod volume_files;
mod volume_objects;
mod volumes;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use jiff::Timestamp;
use vessl_core::access::{Caller, Denied};
use vessl_core::ids::OrganizationName;
use vessl_core::object::{ObjectName, VolumeRef};
use vessl_core::spelling;
use vessl_data::blob::{self, Digest};
use vessl_data::bucket::BucketError;
use vessl_data::incoming::IncomingError;
use vessl_data::offsite::OffsiteError;
use vessl_data::tree::EditError;
use vessl_data::{DataError, blob::NotADigest, durable};

use crate::offsite::Bucket;
use crate::paths::DataDir;
use crate::secrets::{SecretError, Vault};
use crate::store::objects::Made;
use crate::store::{Store, StoreError};

pub(crate) use files::{Bytes, Content, Directories, Holes, Listed};
pub(crate) use objects::named;
pub(crate) use receive::{Receiver, Takes};
pub(crate) use uploads::{Announced, UploadRef};
pub(crate) use volume_files::FilePiece;

/// Why something cannot be shown or done.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no such thing.
    #[error("{0}")]
    Missing(String),
    /// The request makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// It cannot be done as things are.
    #[error("{message}")]
    Refused {
        /// For a person.
        message: String,
        /// What to do next.
        hint: Option<String>,
    },
    /// What was sent is not what was announced.
    #[error("{0}")]
    Wrong(String),
    /// The caller may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bytes.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The bucket of the blobs.
    #[error("the bucket of the blobs: {0}")]
    Bucket(OffsiteError),
    /// The database names a version that is none.
    #[error("the version `{0}` is not a digest")]
    Version(String, #[source] NotADigest),
    /// Reading the bytes.
    #[error("cannot read a file of the store: {0}")]
    Read(#[from] std::io::Error),
    /// A bucket of a storage.
    #[error("{0}")]
    Storage(BucketError),
    /// A stored credential.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl RegistryError {
    fn refused(message: impl Into<String>, hint: &str) -> Self {
        let hint = Some(hint.to_owned()).filter(|hint| !hint.is_empty());
        Self::Refused { message: message.into(), hint }
    }
}

impl From<BucketError> for RegistryError {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::Local(error) => error.into(),
            missing @ BucketError::Missing(_) => Self::Missing(missing.to_string()),
            other => Self::Storage(other),
        }
    }
}

impl From<EditError> for RegistryError {
    fn from(error: EditError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<IncomingError> for RegistryError {
    fn from(error: IncomingError) -> Self {
        match error {
            IncomingError::Data(error) => error.into(),
            IncomingError::Gap { .. } => Self::refused(error.to_string(), ""),
            IncomingError::TooLong { .. } | IncomingError::Other { .. } | IncomingError::Frame(_) => {
                Self::Wrong(error.to_string())
            }
        }
    }
}

/// A result of the registry.
pub(crate) type Result<T> = std::result::Result<T, RegistryError>;

/// Which storages there may be, and how their buckets are asked.
#[derive(Debug)]
pub struct StorageRules<'a> {
    /// Storages on this machine lie below these.
    pub hostpath_roots: &'a [String],
    /// Whether a bucket whose storage names no credential is asked as the machine is known to its cloud.
    pub cloud_identity: bool,
    /// What opens stored credentials.
    pub vault: Arc<Vault>,
}

/// Where the time comes from.
#[derive(Clone)]
pub struct Now(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Now {
    /// What `now` says.
    pub fn of(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Now(..)")
    }
}

/// Handle of the registry; cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    store: Arc<Store>,
    blobs: Arc<blob::Store>,
    /// Partial blobs, a directory for each upload.
    uploads: PathBuf,
    now: Now,
    data: DataDir,
    hostpath_roots: Arc<[PathBuf]>,
    cloud_identity: bool,
    vault: Arc<Vault>,
    /// Of a volume in a bucket, one changes the list of an export at a time.
    listing: Arc<Mutex<HashMap<VolumeRef, Weak<Mutex<()>>>>>,
    /// What is being received: blobs of uploads and files of volumes.
    receiving: Arc<Mutex<HashSet<String>>>,
    /// One version of a thing is made at a time.
    making: Arc<Mutex<HashMap<ObjectName, Weak<tokio::sync::Mutex<()>>>>>,
    collecting: Arc<tokio::sync::Mutex<()>>,
    next: Arc<tokio::sync::Mutex<()>>,
    manifests: Arc<manifests::Manifests>,
    /// Where blobs are kept besides.
    bucket: Option<Arc<Bucket>>,
}

impl Registry {
    /// Opens the rooms over the content-addressed store `blobs` of `data`. Blocks on the disk.
    pub fn open(
        data: &DataDir,
        (store, blobs): (Arc<Store>, blob::Store),
        now: Now,
        rules: StorageRules<'_>,
        bucket: Option<Arc<Bucket>>,
    ) -> Result<Self> {
        let blobs = Arc::new(match &bucket {
            Some(bucket) => blobs.with_home(Arc::<Bucket>::clone(bucket)),
            None => blobs,
        });
        let uploads = data.uploads();
        durable::create_dir_all(&uploads, 0o700)?;
        Ok(Self {
            store,
            blobs,
            uploads,
            now,
            data: data.clone(),
            hostpath_roots: rules.hostpath_roots.iter().map(|root| spelling::path(root)).collect(),
            cloud_identity: rules.cloud_identity,
            vault: rules.vault,
            listing: Arc::default(),
            receiving: Arc::default(),
            making: Arc::default(),
            collecting: Arc::default(),
            next: Arc::default(),
            manifests: Arc::default(),
            bucket,
        })
    }

    /// The content-addressed store.
    pub fn blobs(&self) -> Arc<blob::Store> {
        Arc::clone(&self.blobs)
    }

    /// Where blobs are kept besides.
    pub(crate) fn bucket(&self) -> Option<&Bucket> {
        self.bucket.as_deref()
    }

    fn now(&self) -> Timestamp {
        self.now.0()
    }

    /// What is noted of something that the caller makes now.
    fn made(&self, caller: &Caller) -> Made {
        Made { by: Some(caller.user.clone()), at: self.now() }
    }

    /// Refuses an organization that is not there.
    async fn known_organization(&self, name: &OrganizationName) -> Result<()> {
        let all = self.store.organizations().await?;
        if all.iter().any(|view| view.name == name.as_str()) {
            return Ok(());
        }
        Err(RegistryError::Missing(format!("there is no organization `{name}`")))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&blob::Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let blobs = Arc::clone(&self.blobs);
        let done = tokio::task::spawn_blocking(move || work(&blobs));
        done.await.map_err(|_| RegistryError::Stopping)?
    }
}

fn digest(version: &str) -> Result<Digest> {
    version.parse().map_err(|error| RegistryError::Version(version.to_owned(), error))
}

/// 16 random bytes as hex.
fn random_name() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| RegistryError::Random(error.to_string()))?;
    Ok(crate::hex(&bytes))
}
