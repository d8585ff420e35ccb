//! Storages and their volumes: where they are, made, listed, deleted.
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use jiff::Timestamp;
use vessl_core::access::{Action, Caller, Scope, allowed};
use vessl_core::credential::CredentialKind;
use vessl_core::ids::{OrganizationName, StorageName};
use vessl_core::object::{BUILT_IN_STORAGE, StorageKind, VolumeRef, bucket_of_volume};
use vessl_core::spec::labels;
use vessl_core::spelling;
use vessl_core::wire::registry::{StorageCreate, StorageView, VolumeView};
use vessl_data::bucket::{Identity, Location, Provider};
use vessl_data::dir::Dir;
use vessl_data::{durable, locked};

use super::objects::check_name;
use super::volume_objects::VolumeBucket;
use super::{Registry, RegistryError, Result};
use crate::secrets::bound;
use crate::store::secrets::Class;
use crate::store::storages::Volume;

/// Volumes of a list when nobody says how many.
const PAGE: usize = 1000;

/// Where the files of a volume are.
pub(super) enum Place {
    /// In the directory of this name.
    Directory(Root, PathBuf),
    /// Below a prefix of a bucket.
    Bucket(Box<VolumeBucket>),
}

impl Place {
    /// Opens it. Blocks.
    pub(super) fn open(self) -> Result<Files> {
        Ok(match self {
            Self::Directory(root, name) => Files::Directory(root.volume(&name)?),
            Self::Bucket(bucket) => Files::Bucket(bucket),
        })
    }
}

/// The files of a volume.
#[derive(Debug)]
pub(super) enum Files {
    /// Those of a directory.
    Directory(Dir),
    /// Those below a prefix of a bucket.
    Bucket(Box<VolumeBucket>),
}

/// A directory in which the volumes of a storage are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// The directory.
    pub(super) path: PathBuf,
    /// Where it must lie, links and all; nothing for the built-in storage.
    roots: Option<Vec<PathBuf>>,
    /// What no volume may show.
    hidden: PathBuf,
}

impl Registry {
    /// Storages of an organization by name, the built-in one first.
    pub async fn storages(&self, caller: &Caller, of: &OrganizationName) -> Result<Vec<StorageView>> {
        allowed(caller, Action::Read, Scope::Organization(of.clone()))?;
        self.known_organization(of).await?;
        let mut storages = vec![self.built_in(of).await?];
        storages.extend(self.store.storages(of.clone()).await?);
        Ok(storages)
    }

    /// Names a place for volumes.
    pub async fn create_storage(
        &self,
        caller: &Caller,
        of: &OrganizationName,
        new: StorageCreate,
    ) -> Result<StorageView> {
        allowed(caller, Action::Manage, Scope::Organization(of.clone()))?;
        if matches!(new.kind, StorageKind::HostPath | StorageKind::Nfs) {
            allowed(caller, Action::Operate, Scope::Server)?;
        }
        check_name("storage", &new.name)?;
        check_place(&new)?;
        self.known_organization(of).await?;
        if let Some(credential) = &new.credential_name {
            let known = self.store.sealed_names(of.clone(), Class::Credential).await?;
            if !known.iter().any(|view| view.name == *credential) {
                let credential = credential.escape_debug();
                return Err(RegistryError::Missing(format!("there is no credential `{credential}`")));
            }
        }
        if new.kind == StorageKind::HostPath {
            let root = self.host_path(&new.path);
            self.blocking(move |_| root.open().map(drop)).await?;
        }
        let StorageCreate { name, kind, path, endpoint, region, credential_name } = new;
        let view =
            StorageView { name, kind, path, endpoint, region, credential_name, created_at: self.now() };
        let is_new = view.name != BUILT_IN_STORAGE
            && self.store.add_storage(of.clone(), view.clone(), Some(caller.user.clone())).await?;
        if is_new {
            return Ok(view);
        }
        Err(RegistryError::refused(format!("there is a storage `{}` already", view.name), ""))
    }

    /// Forgets a storage without volumes. What lies there stays.
    pub async fn delete_storage(
        &self,
        caller: &Caller,
        of: &OrganizationName,
        name: &StorageName,
    ) -> Result<()> {
        allowed(caller, Action::Manage, Scope::Organization(of.clone()))?;
        let storage = self.storage(of, name).await?;
        if matches!(storage.kind, StorageKind::HostPath | StorageKind::Nfs) {
            allowed(caller, Action::Operate, Scope::Server)?;
        }
        if storage.kind == StorageKind::BuiltIn {
            return Err(RegistryError::refused(format!("`{name}` is built in and stays"), ""));
        }
        self.refuse_used_volume(&format!("volume://{name}"), of).await?;
        if self.store.delete_storage(of.clone(), name.clone()).await? {
            return Ok(());
        }
        let hint = "delete its volumes first; the files in them stay where they are";
        Err(RegistryError::refused(format!("the storage `{name}` has volumes"), hint))
    }

    /// Volumes of a storage by name: those that have `keyword` in their names, at most `limit`.
    pub async fn volumes(
        &self,
        caller: &Caller,
        (of, storage): (&OrganizationName, &StorageName),
        keyword: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Vec<VolumeView>> {
        allowed(caller, Action::Read, Scope::Organization(of.clone()))?;
        self.storage(of, storage).await?;
        let volumes = self.store.volumes(of.clone(), storage.clone()).await?;
        let keyword = keyword.unwrap_or_default().to_ascii_lowercase();
        let is_meant = |volume: &Volume| volume.name.as_str().to_ascii_lowercase().contains(&keyword);
        let limit = limit.map_or(PAGE, |limit| limit as usize);
        let shown = volumes.into_iter().filter(is_meant).take(limit);
        Ok(shown.map(|volume| volume_view(of, storage, volume)).collect())
    }

    /// Makes a volume. A directory of a host path that is there already is taken as it is.
    pub async fn create_volume(
        &self,
        caller: &Caller,
        volume: &VolumeRef,
        tags: Vec<String>,
    ) -> Result<VolumeView> {
        allowed(caller, Action::Manage, Scope::Organization(volume.organization.clone()))?;
        check_name("volume", volume.volume.as_str())?;
        labels::check_tags(&tags).map_err(RegistryError::Malformed)?;
        let storage = self.storage(&volume.organization, &volume.storage).await?;
        if let Some(root) = self.root(&volume.organization, &storage) {
            let name = volume.volume.to_string();
            self.blocking(move |_| root.make(Path::new(&name))).await?;
        }
        if !self.store.add_volume(volume.clone(), tags, self.made(caller)).await? {
            return Err(RegistryError::refused(format!("there is a volume `{volume}` already"), ""));
        }
        let made = self.known_volume(volume).await?;
        Ok(volume_view(&volume.organization, &volume.storage, made))
    }

    /// Deletes a volume with everything in it; of a bucket or an NFS export only its name, because the server has no hand there.
    /// Refused while a run that has not ended uses it.
    pub async fn delete_volume(&self, caller: &Caller, volume: &VolumeRef) -> Result<()> {
        allowed(caller, Action::Manage, Scope::Organization(volume.organization.clone()))?;
        let storage = self.storage(&volume.organization, &volume.storage).await?;
        self.known_volume(volume).await?;
        self.refuse_used_volume(&volume.to_string(), &volume.organization).await?;
        // Elsewhere its directory may have been there before the volume was, and be in use by others.
        if storage.kind == StorageKind::BuiltIn
            && let Some(root) = self.root(&volume.organization, &storage)
        {
            let name = volume.volume.to_string();
            // The row goes last: what is cut in between is deleted again.
            self.blocking(move |_| root.remove(Path::new(&name))).await?;
        }
        self.store.delete_volume(volume.clone()).await?;
        Ok(())
    }

    /// Where the files of a volume are that the server can read and write.
    pub(super) async fn volume_place(&self, caller: &Caller, volume: &VolumeRef) -> Result<Place> {
        let of = &volume.organization;
        let storage = self.storage(of, &volume.storage).await?;
        self.known_volume(volume).await?;
        if let Some(root) = self.root(of, &storage) {
            return Ok(Place::Directory(root, volume.volume.to_string().into()));
        }
        let provider = match storage.kind {
            StorageKind::S3 => Provider::S3,
            StorageKind::Gcs => Provider::Gs,
            StorageKind::BuiltIn | StorageKind::HostPath | StorageKind::Nfs => {
                let message = format!(
                    "the storage `{}` is an NFS export, which the server does not mount: it lists and changes none of its files",
                    storage.name
                );
                let hint = "runs import from it, mount it and export to it (`volume://` in a run file)";
                return Err(RegistryError::refused(message, hint));
            }
        };
        let (bucket, prefix) = bucket_of_volume(&storage.path, volume.volume.as_str());
        let identity = self.identity(of, &storage).await?;
        let StorageView { endpoint, region, .. } = storage;
        Ok(Place::Bucket(Box::new(VolumeBucket {
            location: Location { provider, bucket, prefix, endpoint, region },
            identity,
            volume: volume.clone(),
            who: format!("user {}", caller.user.as_str()),
            listing: self.one_lists(volume),
            scratch: self.data.incoming(),
        })))
    }

    /// As whom the bucket of a storage is asked: with its credential, else as the machine where the settings allow it, else as nobody.
    async fn identity(&self, of: &OrganizationName, storage: &StorageView) -> Result<Identity> {
        let Some(name) = &storage.credential_name else {
            return Ok(if self.cloud_identity { Identity::Machine } else { Identity::Anonymous });
        };
        let (is_s3, shown) = (storage.kind == StorageKind::S3, name.escape_debug());
        let wanted = if is_s3 { CredentialKind::S3 } else { CredentialKind::Gcs };
        let row = self.store.sealed(of.clone(), Class::Credential, name.clone()).await?;
        let row = row.filter(|row| row.kind.credential() == Some(wanted)).ok_or_else(|| {
            let message = format!(
                "the storage `{}` needs the credential `{shown}` of the kind `{wanted}`, which is not there",
                storage.name
            );
            RegistryError::refused(
                message,
                &format!("`vessl credential create {shown} --kind {wanted}` stores it"),
            )
        })?;
        let bound = bound(of, Class::Credential.word(), name);
        let login = self.vault.login(&bound, Some(wanted), row.username, &row.value)?;
        Ok(if is_s3 {
            Identity::Keys { id: login.username, secret: login.password, session_token: login.session_token }
        } else {
            Identity::ServiceAccount(login.password)
        })
    }

    /// Held by whoever changes the list of an export in a volume.
    fn one_lists(&self, volume: &VolumeRef) -> Arc<Mutex<()>> {
        let mut all = locked(&self.listing);
        all.retain(|_, one| one.strong_count() > 0);
        if let Some(one) = all.get(volume).and_then(Weak::upgrade) {
            return one;
        }
        let one = Arc::new(Mutex::new(()));
        all.insert(volume.clone(), Arc::downgrade(&one));
        one
    }

    async fn storage(&self, of: &OrganizationName, name: &StorageName) -> Result<StorageView> {
        if name.as_str() == BUILT_IN_STORAGE {
            return self.built_in(of).await;
        }
        let known = self.store.storages(of.clone()).await?;
        known.into_iter().find(|view| view.name == name.as_str()).ok_or_else(|| {
            let name: String = name.as_str().chars().take(120).collect();
            RegistryError::Missing(format!("there is no storage `{}` in `{of}`", name.escape_debug()))
        })
    }

    async fn built_in(&self, of: &OrganizationName) -> Result<StorageView> {
        let all = self.store.organizations().await?;
        let organization = all.into_iter().find(|view| view.name == of.as_str());
        let missing = || RegistryError::Missing(format!("there is no organization `{of}`"));
        Ok(StorageView {
            name: BUILT_IN_STORAGE.to_owned(),
            kind: StorageKind::BuiltIn,
            path: self.data.volumes(of).display().to_string(),
            endpoint: None,
            region: None,
            credential_name: None,
            created_at: organization.ok_or_else(missing)?.created_at,
        })
    }

    pub(super) async fn known_volume(&self, volume: &VolumeRef) -> Result<Volume> {
        self.store.volume(volume.clone()).await?.ok_or_else(|| {
            let name: String = volume.volume.as_str().chars().take(120).collect();
            let (storage, name) = (&volume.storage, name.escape_debug());
            RegistryError::Missing(format!("the storage `{storage}` has no volume `{name}`"))
        })
    }

    fn root(&self, of: &OrganizationName, storage: &StorageView) -> Option<Root> {
        match storage.kind {
            StorageKind::BuiltIn => {
                let path = self.data.volumes(of);
                Some(Root { path, roots: None, hidden: self.data.root().to_owned() })
            }
            StorageKind::HostPath => Some(self.host_path(&storage.path)),
            StorageKind::Nfs | StorageKind::S3 | StorageKind::Gcs => None,
        }
    }

    fn host_path(&self, path: &str) -> Root {
        Root {
            path: spelling::path(path),
            roots: Some(self.hostpath_roots.to_vec()),
            hidden: self.data.root().to_owned(),
        }
    }

    async fn refuse_used_volume(&self, address: &str, of: &OrganizationName) -> Result<()> {
        let Some(run) = self.user_of(address, Some(of)).await? else { return Ok(()) };
        let message = format!("`{address}` is used by run {}, which has not ended", run.0);
        let hint = format!("wait for its end, or `vessl run terminate {}`", run.0);
        Err(RegistryError::Refused { message, hint: Some(hint) })
    }
}

impl Root {
    /// Opens the directory of the storage, if it is where it must be.
    fn open(&self) -> Result<Dir> {
        let path = &self.path;
        let failed = |error: std::io::Error| {
            RegistryError::refused(format!("`{}` cannot be used: {error}", path.display()), "")
        };
        let Some(roots) = &self.roots else {
            durable::create_dir_all(path, 0o700)?;
            return Dir::open(path).map_err(failed);
        };
        let within = |path: &Path| roots.iter().any(|root| path.starts_with(root));
        let fenced = || {
            let hint = "add its directory to `hostpath_roots` in the server's settings";
            let why = format!("the directory `{}` of the machine may not be used", path.display());
            RegistryError::refused(why, hint)
        };
        // By its text first, before anything is said of what is there.
        if !within(path) {
            return Err(fenced());
        }
        let real = path.canonicalize().map_err(failed)?;
        let roots: Vec<PathBuf> = roots.iter().filter_map(|root| root.canonicalize().ok()).collect();
        if !roots.iter().any(|root| real.starts_with(root)) {
            return Err(fenced());
        }
        if let Ok(hidden) = self.hidden.canonicalize()
            && (real.starts_with(&hidden) || hidden.starts_with(&real))
        {
            let why = format!("`{}` holds the server's own data, or lies in it", path.display());
            return Err(RegistryError::refused(why, "choose another directory"));
        }
        Dir::open(&real).map_err(failed)
    }

    /// Opens the directory of a volume, through no link.
    pub(super) fn volume(&self, name: &Path) -> Result<Dir> {
        self.open()?.dir(name).map_err(|error| {
            RegistryError::refused(
                format!("the directory of the volume `{}` cannot be opened: {error}", name.display()),
                "",
            )
        })
    }

    fn make(&self, name: &Path) -> Result<()> {
        let root = self.open()?;
        let is_there = root.kind(name)?.is_some();
        // What nobody but runs can reach may be written to by a run of any user.
        let mode = if self.roots.is_none() { 0o777 } else { 0o755 };
        root.make_dir(name, mode).map_err(|error| {
            RegistryError::refused(format!("the directory of the volume cannot be made: {error}"), "")
        })?;
        if !is_there {
            // The mask of the process may have taken some of it away.
            let mode = nix::sys::stat::Mode::from_bits_truncate(mode);
            nix::sys::stat::fchmod(root.dir(name)?, mode).map_err(std::io::Error::from)?;
        }
        Ok(root.sync()?)
    }

    fn remove(&self, name: &Path) -> Result<()> {
        match self.open()?.remove(name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn volume_view(of: &OrganizationName, storage: &StorageName, volume: Volume) -> VolumeView {
    let Volume { name, tags, created_at } = volume;
    let created_at: Timestamp = created_at;
    let full = VolumeRef { organization: of.clone(), storage: storage.clone(), volume: name.clone() };
    VolumeView {
        name: name.into(),
        storage: storage.to_string(),
        address: full.to_string(),
        tags,
        created_at,
    }
}

/// Refuses what no storage of its kind is.
fn check_place(new: &StorageCreate) -> Result<()> {
    let StorageCreate { kind, path, endpoint, region, credential_name, .. } = new;
    let bucket = |scheme: &str| {
        let rest = path.strip_prefix(scheme)?;
        let name = rest.split('/').next()?;
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        (!name.is_empty() && name.chars().all(fine)).then_some(())
    };
    let fine = match kind {
        StorageKind::BuiltIn => {
            return Err(RegistryError::Malformed("there is one built-in storage, which is there".to_owned()));
        }
        StorageKind::HostPath => path.starts_with('/').then_some(()),
        StorageKind::Nfs => path
            .split_once(":/")
            .filter(|(server, _)| !server.is_empty() && !server.contains(['/', ' ', '@']))
            .map(drop),
        StorageKind::S3 => bucket("s3://"),
        StorageKind::Gcs => bucket("gs://"),
    };
    let form = match kind {
        StorageKind::Nfs => "`server:/path`",
        StorageKind::S3 => "`s3://bucket/prefix`",
        StorageKind::Gcs => "`gs://bucket/prefix`",
        StorageKind::HostPath | StorageKind::BuiltIn => "an absolute path",
    };
    let is_bad = path.len() > 4095
        || path.contains(|c: char| c.is_control())
        || path.split('/').any(|part| part == "..");
    if fine.is_none() || is_bad {
        return Err(RegistryError::Malformed(format!(
            "`path` of a storage of kind {kind} is {form}, not `{}`",
            path.chars().take(200).collect::<String>().escape_debug()
        )));
    }
    let is_bucket = matches!(kind, StorageKind::S3 | StorageKind::Gcs);
    if !is_bucket && (endpoint.is_some() || credential_name.is_some())
        || *kind != StorageKind::S3 && region.is_some()
    {
        return Err(RegistryError::Malformed(format!(
            "`endpoint` and `credential_name` are for buckets, `region` is for S3 buckets; the storage is {kind}"
        )));
    }
    let is_address = |text: &String| text.starts_with("https://") || text.starts_with("http://");
    if endpoint.as_ref().is_some_and(|text| !is_address(text) || text.contains(char::is_control)) {
        return Err(RegistryError::Malformed("`endpoint` begins with `https://` or `http://`".to_owned()));
    }
    if region.as_ref().is_some_and(|text| text.is_empty() || text.contains(char::is_control)) {
        return Err(RegistryError::Malformed("`region` is not one".to_owned()));
    }
    Ok(())
}
