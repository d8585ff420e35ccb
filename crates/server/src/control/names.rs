//! What is known by name when a run is submitted, kept in memory until a name changes.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vessl_core::credential::CredentialKind;
use vessl_core::ids::{CredentialName, OrganizationName, ProjectRef, StorageName};
use vessl_core::object::{BUILT_IN_STORAGE, ObjectName, StorageKind, VolumeRef};
use vessl_core::plan::{Catalogue, Storage, machine_paths, named_objects, named_storages};
use vessl_core::spec::Spec;
use vessl_core::spelling;
use vessl_core::wire::SecretView;
use vessl_core::wire::registry::{ObjectView, StorageView};
use vessl_data::locked;

use super::{ControlError, Inner, Result};
use crate::store::objects::ObjectQuery;
use crate::store::secrets::Class;
use crate::store::versions::Which;

/// Longest look at the paths of the machine that a run file names.
const LOOK: Duration = Duration::from_secs(2);

/// The names of one organization.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    projects: Vec<ProjectRef>,
    secrets: Vec<String>,
    credentials: BTreeMap<CredentialName, CredentialKind>,
}

/// Known names by organization, with the generation of the store they were read at.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<(u64, HashMap<OrganizationName, Arc<Known>>)>);

impl Inner {
    /// Refuses an organization that does not exist.
    pub(super) async fn known_organization(&self, organization: &OrganizationName) -> Result<Arc<Known>> {
        let generation = self.parts.store.names_generation();
        {
            let mut kept = locked(&self.names.0);
            if kept.0 != generation {
                *kept = (generation, HashMap::new());
            }
            if let Some(known) = kept.1.get(organization) {
                return Ok(Arc::clone(known));
            }
        }
        let known = Arc::new(self.read_names(organization).await?);
        let mut kept = locked(&self.names.0);
        // A name that changed while we read makes a new generation; then this is read again.
        if kept.0 == generation {
            kept.1.insert(organization.clone(), Arc::clone(&known));
        }
        Ok(known)
    }

    async fn read_names(&self, organization: &OrganizationName) -> Result<Known> {
        let store = &self.parts.store;
        let projects = store.projects(organization.clone()).await?;
        if projects.is_empty() {
            let all: Vec<String> = store.organizations().await?.into_iter().map(|view| view.name).collect();
            if !all.iter().any(|name| name == organization.as_str()) {
                return Err(ControlError::not_found("organization", organization.as_str(), &all));
            }
        }
        let secrets = store.sealed_names(organization.clone(), Class::Secret).await?;
        let credentials = store.sealed_names(organization.clone(), Class::Credential).await?;
        Ok(Known {
            projects: projects
                .into_iter()
                .map(|view| ProjectRef::new(organization.clone(), view.name))
                .collect(),
            secrets: secrets.into_iter().map(|view| view.name).collect(),
            credentials: credentials.into_iter().filter_map(credential).collect(),
        })
    }

    /// Refuses a project that does not exist.
    pub(super) async fn known_project(&self, project: &ProjectRef) -> Result<Arc<Known>> {
        let known = self.known_organization(&project.organization).await?;
        if known.projects.contains(project) {
            return Ok(known);
        }
        let names: Vec<String> = known.projects.iter().map(|known| known.project.to_string()).collect();
        Err(ControlError::not_found("project", &project.to_string(), &names))
    }

    /// Everything that a run file may name, as far as this one does.
    pub(super) async fn catalogue(&self, project: &ProjectRef, spec: &Spec) -> Result<Catalogue> {
        let known = self.known_project(project).await?;
        let objects = self.objects(named_objects(spec, project)).await?;
        let (storages, volumes) = self.storages(&project.organization, named_storages(spec)).await?;
        let missing = missing(machine_paths(spec)).await;
        Ok(Catalogue {
            project: project.clone(),
            clusters: self.parts.inventory.clusters.clone(),
            default_cluster: self.parts.inventory.cluster.clone(),
            secrets: known.secrets.clone(),
            credentials: known.credentials.clone(),
            objects,
            storages,
            volumes,
            projects: known.projects.iter().cloned().collect(),
            missing,
        })
    }

    /// What is wanted of the registry, with the version that is meant; if something is missing, also the others of its kind in its
    /// organization, to be named instead.
    async fn objects(
        &self,
        wanted: BTreeSet<(ObjectName, Option<u64>)>,
    ) -> Result<BTreeMap<ObjectName, BTreeMap<u64, String>>> {
        let store = &self.parts.store;
        let mut known: BTreeMap<ObjectName, BTreeMap<u64, String>> = BTreeMap::new();
        for (name, number) in wanted {
            let which = number.map_or(Which::Newest, Which::Number);
            let version = store.version(name.clone(), which).await?;
            if let Some(version) = version {
                known.entry(name).or_default().insert(version.version, version.manifest);
            } else if store.object(name.clone()).await?.is_some() {
                known.entry(name).or_default();
            } else {
                let (kind, organization) = (name.kind, name.organization.clone());
                let query = ObjectQuery { kind, organization: organization.clone(), project: None };
                let others = store.objects(query).await?.into_iter().filter(|other| other.newest.is_some());
                let name = |other: ObjectView| ObjectName {
                    kind,
                    organization: organization.clone(),
                    project: other.project.map(Into::into),
                    name: other.name,
                };
                for other in others.map(name) {
                    known.entry(other).or_default();
                }
            }
        }
        Ok(known)
    }

    /// The storages of an organization, if a file names one, and the volumes of those.
    async fn storages(
        &self,
        organization: &OrganizationName,
        wanted: BTreeSet<StorageName>,
    ) -> Result<(BTreeMap<StorageName, Storage>, BTreeSet<VolumeRef>)> {
        if wanted.is_empty() {
            return Ok((BTreeMap::new(), BTreeSet::new()));
        }
        let store = &self.parts.store;
        let built_in = Storage {
            kind: StorageKind::BuiltIn,
            path: self.parts.data.volumes(organization).display().to_string(),
            endpoint: None,
            region: None,
            credential: None,
        };
        let mut storages = BTreeMap::from([(BUILT_IN_STORAGE.into(), built_in)]);
        for StorageView { name, kind, path, endpoint, region, credential_name, .. } in
            store.storages(organization.clone()).await?
        {
            let credential = credential_name.map(Into::into);
            storages.insert(name.into(), Storage { kind, path, endpoint, region, credential });
        }
        let mut volumes = BTreeSet::new();
        for storage in wanted {
            let of = store.volumes(organization.clone(), storage.clone()).await?;
            volumes.extend(of.into_iter().map(|volume| VolumeRef {
                organization: organization.clone(),
                storage: storage.clone(),
                volume: volume.name,
            }));
        }
        Ok((storages, volumes))
    }
}

/// Those of `paths` that are not there. What does not say so in time (a network file system) may be there.
async fn missing(mut paths: BTreeSet<String>) -> BTreeSet<String> {
    if paths.is_empty() {
        return paths;
    }
    let look = tokio::task::spawn_blocking(move || {
        let is_missing = |path: &String| {
            std::fs::metadata(spelling::path(path)).is_err_and(|e| e.kind() == ErrorKind::NotFound)
        };
        paths.retain(is_missing);
        paths
    });
    tokio::time::timeout(LOOK, look).await.ok().and_then(std::result::Result::ok).unwrap_or_default()
}

fn credential(stored: SecretView) -> Option<(CredentialName, CredentialKind)> {
    Some((stored.name.into(), stored.kind.credential()?))
}
