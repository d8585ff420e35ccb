//! What is known by name when a run is submitted, kept in memory until a name changes.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vessl_core::credential::CredentialKind;
use vessl_core::ids::{ArtifactName, CredentialName, OrganizationName, ProjectRef};
use vessl_core::plan::{Catalogue, machine_paths};
use vessl_core::spec::{Import, Spec};
use vessl_core::spelling;
use vessl_core::wire::SecretView;
use vessl_data::locked;

use super::{ControlError, Inner, Result};
use crate::store::secrets::Class;

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
        let wanted = spec.import.values().filter_map(|import| match import {
            Import::Artifact(artifact) => Some(artifact.of(project)),
            _ => None,
        });
        let wanted: Vec<ArtifactName> = wanted.collect();
        let artifacts = self.artifacts(wanted).await?;
        let missing = missing(machine_paths(spec)).await;
        Ok(Catalogue {
            project: project.clone(),
            clusters: self.parts.inventory.clusters.clone(),
            default_cluster: self.parts.inventory.cluster.clone(),
            secrets: known.secrets.clone(),
            credentials: known.credentials.clone(),
            objects: artifacts
                .into_iter()
                .map(|(name, manifest)| (name.into(), [(1, manifest)].into()))
                .collect(),
            storages: BTreeMap::new(),
            volumes: BTreeSet::new(),
            projects: known.projects.iter().cloned().collect(),
            missing,
        })
    }

    /// The artifacts that are wanted; if one is missing, also the others of its organization, to be named instead.
    async fn artifacts(&self, wanted: Vec<ArtifactName>) -> Result<BTreeMap<ArtifactName, String>> {
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut artifacts = self.parts.store.newest(wanted.clone()).await?;
        let missing = wanted.into_iter().filter(|name| !artifacts.contains_key(name));
        let organizations: BTreeSet<OrganizationName> = missing.map(|name| name.organization).collect();
        for organization in organizations {
            let all = self.parts.store.artifacts(organization).await?;
            artifacts.extend(all.into_iter().map(|artifact| (artifact.name, artifact.newest.manifest)));
        }
        Ok(artifacts)
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
