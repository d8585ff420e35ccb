//! What this version refuses on every server: found by planning for one that has all that the file names. It knows no rule of its own.
use super::report::Code;
use super::stores::named_volumes;
use super::{Catalogue, Stamp, Storage, named_objects, named_storages, plan};
use crate::credential::CredentialKind;
use crate::ids::{Nonce, ProjectRef, RunId, StorageName};
use crate::object::{ObjectName, StorageKind, VolumeRef};
use crate::problem::{Level, Problem};
use crate::secret::Secret;
use crate::spec::labels::is_name;
use crate::spec::{ArtifactRef, EnvValue, Export, Import, Spec};

/// What every server of this version refuses, whatever it has and whatever is given at submit. Like the problems of [`plan`], they
/// have no place in the text.
pub fn refused_everywhere(spec: &Spec) -> Vec<Problem> {
    let given: Vec<(String, Secret)> = spec
        .env
        .iter()
        .filter(|(_, value)| matches!(value, EnvValue::Inject | EnvValue::InjectSecret))
        .map(|(key, _)| (key.clone(), Secret::default()))
        .collect();
    let nowhere = Stamp {
        run: RunId::default(),
        attempt: 1,
        nonce: Nonce::default(),
        instance: "",
        inject: &given,
        max_runtime: None,
    };
    let mut found = plan(spec, &all_that_is_named(spec), &nowhere).err().unwrap_or_default();
    // A cluster that is not there leaves unsaid whatever depends on one.
    let of_cluster = Code::UnknownCluster.as_str();
    found.retain(|problem| problem.level == Level::Error && problem.code != of_cluster);
    found
}

/// A server without clusters that has everything else, as far as names can be given to it.
fn all_that_is_named(spec: &Spec) -> Catalogue {
    // No file can name this one.
    let own = ProjectRef::default();
    let of = |artifact: &ArtifactRef| {
        let name = artifact.of(&own);
        let is_own = |name: &str| name.is_empty() || is_name(name);
        (is_own(name.organization.as_str()) && is_own(name.project.as_str())).then_some(name)
    };
    let mut all = Catalogue { project: own.clone(), ..Catalogue::default() };
    let can_be = |name: &ObjectName| {
        let project = name
            .project
            .as_ref()
            .is_none_or(|project| project.as_str().is_empty() || is_name(project.as_str()));
        let organization = name.organization.as_str();
        project && (organization.is_empty() || is_name(organization))
    };
    for (name, number) in named_objects(spec, &own).into_iter().filter(|(name, _)| can_be(name)) {
        all.objects.entry(name).or_default().insert(number.unwrap_or(1), String::new());
    }
    let storage = |name: StorageName| {
        let storage = Storage {
            kind: StorageKind::BuiltIn,
            path: String::new(),
            endpoint: None,
            region: None,
            credential: None,
        };
        (name, storage)
    };
    all.storages.extend(named_storages(spec).into_iter().filter(|name| is_name(name.as_str())).map(storage));
    all.volumes.extend(named_volumes(spec).filter(|(_, name)| is_name(name)).map(|(storage, volume)| {
        VolumeRef { organization: own.organization.clone(), storage: storage.into(), volume: volume.into() }
    }));
    for export in spec.export.values() {
        if let Export::Artifact(artifact) = export {
            all.projects.extend(of(artifact).map(|name| name.project()));
        }
    }
    let secrets = spec.env.values().filter_map(|value| match value {
        EnvValue::Secret(name) if is_name(name) => Some(name.clone()),
        _ => None,
    });
    all.secrets.extend(secrets);
    // A name is stored once, so what the image needs decides what a repository gets.
    let is_pulled = !["host://", "oci://"].iter().any(|local| spec.image.url.starts_with(local));
    let registry = spec.image.credential_name.iter().filter(|_| is_pulled);
    let repositories = spec.import.values().filter_map(|import| match import {
        Import::Git(git) => git.credential_name.as_ref(),
        _ => None,
    });
    let stores = spec.import.values().filter_map(|import| match import {
        Import::S3(s3) => Some((s3.credential_name.as_ref()?, CredentialKind::S3)),
        Import::Gs(gs) => Some((gs.credential_name.as_ref()?, CredentialKind::Gcs)),
        Import::Hf(hf) => Some((hf.credential_name.as_ref()?, CredentialKind::Hf)),
        _ => None,
    });
    let targets = spec.export.values().filter_map(|export| match export {
        Export::S3(s3) => Some((s3.credential_name.as_ref()?, CredentialKind::S3)),
        Export::Gs(gs) => Some((gs.credential_name.as_ref()?, CredentialKind::Gcs)),
        _ => None,
    });
    let kinds = registry.map(|name| (name, CredentialKind::Registry));
    let kinds = kinds.chain(repositories.map(|name| (name, CredentialKind::Git)));
    for (name, kind) in kinds.chain(stores).chain(targets) {
        if is_name(name) {
            all.credentials.entry(name.as_str().into()).or_insert(kind);
        }
    }
    all
}
