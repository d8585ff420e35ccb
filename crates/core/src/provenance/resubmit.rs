//! The same submit again: what has to be given for the file of a run to come to the same plan.
use std::collections::BTreeMap;

use crate::ids::ProjectRef;
use crate::plan::{EnvFrom, Plan, RESERVED};
use crate::secret::Secret;
use crate::spec::{EnvValue, Import, Spec};

/// A run as it was submitted.
#[derive(Clone, Copy, Debug)]
pub struct Submitted<'a> {
    /// What it was planned to be.
    pub plan: &'a Plan,
    /// Names of its stored secrets by variable.
    pub stored: &'a BTreeMap<String, String>,
    /// Its other secret values by variable.
    pub given: &'a BTreeMap<String, Secret>,
}

/// The variables that were given at the submit of a run, in order, as far as its file does not say the same. What the file has hidden of
/// the name of a stored secret stands in `spec` again.
pub fn given_again(spec: &mut Spec, of: Submitted<'_>) -> Vec<(String, Secret)> {
    let mut pairs = Vec::new();
    let own = of.plan.env.iter().filter(|variable| !RESERVED.contains(&variable.key.as_str()));
    for variable in own {
        let written = spec.env.get_mut(&variable.key);
        match (&variable.value, written) {
            (EnvFrom::Text(text), Some(EnvValue::Text(same))) if text == same => {}
            (EnvFrom::Text(text), _) => pairs.push((variable.key.clone(), text.as_str().into())),
            (EnvFrom::Secret(key), written) => match (of.stored.get(key), written) {
                (Some(name), Some(written)) => *written = EnvValue::Secret(name.clone()),
                (Some(_), None) => {}
                (None, _) => {
                    pairs.extend(of.given.get(key).map(|value| (variable.key.clone(), value.clone())));
                }
            },
        }
    }
    pairs
}

/// Names in full the artifacts whose organization or project the file leaves out, which are those of the project `own`, so that they are
/// the same in another one.
pub fn qualify(spec: &mut Spec, own: &ProjectRef) {
    for import in spec.import.values_mut() {
        if let Import::Artifact(artifact) = import {
            let full = artifact.of(own);
            artifact.organization_name = Some(full.organization.to_string());
            artifact.project_name = Some(full.project.to_string());
        }
    }
}
