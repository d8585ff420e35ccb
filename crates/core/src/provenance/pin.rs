//! The exact re-run: a new plan gets the very versions that a run used, or it is said why it cannot.
use std::collections::BTreeMap;

use jiff::Timestamp;

use super::codes::{Code, problem};
use crate::ids::RunId;
use crate::object::ObjectName;
use crate::plan::fit::amounts_words;
use crate::plan::{Amounts, ImagePlan, ImportPlan, ImportSource, MountFrom, MountPlan, Plan};
use crate::problem::Problem;
use crate::reference::Reference;
use crate::wire::{AttemptUsed, SourceUsed};

/// What to do about what is not known.
const LOOK_ANEW: &str = "make the run without `--exact`: its names are looked up anew";
/// Digits of a version that are shown.
const SHOWN: usize = 12;
/// Digits of a commit.
const COMMIT: [usize; 2] = [40, 64];

/// What the run used that is to be repeated.
#[derive(Clone, Copy, Debug)]
pub struct Used<'a> {
    /// The run.
    pub run: RunId,
    /// Its attempts, oldest first.
    pub attempts: &'a [AttemptUsed],
    /// What it got of the machine.
    pub amounts: &'a Amounts,
    /// The versions that the registry has now, as far as the run used them: the number of each with the hash of its manifest.
    pub objects: &'a BTreeMap<ObjectName, BTreeMap<u64, String>>,
}

/// The plan with image, code and data as the last attempt used them that got everything, and what is to be said of it; or every reason
/// why the last attempt cannot be repeated. Paths of problems are those of the run file.
pub fn pin(plan: &Plan, used: &Used<'_>) -> Result<(Plan, Vec<Problem>), Vec<Problem>> {
    let mut reasons = None;
    for attempt in used.attempts.iter().rev() {
        let mut pinned = plan.clone();
        let mut pinner = Pinner { used, attempt, notes: Vec::new(), reasons: Vec::new() };
        pinner.plan(&mut pinned);
        if pinner.reasons.is_empty() {
            if reasons.is_some() {
                pinner.earlier();
            }
            return Ok((pinned, pinner.notes));
        }
        reasons.get_or_insert(pinner.reasons);
    }
    Err(reasons.unwrap_or_default())
}

/// Says which of the stored secrets of a run were stored again since `since`, when the run that it repeats had theirs. `secrets` are their
/// names by variable, `stored_at` the times at which they were stored.
pub fn changed_secrets(
    secrets: &BTreeMap<String, String>,
    stored_at: &BTreeMap<String, Timestamp>,
    since: Timestamp,
) -> Vec<Problem> {
    let is_newer = |name: &String| stored_at.get(name).is_some_and(|at| *at > since);
    let changed = secrets.iter().filter(|(_, name)| is_newer(name));
    let say = |(key, name): (&String, &String)| {
        let message = format!("the secret `{name}` was stored again since; the run gets the value of now");
        problem(Code::SecretChanged, format!("env.{key}"), message)
    };
    changed.map(say).collect()
}

/// Repeats one attempt.
struct Pinner<'a> {
    used: &'a Used<'a>,
    attempt: &'a AttemptUsed,
    notes: Vec<Problem>,
    reasons: Vec<Problem>,
}

impl Pinner<'_> {
    fn plan(&mut self, plan: &mut Plan) {
        self.image(plan);
        for import in &mut plan.imports {
            self.import(import);
        }
        for mount in &mut plan.mounts {
            self.mount(mount);
        }
        if plan.resources != *self.used.amounts {
            let (then, now) = (amounts_words(self.used.amounts), amounts_words(&plan.resources));
            let message = format!("run {} had {then}; this run gets {now}", self.used.run.0);
            self.note(Code::OtherAmounts, "resources".to_owned(), message);
        }
    }

    fn image(&mut self, plan: &mut Plan) {
        let label = plan.image.label();
        match (&mut plan.image, &self.attempt.image.digest) {
            (ImagePlan::Host, _) => {
                let message = "the machine's own file system has no versions: the run sees it as it is now";
                self.note(Code::Live, "image".to_owned(), message.to_owned());
            }
            (ImagePlan::Registry { reference, .. }, _) if has_digest(reference) => {}
            (ImagePlan::Registry { reference, .. }, Some(digest)) => {
                *reference = format!("{reference}@{digest}");
            }
            (ImagePlan::Layout { .. }, Some(digest)) => plan.image_digest = Some(digest.clone()),
            (ImagePlan::Registry { .. } | ImagePlan::Layout { .. }, None) => {
                let message = format!(
                    "run {} never had its image `{label}`: it is not known which one that was",
                    self.used.run.0
                );
                self.refuse("image".to_owned(), message);
            }
        }
    }

    fn import(&mut self, import: &mut ImportPlan) {
        let at = format!("import.{}", import.path);
        let label = import.source.label().to_owned();
        let version = match &mut import.source {
            ImportSource::Volume(_) => return self.live(at, &label),
            ImportSource::Git { reference: Some(asked), .. } if is_commit(asked) => return,
            ImportSource::Git { reference, .. } => {
                let version = self.version(&import.path, false, &at, &label);
                reference.clone_from(&version);
                version
            }
            ImportSource::Hf(hf) if hf.revision.as_deref().is_some_and(is_commit) => return,
            ImportSource::Hf(hf) => {
                let version = self.version(&import.path, false, &at, &label);
                hf.revision.clone_from(&version);
                version
            }
            ImportSource::Tree { manifest, .. } => {
                let version = self.version(&import.path, false, &at, &label);
                self.tree(manifest, version.as_deref(), &at, &label);
                version
            }
            ImportSource::Bucket(_) => self.version(&import.path, false, &at, &label),
        };
        import.expected = version;
    }

    fn mount(&mut self, mount: &mut MountPlan) {
        let at = format!("mount.{}", mount.path);
        match &mut mount.source {
            MountFrom::Tree { label, manifest } => {
                let version = self.version(&mount.path, true, &at, label);
                self.tree(manifest, version.as_deref(), &at, label);
            }
            MountFrom::Volume(volume) => self.live(at, &volume.label),
            MountFrom::Hostpath { path, .. } => self.live(at, path),
            MountFrom::Nfs { server, path } => self.live(at, &format!("nfs://{server}{path}")),
        }
    }

    /// The version of a source that the attempt used.
    fn version(&mut self, path: &str, mounted: bool, at: &str, label: &str) -> Option<String> {
        let is_it = |source: &&SourceUsed| source.path == path && source.mounted == mounted;
        let source = self.attempt.sources.iter().find(is_it);
        if let Some(version) = source.and_then(|source| source.version.clone()) {
            return Some(version);
        }
        let run = self.used.run.0;
        let message = match source.and_then(|source| source.error.as_ref()) {
            Some(error) if error.contains(label) => format!("run {run} could not get it: {error}"),
            Some(error) => format!("run {run} could not get `{label}`: {error}"),
            None => format!("run {run} did not get as far as `{label}`: no version of it is known"),
        };
        self.refuse(at.to_owned(), message);
        None
    }

    /// Takes a version of the registry, if it is there still.
    fn tree(&mut self, manifest: &mut String, version: Option<&str>, at: &str, label: &str) {
        let Some(version) = version else { return };
        let versions = ObjectName::of_address(label).and_then(|name| self.used.objects.get(&name));
        if versions.is_some_and(|versions| versions.values().any(|known| known == version)) {
            version.clone_into(manifest);
            return;
        }
        let short: String = version.chars().take(SHOWN).collect();
        let message = format!(
            "the version of `{label}` that run {} used (`{short}`) has been deleted",
            self.used.run.0
        );
        self.refuse(at.to_owned(), message);
    }

    fn live(&mut self, at: String, label: &str) {
        let message = format!("`{label}` has no versions: the run gets it as it is now");
        self.note(Code::Live, at, message);
    }

    fn earlier(&mut self) {
        let message = format!(
            "attempt {} of run {} is repeated: those after it did not get everything",
            self.attempt.attempt, self.used.run.0
        );
        self.note(Code::EarlierAttempt, String::new(), message);
    }

    fn note(&mut self, code: Code, path: String, message: String) {
        self.notes.push(problem(code, path, message));
    }

    fn refuse(&mut self, path: String, message: String) {
        let hint = Some(LOOK_ANEW.to_owned());
        self.reasons.push(Problem { hint, ..problem(Code::NotPinned, path, message) });
    }
}

fn has_digest(reference: &str) -> bool {
    matches!(Reference::parse(reference), Ok(Reference::Registry(named)) if named.digest.is_some())
}

/// Whether what a file names is a whole commit, which can mean nothing else.
fn is_commit(asked: &str) -> bool {
    COMMIT.contains(&asked.len()) && asked.bytes().all(|byte| byte.is_ascii_hexdigit())
}
