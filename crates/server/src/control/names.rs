//! What is known by name when a run is submitted, kept in memory until a name changes.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vessl_core::plan::{Catalogue, machine_paths};
use vessl_core::spec::{ArtifactRef, Import, Spec};

use super::{ControlError, Inner, Result};
use crate::store::names::Artifact;
use crate::store::sealed::Class;

/// Longest look at the paths of the machine that a run file names.
const LOOK: Duration = Duration::from_secs(2);

/// The names of one organization.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    projects: Vec<String>,
    secrets: Vec<String>,
    credentials: BTreeMap<String, String>,
}

/// Known names by organization, with the generation of the store they were read at.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<(u64, HashMap<String, Arc<Known>>)>);

impl Inner {
    /// Refuses an organization that does not exist.
    pub(super) async fn known_organization(&self, organization: &str) -> Result<Arc<Known>> {
        let generation = self.parts.store.names_generation();
        {
            let mut kept = self.names.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.0 != generation {
                *kept = (generation, HashMap::new());
            }
            if let Some(known) = kept.1.get(organization) {
                return Ok(Arc::clone(known));
            }
        }
        let known = Arc::new(self.read_names(organization).await?);
        let mut kept = self.names.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A name that changed while we read makes a new generation; then this is read again.
        if kept.0 == generation {
            kept.1.insert(organization.to_owned(), Arc::clone(&known));
        }
        Ok(known)
    }

    async fn read_names(&self, organization: &str) -> Result<Known> {
        let store = &self.parts.store;
        let projects = store.projects(organization.to_owned()).await?;
        if projects.is_empty() {
            let all: Vec<String> = store.organizations().await?.into_iter().map(|view| view.name).collect();
            if !all.iter().any(|name| name == organization) {
                return Err(ControlError::not_found("organization", organization, &all));
            }
        }
        let secrets = store.sealed_names(organization.to_owned(), Class::Secret).await?;
        let credentials = store.sealed_names(organization.to_owned(), Class::Credential).await?;
        Ok(Known {
            projects: projects.into_iter().map(|view| view.name).collect(),
            secrets: secrets.into_iter().map(|view| view.name).collect(),
            credentials: credentials.into_iter().map(|view| (view.name, view.kind)).collect(),
        })
    }

    /// Refuses a project that does not exist.
    pub(super) async fn known_project(&self, organization: &str, project: &str) -> Result<Arc<Known>> {
        let known = self.known_organization(organization).await?;
        if known.projects.iter().any(|name| name == project) {
            return Ok(known);
        }
        Err(ControlError::not_found("project", &format!("{organization}/{project}"), &known.projects))
    }

    /// Everything that a run file may name, as far as this one does.
    pub(super) async fn catalogue(
        &self,
        organization: &str,
        project: &str,
        spec: &Spec,
    ) -> Result<Catalogue> {
        let known = self.known_project(organization, project).await?;
        let wanted: Vec<[String; 3]> = spec
            .import
            .values()
            .filter_map(|import| match import {
                Import::Artifact(artifact) => Some(full_name(organization, project, artifact)),
                _ => None,
            })
            .collect();
        let artifacts = self.artifacts(wanted).await?;
        let missing = missing(machine_paths(spec)).await;
        Ok(Catalogue {
            organization: organization.to_owned(),
            project: project.to_owned(),
            clusters: self.parts.site.clusters.clone(),
            default_cluster: self.parts.site.cluster.clone(),
            secrets: known.secrets.clone(),
            credentials: known.credentials.clone(),
            artifacts,
            projects: known.projects.iter().map(|name| format!("{organization}/{name}")).collect(),
            missing,
        })
    }

    /// The artifacts that are wanted; if one is missing, also the others of its organization, to be named instead.
    async fn artifacts(&self, wanted: Vec<[String; 3]>) -> Result<BTreeMap<String, String>> {
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut artifacts = self.parts.store.newest(wanted.clone()).await?;
        let missing = wanted.into_iter().filter(|name| !artifacts.contains_key(&name.join("/")));
        let organizations: BTreeSet<String> = missing.map(|[organization, ..]| organization).collect();
        for organization in organizations {
            for Artifact { project, name, newest } in self.parts.store.artifacts(organization.clone()).await?
            {
                artifacts.insert(format!("{organization}/{project}/{name}"), newest.manifest);
            }
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
        let is_missing =
            |path: &String| std::fs::metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound);
        paths.retain(is_missing);
        paths
    });
    tokio::time::timeout(LOOK, look).await.ok().and_then(std::result::Result::ok).unwrap_or_default()
}

fn full_name(organization: &str, project: &str, artifact: &ArtifactRef) -> [String; 3] {
    let own = |name: &Option<String>, own: &str| name.clone().unwrap_or_else(|| own.to_owned());
    [
        own(&artifact.organization_name, organization),
        own(&artifact.project_name, project),
        artifact.name.clone(),
    ]
}
