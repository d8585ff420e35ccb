//! Taking a run in: text → spec → plan → one durable insert → a driver.
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use vessl_core::access::{Action, Caller, Scope, allowed};
use vessl_core::ids::{Nonce, ProjectRef, RunId, RunRef};
use vessl_core::plan::{ImagePlan, Plan, Planned, Stamp, plan, unusable_image};
use vessl_core::run::{MAX_RETRIES, Run, Status};
use vessl_core::spec::Shell;
use vessl_core::spec::{self, ReadOptions, Spec, labels};
use vessl_core::units::Span;
use vessl_core::wire::{Problem, RunCreate, RunKind, RunView, StatusChange, Sweep};
use zeroize::Zeroizing;

use super::secrets::bound_to_run;
use super::{Control, ControlError, Result};
use crate::store::objects::Made;
use crate::store::runs::{Doc, Inserted, Keys, NewRun, StoredRun, Texts};

/// Largest run file in bytes.
const LARGEST_FILE: usize = 1 << 20;
/// From this size on a run file is read on a thread of its own.
const LARGE_FILE: usize = 64 << 10;
const LONGEST_KEY: usize = 200;

/// A run that is stored.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The run, with the warnings of its file.
    pub view: RunView,
    /// False if the same submit was stored before.
    pub created: bool,
}

impl Control {
    /// Takes a run in. When this is `Ok`, the run is on disk.
    pub async fn submit(
        &self,
        caller: &Caller,
        project: &ProjectRef,
        mut create: RunCreate,
    ) -> Result<Submitted> {
        allowed(caller, Action::Run, Scope::Project(project.clone()))?;
        if self.0.stopping.is_cancelled() {
            return Err(ControlError::Stopping);
        }
        self.0.known_project(project).await?;
        let key = self.key(&create)?;
        if let Some((key, digest)) = &key
            && let Some((earlier, found)) =
                self.0.parts.store.run_by_key(project.clone(), key.clone()).await?
        {
            return if found == *digest {
                self.repeat(caller, project, earlier).await
            } else {
                taken(earlier)
            };
        }
        let source = self.0.source(caller, project, &mut create).await?;
        let mut read = read_spec(&create).await?;
        let asked = Asked::of(&create)?;
        let mut inject =
            source.as_ref().map(|source| source.given(&mut read.spec, project)).unwrap_or_default();
        let taken_over = source.as_ref().map(|source| source.taken_over(&create.env)).unwrap_or_default();
        create.overrides.apply(&mut read.spec).map_err(ControlError::Unfit)?;
        let mut catalogue = self.0.catalogue(project, &read.spec).await?;
        self.0.add_used(&mut catalogue, source.as_ref()).await?;
        let id = self.0.parts.store.next_id();
        inject.extend(create.env.into_iter().map(|pair| (pair.key, pair.value)));
        let (nonce, instance) = (nonce()?, self.0.parts.inventory.instance.as_str());
        let max_runtime = asked.max_runtime;
        let stamp = Stamp { run: id, attempt: 1, nonce, instance, inject: &inject, max_runtime };
        let planned = plan(&read.spec, &catalogue, &stamp).and_then(|planned| match &source {
            Some(source) => source.pin(planned, &catalogue),
            None => Ok(planned),
        });
        let mut planned = planned.map_err(|mut problems| {
            self.0.parts.store.give_back(id);
            create.overrides.name_flags(&mut problems);
            ControlError::Invalid(read.with(create.yaml.expose(), problems))
        })?;
        let mut notes = planned.notes.clone();
        create.overrides.name_flags(&mut notes);
        let warnings = read.with(create.yaml.expose(), notes);
        if let Some(problem) = self.unusable_image(&planned.plan).await {
            self.0.parts.store.give_back(id);
            return Err(ControlError::Invalid(read.with(create.yaml.expose(), vec![problem])));
        }
        planned.plan.shell = if create.strict { Shell::Strict } else { Shell::Plain };
        let volumes = std::mem::take(&mut planned.needs.volumes);
        let mut new = self.new_run(caller, &read, planned, key)?;
        new.stored.doc.run.retries.allowed = asked.retries;
        new.stored.doc.sweep = asked.sweep;
        new.stored.doc.max_runtime = asked.max_runtime;
        new.stored.doc.from = create.from;
        new.take_over(taken_over);
        let stored = new.stored.clone();
        match self.0.parts.store.insert_run(new).await? {
            Inserted::New => {}
            Inserted::Repeat(earlier) => return self.repeat(caller, project, earlier).await,
            Inserted::KeyTaken(earlier) => return taken(earlier),
        }
        for volume in volumes {
            let made = Made { by: Some(caller.user.clone()), at: self.now() };
            self.0.parts.store.add_volume(volume, Vec::new(), made).await?;
        }
        self.0.start_driver(&stored);
        let view = RunView { warnings, ..self.0.view(stored) };
        Ok(Submitted { view, created: true })
    }

    /// What is wrong with an image of the machine. A look that fails says nothing about it: then the run itself finds out.
    async fn unusable_image(&self, plan: &Plan) -> Option<Problem> {
        if !matches!(plan.image, ImagePlan::Layout { .. }) {
            return None;
        }
        let images = self.0.parts.engines.images(&plan.cluster).ok()?;
        match images.check(&plan.image.label(), plan.fence.as_deref().unwrap_or_default()).await {
            Ok(why) => why.map(unusable_image),
            Err(error) => {
                tracing::warn!("an image is not looked at before its run: {}", crate::chain(&error));
                None
            }
        }
    }

    async fn repeat(&self, caller: &Caller, project: &ProjectRef, earlier: RunId) -> Result<Submitted> {
        let of = RunRef { project: project.clone(), id: earlier };
        let view = self.0.view(self.0.stored(caller, Action::Run, &of).await?);
        Ok(Submitted { view, created: false })
    }

    /// The idempotency key with a digest of everything else that was submitted.
    fn key(&self, create: &RunCreate) -> Result<Option<(String, Vec<u8>)>> {
        let Some(key) = &create.idempotency_key else { return Ok(None) };
        if key.is_empty() || key.len() > LONGEST_KEY {
            let words = format!("an idempotency key must have 1 to {LONGEST_KEY} bytes");
            return Err(ControlError::Malformed(words));
        }
        // All but the key itself.
        let rest = RunCreate { idempotency_key: None, ..create.clone() };
        let bytes = serde_json::to_vec(&rest).map_err(|error| ControlError::Malformed(error.to_string()))?;
        let bytes = Zeroizing::new(bytes);
        Ok(Some((key.clone(), self.0.parts.vault.digest(&bytes))))
    }

    fn new_run(
        &self,
        caller: &Caller,
        read: &Read,
        planned: Planned,
        key: Option<(String, Vec<u8>)>,
    ) -> Result<NewRun> {
        let Planned { plan, needs, .. } = planned;
        let id = plan.run;
        let mut sealed = Vec::with_capacity(needs.literal.len());
        for (name, value) in &needs.literal {
            let bytes = self.0.parts.vault.seal(&bound_to_run(id, name), value.expose().as_bytes())?;
            sealed.push((name.clone(), bytes));
        }
        let stored = first(caller, &read.spec, &plan, self.now());
        let keys = Keys { stored: needs.stored, credentials: needs.credentials, given: BTreeMap::new() };
        let yaml = read.canonical();
        Ok(NewRun { stored, texts: Texts { plan, yaml, keys }, sealed, key })
    }
}

/// What is asked for beside the file.
struct Asked {
    max_runtime: Option<Span>,
    retries: u32,
    sweep: Option<Sweep>,
}

impl Asked {
    fn of(create: &RunCreate) -> Result<Self> {
        let malformed = |words: String| Err(ControlError::Malformed(words));
        let max_runtime = match create.max_runtime.as_deref().map(str::parse).transpose() {
            Ok(max_runtime) => max_runtime,
            Err(error) => return Err(ControlError::Unfit(format!("`max_runtime`: {error}"))),
        };
        let retries = create.retries.unwrap_or_default();
        if retries > MAX_RETRIES {
            return malformed(format!("`retries` may be at most {MAX_RETRIES}"));
        }
        match &create.sweep {
            Some(sweep) if !labels::is_name(&sweep.name) => {
                malformed(format!("the name of a sweep must be {}", labels::NAME_FORM))
            }
            Some(Sweep { parallel: 0, .. }) => malformed("`sweep.parallel` must be at least 1".to_owned()),
            sweep => Ok(Self { max_runtime, retries, sweep: sweep.clone() }),
        }
    }
}

/// A new random number for an attempt.
pub(super) fn nonce() -> Result<Nonce> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| ControlError::Random(error.to_string()))?;
    // 0 is for attempts that have none.
    Ok(Nonce(u64::from_ne_bytes(bytes).max(1)))
}

fn taken(earlier: RunId) -> Result<Submitted> {
    Err(ControlError::Refused {
        message: format!("the idempotency key was used for another submit, run {}", earlier.0),
        hint: Some("use a new key for a new run".to_owned()),
    })
}

/// The run at its first revision: queued.
fn first(caller: &Caller, spec: &Spec, plan: &Plan, now: Timestamp) -> StoredRun {
    let run = Run::new(plan.run, plan.nonce);
    let why = run.reason();
    let history = vec![StatusChange { status: Status::Queued, at: now, reason: why.clone() }];
    StoredRun {
        revision: 1,
        project: plan.project.clone(),
        name: spec.name.clone(),
        description: spec.description.clone(),
        doc: Doc {
            run,
            tags: spec.tags.clone(),
            kind: if spec.interactive.is_some() { RunKind::Interactive } else { RunKind::Batch },
            created_at: now,
            created_by: Some(caller.user.clone()),
            cluster: plan.cluster.clone(),
            preset: plan.preset.clone(),
            resources: plan.resources.clone(),
            image: plan.image.label(),
            image_digest: None,
            why,
            decided_at: now,
            commands: None,
            agent_seq: 0,
            seq: 1,
            history,
            imports: Vec::new(),
            exports: Vec::new(),
            phases: Vec::new(),
            usage: None,
            extended: 0,
            nodes: plan.nodes.clone(),
            sweep: None,
            max_runtime: None,
            from: None,
            attempts: Vec::new(),
            public_ports: BTreeSet::new(),
        },
    }
}

/// A run file that was read without an error.
struct Read {
    spec: Spec,
    warnings: Vec<Problem>,
}

async fn read_spec(create: &RunCreate) -> Result<Read> {
    if create.yaml.len() > LARGEST_FILE {
        return Err(ControlError::Malformed("a run file may have at most 1 MiB".to_owned()));
    }
    if create.base.as_deref().is_some_and(|base| !base.starts_with('/')) {
        return Err(ControlError::Malformed("`base` must be an absolute path".to_owned()));
    }
    if create.yaml.len() < LARGE_FILE {
        return read_text(create);
    }
    let create = create.clone();
    tokio::task::spawn_blocking(move || read_text(&create)).await.map_err(|_| ControlError::Stopping)?
}

fn read_text(create: &RunCreate) -> Result<Read> {
    let options =
        ReadOptions { lenient: create.lenient, base: create.base.as_deref(), strict: create.strict };
    let read = spec::read(create.yaml.expose().as_bytes(), options);
    match read.spec {
        Some(spec) => Ok(Read { spec, warnings: read.problems }),
        None => Err(ControlError::Invalid(read.problems)),
    }
}

impl Read {
    /// What the plan found beside what the reading warned of, each at its place in the file.
    fn with(&self, text: &str, found: Vec<Problem>) -> Vec<Problem> {
        let mut all = [found, self.warnings.clone()].concat();
        spec::locate(text.as_bytes(), &mut all);
        all
    }

    /// The canonical file as it is kept and shown: no secret value in it.
    fn canonical(&self) -> String {
        let mut shown = self.spec.clone();
        spec::hide(&mut shown);
        spec::print(&shown)
    }
}
