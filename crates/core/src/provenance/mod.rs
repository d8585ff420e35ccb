//! What a run really used, and how another run is made from it: the same submit again, or the very versions again. It looks nothing up.
//!
//! ```text
//! plan + what its agent told --attempt--> AttemptUsed        (shown, compared)
//! plan of a new run + AttemptUsed --pin--> the same plan with those versions, or every reason why not
//! spec + plan of a run --given_again--> what has to be given at submit for the same plan
//! ```
mod codes;
mod pin;
mod resubmit;

pub use codes::codes;
pub use pin::{Used, changed_secrets, pin};
pub use resubmit::{Submitted, given_again, qualify};

use std::collections::BTreeMap;

use crate::ids::RunId;
use crate::plan::{EnvFrom, ImagePlan, ImportSource, MountFrom, Plan, RESERVED};
use crate::record::Transfer;
use crate::wire::{AttemptUsed, ImageUsed, SourceUsed, VariableUsed, VersionKind};

/// What is known of an attempt beside its plan.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// Its number.
    pub number: u32,
    /// Where it was placed.
    pub node: Option<String>,
    /// Indices of the GPUs it had there.
    pub gpus: Vec<u32>,
    /// Digest of its image, once it was here.
    pub image_digest: Option<&'a str>,
    /// Results of its imports, and of the mounts of versions.
    pub imports: &'a [Transfer],
}

/// What an attempt used.
pub fn attempt(plan: &Plan, facts: &Facts<'_>) -> AttemptUsed {
    let imports = plan.imports.iter().map(|import| imported(&import.path, &import.source, facts));
    let mounts = plan.mounts.iter().map(|mount| mounted(&mount.path, &mount.source, facts));
    AttemptUsed {
        attempt: facts.number,
        node: facts.node.clone(),
        gpus: facts.gpus.clone(),
        image: ImageUsed {
            reference: plan.image.label(),
            digest: facts.image_digest.map(str::to_owned),
            live: plan.image == ImagePlan::Host,
        },
        sources: imports.chain(mounts).collect(),
    }
}

/// Where the values of the run's own variables are from. `stored` are the names of the secrets by variable; secret values that were given
/// to another run, and taken over from there, are in `given`.
pub fn variables(
    plan: &Plan,
    stored: &BTreeMap<String, String>,
    given: &BTreeMap<String, RunId>,
) -> BTreeMap<String, VariableUsed> {
    let own = plan.env.iter().filter(|variable| !RESERVED.contains(&variable.key.as_str()));
    let used = |value: &EnvFrom| match value {
        EnvFrom::Text(text) => VariableUsed::Text(text.clone()),
        EnvFrom::Secret(key) => match stored.get(key) {
            Some(name) => VariableUsed::Secret(name.clone()),
            None => VariableUsed::Given(given.get(key).copied().unwrap_or(plan.run)),
        },
    };
    own.map(|variable| (variable.key.clone(), used(&variable.value))).collect()
}

fn imported(path: &str, source: &ImportSource, facts: &Facts<'_>) -> SourceUsed {
    let (kind, asked, settled) = match source {
        ImportSource::Git { reference, .. } => (VersionKind::Commit, reference.clone(), None),
        ImportSource::Hf(hf) => (VersionKind::Commit, hf.revision.clone(), None),
        ImportSource::Tree { manifest, .. } => (VersionKind::Manifest, None, Some(manifest.clone())),
        ImportSource::Bucket(_) => (VersionKind::Picture, None, None),
        ImportSource::Volume(_) => (VersionKind::Live, None, None),
    };
    let used = SourceUsed {
        path: path.to_owned(),
        mounted: false,
        source: source.label().to_owned(),
        asked,
        kind,
        version: settled,
        number: None,
        error: None,
    };
    told(used, facts)
}

fn mounted(path: &str, source: &MountFrom, facts: &Facts<'_>) -> SourceUsed {
    let (source, kind, version) = match source {
        MountFrom::Tree { label, manifest } => (label.clone(), VersionKind::Manifest, Some(manifest.clone())),
        MountFrom::Volume(volume) => (volume.label.clone(), VersionKind::Live, None),
        MountFrom::Hostpath { path, .. } => (format!("hostpath://{path}"), VersionKind::Live, None),
        MountFrom::Nfs { server, path } => (format!("nfs://{server}{path}"), VersionKind::Live, None),
    };
    let path = path.to_owned();
    let used =
        SourceUsed { path, mounted: true, source, asked: None, kind, version, number: None, error: None };
    told(used, facts)
}

/// With what the agent told of it. The version of a tree is settled by the plan already.
fn told(mut used: SourceUsed, facts: &Facts<'_>) -> SourceUsed {
    let Some(transfer) = facts.imports.iter().find(|transfer| transfer.path == used.path) else {
        return used;
    };
    used.error.clone_from(&transfer.error);
    if used.kind != VersionKind::Live && transfer.error.is_none() {
        used.version = transfer.version.clone().filter(|version| !version.is_empty()).or(used.version);
    }
    used
}
