//! Names of stores in a plan: what the registry keeps versions of, buckets, Hugging Face, storages with their volumes.
use std::collections::BTreeSet;

use super::data::Reader;
use super::report::{Code, candidates, typed};
use super::{BucketPlan, HfPlan, ImportSource, MountFrom, Provider, Storage, VolumePlace, VolumePlan};
use crate::credential::CredentialKind;
use crate::ids::{ProjectRef, StorageName, VolumeName};
use crate::object::{ObjectKind, ObjectName, StorageKind, VolumeRef, bucket_of_volume};
use crate::spec::{Dataset, Export, Gs, Hf, Import, Model, MountSource, Nfs, S3, Spec, Volume};

/// Where Hugging Face is if the server's settings name no other address.
const HF: &str = "huggingface.co";

/// What a run file names of the registry: everything that it reads with the number of the version (of a model), and everything that it
/// writes to. What the file leaves out of a name is of the project `own`.
pub fn named_objects(spec: &Spec, own: &ProjectRef) -> BTreeSet<(ObjectName, Option<u64>)> {
    let imports = spec.import.values().filter_map(|import| match import {
        Import::Artifact(artifact) => Some((artifact.of(own).into(), None)),
        Import::Dataset(dataset) => Some((dataset_name(dataset), None)),
        Import::Model(model) => Some((repository_name(model), model.model_number)),
        _ => None,
    });
    let mounts = spec.mount.values().filter_map(|mount| match &mount.source {
        MountSource::Dataset(dataset) => Some((dataset_name(dataset), None)),
        _ => None,
    });
    let exports = spec.export.values().filter_map(|export| match export {
        Export::Dataset(dataset) => Some((dataset_name(dataset), None)),
        Export::Model(model) => Some((repository_name(model), None)),
        _ => None,
    });
    imports.chain(mounts).chain(exports).collect()
}

/// The storages that a run file names.
pub fn named_storages(spec: &Spec) -> BTreeSet<StorageName> {
    volumes(spec).map(|volume| volume.storage_name.as_str().into()).collect()
}

/// The volumes that a run file names, each behind its storage.
pub(super) fn named_volumes(spec: &Spec) -> impl Iterator<Item = (&str, &str)> {
    volumes(spec).filter_map(|volume| Some((volume.storage_name.as_str(), volume.volume_name.as_deref()?)))
}

fn volumes(spec: &Spec) -> impl Iterator<Item = &Volume> {
    let imports = spec.import.values().filter_map(|import| match import {
        Import::Volume(volume) => Some(volume),
        _ => None,
    });
    let mounts = spec.mount.values().filter_map(|mount| match &mount.source {
        MountSource::Volume(volume) => Some(volume),
        _ => None,
    });
    let exports = spec.export.values().filter_map(|export| match export {
        Export::Volume(volume) => Some(volume),
        _ => None,
    });
    imports.chain(mounts).chain(exports)
}

/// Where an export goes, as text; nothing for what every path may go to.
pub(super) fn target_label(export: &Export, own: &ProjectRef) -> Option<String> {
    Some(match export {
        Export::Output | Export::Volume(Volume { volume_name: None, .. }) => return None,
        Export::Artifact(artifact) => ObjectName::from(artifact.of(own)).to_string(),
        Export::Dataset(dataset) => dataset_name(dataset).to_string(),
        Export::Model(model) => repository_name(model).to_string(),
        Export::S3(s3) => address("s3", &s3.bucket, &s3.prefix),
        Export::Gs(gs) => address("gs", &gs.bucket, &gs.prefix),
        Export::Volume(Volume { storage_name, volume_name: Some(name) }) => {
            format!("volume://{storage_name}/{name}")
        }
    })
}

pub(super) fn dataset_name(dataset: &Dataset) -> ObjectName {
    ObjectName::dataset(dataset.organization_name.as_str(), &dataset.dataset_name)
}

pub(super) fn repository_name(model: &Model) -> ObjectName {
    ObjectName::model_repository(model.organization_name.as_str(), &model.model_repository_name)
}

/// A volume, by what its storage is made of.
enum Place {
    Directory(VolumePlan),
    Bucket(BucketPlan),
}

/// What a bucket and its prefix are reached with.
struct Access<'a> {
    endpoint: Option<&'a String>,
    region: Option<&'a String>,
    credential: Option<&'a String>,
}

impl Reader<'_> {
    pub(super) fn dataset(&mut self, dataset: &Dataset, at: &str) -> Option<ImportSource> {
        self.newest(&dataset_name(dataset), at)
            .map(|(label, manifest)| ImportSource::Tree { label, manifest })
    }

    pub(super) fn mounted_dataset(&mut self, dataset: &Dataset, at: &str) -> Option<MountFrom> {
        self.newest(&dataset_name(dataset), at).map(|(label, manifest)| MountFrom::Tree { label, manifest })
    }

    pub(super) fn model(&mut self, model: &Model, at: &str) -> Option<ImportSource> {
        let (name, number) = (repository_name(model), model.model_number.unwrap_or_default());
        self.known(&name, at)?;
        let label = format!("{name}/{number}");
        let versions = self.catalogue.objects.get(&name)?;
        if let Some(manifest) = versions.get(&number) {
            return Some(ImportSource::Tree { label, manifest: manifest.clone() });
        }
        let message = format!("the model repository `{name}` has no model {number}");
        let hint = format!("`vessl model list {}` shows those there are", typed(&name.name));
        self.report.error(Code::NoVersion, at, message).hint(hint);
        None
    }

    /// The newest version of something: its address and its manifest.
    pub(super) fn newest(&mut self, name: &ObjectName, at: &str) -> Option<(String, String)> {
        self.known(name, at)?;
        let versions = self.catalogue.objects.get(name)?;
        if let Some(manifest) = versions.values().next_back() {
            return Some((name.to_string(), manifest.clone()));
        }
        let message = format!("`{name}` has no files yet");
        let hint = match name.kind {
            ObjectKind::Dataset => {
                format!("`vessl dataset upload {} SOURCE /` brings some", typed(&name.name))
            }
            _ => "export to it first".to_owned(),
        };
        self.report.error(Code::NoVersion, at, message).hint(hint);
        None
    }

    /// Refuses what the registry does not have.
    pub(super) fn known(&mut self, name: &ObjectName, at: &str) -> Option<()> {
        if self.catalogue.objects.contains_key(name) {
            return Some(());
        }
        let (code, what, create) = match name.kind {
            ObjectKind::Artifact => (Code::UnknownArtifact, "artifact", None),
            ObjectKind::Dataset => (Code::UnknownDataset, "dataset", Some("vessl dataset create")),
            ObjectKind::ModelRepository => {
                (Code::UnknownModel, "model repository", Some("vessl model-repository create"))
            }
        };
        let of_kind = self.catalogue.objects.keys().filter(|known| known.kind == name.kind);
        let names: Vec<String> = of_kind.map(bare).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let shown = name.to_string();
        let mut hint = candidates(bare_text(&shown), what, &names);
        if let Some(create) = create {
            hint = format!("{hint}; `{create} {}` makes it", typed(&name.name));
        }
        self.report.error(code, at, format!("there is no {what} `{}`", bare_text(&shown))).hint(hint);
        None
    }

    pub(super) fn s3(&mut self, s3: &S3, at: &str) -> Option<BucketPlan> {
        let S3 { bucket, prefix, endpoint, region, credential_name } = s3;
        let access = Access {
            endpoint: endpoint.as_ref(),
            region: region.as_ref(),
            credential: credential_name.as_ref(),
        };
        let label = address("s3", bucket, prefix);
        self.bucket((Provider::S3, label, bucket, prefix), &access, &format!("{at}.s3"))
    }

    pub(super) fn gs(&mut self, gs: &Gs, at: &str) -> Option<BucketPlan> {
        let Gs { bucket, prefix, endpoint, credential_name } = gs;
        let access =
            Access { endpoint: endpoint.as_ref(), region: None, credential: credential_name.as_ref() };
        let label = address("gs", bucket, prefix);
        self.bucket((Provider::Gs, label, bucket, prefix), &access, &format!("{at}.gs"))
    }

    fn bucket(
        &mut self,
        (provider, label, bucket, prefix): (Provider, String, &str, &str),
        access: &Access<'_>,
        at: &str,
    ) -> Option<BucketPlan> {
        let credential = match access.credential {
            Some(name) => {
                Some(self.credential(name, provider.credential(), &format!("{at}.credential_name"))?)
            }
            None => None,
        };
        Some(BucketPlan {
            label,
            provider,
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: access.endpoint.cloned(),
            region: access.region.cloned(),
            machine_identity: credential.is_none()
                && self.cluster.is_some_and(|cluster| cluster.cloud_identity),
            credential,
        })
    }

    pub(super) fn hf(&mut self, hf: &Hf, at: &str) -> Option<ImportSource> {
        let credential = match &hf.credential_name {
            Some(name) => {
                Some(self.credential(name, CredentialKind::Hf, &format!("{at}.hf.credential_name"))?)
            }
            None => None,
        };
        let (host, path) = hf.url.split_once('/').unwrap_or((HF, &hf.url));
        let own = self.cluster.and_then(|cluster| cluster.hf_endpoint.clone()).filter(|_| host == HF);
        let (dataset, repository) = match path.strip_prefix("datasets/") {
            Some(repository) => (true, repository),
            None => (false, path),
        };
        Some(ImportSource::Hf(HfPlan {
            label: format!("hf://{}", hf.url),
            dataset,
            repository: repository.to_owned(),
            revision: hf.reference.clone(),
            endpoint: own.unwrap_or_else(|| format!("https://{host}")),
            credential,
        }))
    }

    pub(super) fn imported_volume(&mut self, volume: &Volume, at: &str) -> Option<ImportSource> {
        Some(match self.volume(volume, at)? {
            Place::Directory(volume) => ImportSource::Volume(volume),
            Place::Bucket(bucket) => ImportSource::Bucket(bucket),
        })
    }

    pub(super) fn mounted_volume(&mut self, volume: &Volume, at: &str) -> Option<MountFrom> {
        match self.volume(volume, at)? {
            Place::Directory(volume) => Some(MountFrom::Volume(volume)),
            Place::Bucket(bucket) => {
                let message = format!("`{}` lies in a bucket and cannot be mounted", bucket.label);
                let hint = "import it, or use a volume of a storage of the kind `host-path` or `nfs`";
                self.report.error(Code::Unsupported, at, message).hint(hint);
                None
            }
        }
    }

    pub(super) fn exported_volume(&mut self, volume: &Volume, at: &str) -> Option<super::ExportTarget> {
        let mut volume = volume.clone();
        if volume.volume_name.is_none() {
            let name = self.new_volume(&volume.storage_name);
            volume.volume_name = Some(name);
        }
        Some(match self.volume(&volume, at)? {
            Place::Directory(volume) => super::ExportTarget::Volume(volume),
            Place::Bucket(bucket) => super::ExportTarget::Bucket(bucket),
        })
    }

    /// The name of a volume that this run makes.
    fn new_volume(&mut self, storage: &str) -> String {
        let count = self.needs.volumes.len();
        let name = match count {
            0 => format!("run-{}", self.run.0),
            n => format!("run-{}-{}", self.run.0, n + 1),
        };
        self.needs.volumes.insert(VolumeRef {
            organization: self.catalogue.project.organization.clone(),
            storage: storage.into(),
            volume: name.as_str().into(),
        });
        name
    }

    fn volume(&mut self, volume: &Volume, at: &str) -> Option<Place> {
        let storage = StorageName::from(volume.storage_name.as_str());
        let Some(known) = self.catalogue.storages.get(&storage) else {
            let names: Vec<&str> = self.catalogue.storages.keys().map(StorageName::as_str).collect();
            let message = format!("there is no storage `{storage}`");
            self.report.error(Code::UnknownStorage, at, message).candidates(
                storage.as_str(),
                "storage",
                names,
            );
            return None;
        };
        let Some(name) = &volume.volume_name else {
            let message = format!("`volume://{storage}` does not say which volume");
            let known = self.volumes_of(&storage);
            let names: Vec<&str> = known.iter().map(VolumeName::as_str).collect();
            self.report.error(Code::UnknownVolume, at, message).hint(candidates("", "volume", &names));
            return None;
        };
        let wanted = VolumeRef {
            organization: self.catalogue.project.organization.clone(),
            storage: storage.clone(),
            volume: name.as_str().into(),
        };
        if !self.catalogue.volumes.contains(&wanted) && !self.needs.volumes.contains(&wanted) {
            let known = self.volumes_of(&storage);
            let names: Vec<&str> = known.iter().map(VolumeName::as_str).collect();
            let create = format!(
                "vessl storage create-volume {} --storage-name {}",
                typed(name),
                typed(storage.as_str())
            );
            let hint = format!("{}; `{create}` makes it", candidates(name, "volume", &names));
            let message = format!("the storage `{storage}` has no volume `{name}`");
            self.report.error(Code::UnknownVolume, at, message).hint(hint);
            return None;
        }
        let known = known.clone();
        self.place_of(&known, &wanted, at)
    }

    fn volumes_of(&self, storage: &StorageName) -> Vec<VolumeName> {
        let of = self.catalogue.volumes.iter().filter(|volume| volume.storage == *storage);
        of.map(|volume| volume.volume.clone()).collect()
    }

    fn place_of(&mut self, storage: &Storage, volume: &VolumeRef, at: &str) -> Option<Place> {
        let (label, name) = (volume.to_string(), volume.volume.to_string());
        let place = match storage.kind {
            StorageKind::BuiltIn => {
                VolumePlace::Path { root: storage.path.clone(), volume: name, roots: None }
            }
            StorageKind::HostPath => {
                let roots = self.allowed_roots(&storage.path, at)?;
                VolumePlace::Path { root: storage.path.clone(), volume: name, roots: Some(roots) }
            }
            StorageKind::Nfs => {
                let (server, path) = storage.path.split_once(":/").unwrap_or((&storage.path, ""));
                VolumePlace::Nfs { server: server.to_owned(), path: format!("/{path}"), volume: name }
            }
            StorageKind::S3 | StorageKind::Gcs => {
                let provider = if storage.kind == StorageKind::S3 { Provider::S3 } else { Provider::Gs };
                let (bucket, prefix) = bucket_of_volume(&storage.path, &name);
                let credential = storage.credential.as_ref().map(ToString::to_string);
                let access = Access {
                    endpoint: storage.endpoint.as_ref(),
                    region: storage.region.as_ref(),
                    credential: credential.as_ref(),
                };
                return self.bucket((provider, label, &bucket, &prefix), &access, at).map(Place::Bucket);
            }
        };
        Some(Place::Directory(VolumePlan { label, place }))
    }
}

pub(super) fn nfs(nfs: &Nfs) -> MountFrom {
    MountFrom::Nfs { server: nfs.server.clone(), path: nfs.path.clone() }
}

fn address(scheme: &str, bucket: &str, prefix: &str) -> String {
    format!("{scheme}://{bucket}{}{prefix}", if prefix.is_empty() { "" } else { "/" })
}

/// A name as people say it: without what says its kind.
fn bare(name: &ObjectName) -> String {
    bare_text(&name.to_string()).to_owned()
}

fn bare_text(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, rest)| rest)
}
