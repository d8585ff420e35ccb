//! Runs that are made from another one: what that one was submitted with is fetched, and given again. The rules about versions are
//! `vessl_core::provenance`'s.
use std::collections::BTreeMap;

use jiff::Timestamp;
use vessl_core::access::{Action, Caller, Scope, allowed};
use vessl_core::ids::{ProjectRef, RunId};
use vessl_core::object::ObjectName;
use vessl_core::plan::{Catalogue, Plan, Planned};
use vessl_core::provenance::{
    Facts, Submitted, Used, attempt, changed_secrets, given_again, pin, qualify, variables,
};
use vessl_core::secret::Secret;
use vessl_core::spec::{Shell, Spec};
use vessl_core::wire::{AttemptUsed, EnvPair, Problem, Provenance, RunCreate, RunFrom, VersionKind};

use super::secrets::bound_to_run;
use super::{ControlError, Inner, Result};
use crate::store::runs::{StoredRun, Texts};
use crate::store::secrets::Class;

/// A run that another one is made from.
pub(super) struct Source {
    from: RunFrom,
    stored: StoredRun,
    texts: Texts,
    /// Secret values that were given to it.
    given: BTreeMap<String, Secret>,
    /// When the secrets that the new run may name were stored.
    stored_at: BTreeMap<String, Timestamp>,
}

impl Inner {
    /// The run that `create` is made from, if it names one; what `create` leaves out is filled in from it.
    pub(super) async fn source(
        &self,
        caller: &Caller,
        project: &ProjectRef,
        create: &mut RunCreate,
    ) -> Result<Option<Source>> {
        let Some(from) = create.from else { return Ok(None) };
        if !create.yaml.is_empty() {
            let words = "a run is made from a file (`yaml`) or from another run (`from`), not from both";
            return Err(ControlError::Unfit(words.to_owned()));
        }
        let missing = || ControlError::NotFound {
            message: format!("there is no run `{}` that you may see", from.run.0),
            hint: Some("`vessl run list` shows the runs there are".to_owned()),
        };
        let store = &self.parts.store;
        let stored = store.run(from.run).await?.ok_or_else(missing)?;
        let scope = || Scope::Project(stored.project.clone());
        allowed(caller, Action::Read, scope()).map_err(|_| missing())?;
        let texts = store.run_texts(from.run).await?.ok_or_else(missing)?;
        let mut given = BTreeMap::new();
        for (key, sealed) in store.run_secrets(from.run).await? {
            let value = self.parts.vault.unseal(&bound_to_run(from.run, &key), &sealed)?;
            given.insert(key, value);
        }
        if !given.is_empty() {
            // Whoever may only look must not carry secrets away.
            allowed(caller, Action::Run, scope())?;
        }
        let secrets = store.sealed_names(project.organization.clone(), Class::Secret).await?;
        let stored_at = secrets.into_iter().map(|secret| (secret.name, secret.created_at)).collect();
        let source = Source { from, stored, texts, given, stored_at };
        source.fill(create);
        Ok(Some(source))
    }

    /// Adds to what is known by name the versions that an exact re-run needs, as far as they are there still.
    pub(super) async fn add_used(&self, catalogue: &mut Catalogue, source: Option<&Source>) -> Result<()> {
        let Some(source) = source.filter(|source| source.from.exact) else { return Ok(()) };
        for (name, manifest) in source.versions() {
            if catalogue.objects.contains_key(&name)
                && let Some(number) = self.parts.store.number_of(name.clone(), manifest.clone()).await?
            {
                catalogue.objects.entry(name).or_default().insert(number, manifest);
            }
        }
        Ok(())
    }

    /// What the attempts of a run really used.
    pub(super) async fn provenance(&self, stored: &StoredRun, texts: &Texts) -> Result<Provenance> {
        let mut attempts = attempts(stored, &texts.plan);
        let sources = attempts.iter_mut().flat_map(|attempt| &mut attempt.sources);
        for source in sources.filter(|source| source.kind == VersionKind::Manifest) {
            if let Some((name, manifest)) = ObjectName::of_address(&source.source).zip(source.version.clone())
            {
                source.number = self.parts.store.number_of(name, manifest).await?;
            }
        }
        Ok(Provenance {
            attempts,
            env: variables(&texts.plan, &texts.keys.stored, &texts.keys.given),
            strict: texts.plan.shell == Shell::Strict,
            max_runtime: texts.plan.time_limit().map(|limit| limit.to_string()),
        })
    }
}

impl Source {
    /// Gives `create` what it leaves out.
    fn fill(&self, create: &mut RunCreate) {
        create.yaml = self.texts.yaml.as_str().into();
        create.strict |= self.texts.plan.shell == Shell::Strict;
        create.retries.get_or_insert(self.stored.doc.run.retries.allowed);
        // What the server gave counts for an exact re-run, also where it would give something else now.
        let exact = self.texts.plan.max_runtime.filter(|_| self.from.exact);
        if create.max_runtime.is_none() {
            create.max_runtime = self.stored.doc.max_runtime.or(exact).map(|limit| limit.to_string());
        }
    }

    /// The variables that were given to it. An exact re-run in another project finds the same artifacts.
    pub(super) fn given(&self, spec: &mut Spec, project: &ProjectRef) -> Vec<(String, Secret)> {
        if self.from.exact && *project != self.stored.project {
            qualify(spec, &self.stored.project);
        }
        let Texts { plan, keys, .. } = &self.texts;
        given_again(spec, Submitted { plan, stored: &keys.stored, given: &self.given })
    }

    /// The secret values that a new run takes over, and the run that each was given to. `env` is given to the new run itself.
    pub(super) fn taken_over(&self, env: &[EnvPair]) -> BTreeMap<String, RunId> {
        let is_new = |key: &String| env.iter().any(|pair| pair.key == *key);
        let origin = |key: &String| self.texts.keys.given.get(key).copied().unwrap_or(self.from.run);
        self.given.keys().filter(|key| !is_new(key)).map(|key| (key.clone(), origin(key))).collect()
    }

    /// The plan with the versions that this run used, if it is to be exact.
    pub(super) fn pin(
        &self,
        mut planned: Planned,
        catalogue: &Catalogue,
    ) -> std::result::Result<Planned, Vec<Problem>> {
        if !self.from.exact {
            return Ok(planned);
        }
        let attempts = attempts(&self.stored, &self.texts.plan);
        let used = Used {
            run: self.from.run,
            attempts: &attempts,
            amounts: &self.stored.doc.resources,
            objects: &catalogue.objects,
        };
        let (plan, notes) = pin(&planned.plan, &used)?;
        planned.plan = plan;
        planned.notes.extend(notes);
        planned.notes.extend(changed_secrets(&planned.needs.stored, &self.stored_at, self.began()));
        Ok(planned)
    }

    /// Every version of the registry that it used.
    fn versions(&self) -> Vec<(ObjectName, String)> {
        let attempts = attempts(&self.stored, &self.texts.plan);
        let sources = attempts.into_iter().flat_map(|attempt| attempt.sources);
        let trees = sources.filter(|source| source.kind == VersionKind::Manifest);
        trees.filter_map(|source| ObjectName::of_address(&source.source).zip(source.version)).collect()
    }

    /// When its first attempt got its secrets, as far as that is known.
    fn began(&self) -> Timestamp {
        let doc = &self.stored.doc;
        let first = match doc.attempts.first() {
            Some(past) => past.started_at,
            None => doc.phases.first().map(|change| change.at),
        };
        first.unwrap_or(doc.created_at)
    }
}

/// What each attempt of a run used, oldest first.
fn attempts(stored: &StoredRun, plan: &Plan) -> Vec<AttemptUsed> {
    let doc = &stored.doc;
    let past = doc.attempts.iter().map(|past| Facts {
        number: past.number,
        node: past.node.as_ref().map(ToString::to_string),
        gpus: past.gpus.clone(),
        image_digest: past.image_digest.as_deref(),
        imports: &past.imports,
    });
    let placement = doc.run.placement();
    let current = Facts {
        number: doc.run.attempt,
        node: placement.map(|placement| placement.node.to_string()),
        gpus: placement.map(|placement| placement.gpus.clone()).unwrap_or_default(),
        image_digest: doc.image_digest.as_deref(),
        imports: &doc.imports,
    };
    past.chain([current]).map(|facts| attempt(plan, &facts)).collect()
}
