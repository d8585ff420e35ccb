//! What this version refuses on every server: found by planning for one that has all that the file names. It knows no rule of its own.
use super::report::Code;
use super::{Catalogue, Stamp, plan};
use crate::credential::CredentialKind;
use crate::ids::{Nonce, ProjectRef, RunId};
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
    for import in spec.import.values() {
        if let Import::Artifact(artifact) = import {
            all.artifacts.extend(of(artifact).map(|name| (name, String::new())));
        }
    }
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
    let kinds = registry.map(|name| (name, CredentialKind::Registry));
    for (name, kind) in kinds.chain(repositories.map(|name| (name, CredentialKind::Git))) {
        if is_name(name) {
            all.credentials.entry(name.as_str().into()).or_insert(kind);
        }
    }
    all
}
