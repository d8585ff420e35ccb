//! How stored runs read to people: store rows and what the drivers said last, put into the API's types.
use std::collections::BTreeMap;

use vessl_core::access::{Action, Caller, Scope, allowed};
use vessl_core::ids::{AttemptId, Nonce, ProjectRef, RunId, RunRef};
use vessl_core::object::ObjectName;
use vessl_core::plan::{EnvFrom, EnvPlan, RESERVED};
use vessl_core::record::{Phase, Transfer};
use vessl_core::run::{Admission, Applied, EndReason, Inputs, Observation, State, Status, decide};
use vessl_core::wire::{
    AttemptView, Explain, RunEvent, RunKind, RunQuery, RunReadQuery, RunView, StatusChange,
};

use super::{Control, ControlError, Explanation, Inner, Result};
use crate::store::find::{Listed, Page};
use crate::store::runs::{PastAttempt, StoredEvent, StoredRun};

/// Runs on a page when nobody says how many.
const PAGE: u32 = 100;
/// Largest page of runs.
const LARGEST_PAGE: u32 = 1000;
/// Events that are read at once.
const EVENTS: u32 = 256;

impl Control {
    /// One run, with its canonical run file, and perhaps with what it really used.
    pub async fn run(&self, caller: &Caller, of: &RunRef, query: RunReadQuery) -> Result<RunView> {
        let stored = self.0.stored(caller, Action::Read, of).await?;
        let texts = self.0.parts.store.run_texts(of.id).await?;
        let provenance = match &texts {
            Some(texts) if query.provenance => Some(self.0.provenance(&stored, texts).await?),
            _ => None,
        };
        let attempt = stored.doc.run.attempt_id();
        let kept = self.0.kept(&stored);
        let ports = match &texts {
            Some(texts) => self.show_ports(&stored, &texts.plan.ports).await,
            None => Vec::new(),
        };
        let interactive = texts.as_ref().is_some_and(|texts| texts.plan.interactive.is_some());
        let has_jupyter = interactive && !stored.status().is_final();
        let jupyter = if has_jupyter { Some(self.0.jupyter_of(&stored).await) } else { None };
        let ends = match &texts {
            Some(texts) => self.0.ends(&stored, &texts.plan).await,
            None => None,
        };
        let ssh = self.ssh_line(&stored);
        let mut view = RunView { kept, provenance, ports, ssh, jupyter, ends, ..self.0.view(stored) };
        self.0.number(&mut view.imports, None).await?;
        self.0.number(&mut view.exports, Some(attempt)).await?;
        if let Some(texts) = texts {
            view.env = Some(env(texts.plan.env));
            view.yaml = Some(texts.yaml);
        }
        Ok(view)
    }

    /// One page of runs, and those of it that cannot be read.
    pub async fn runs(
        &self,
        caller: &Caller,
        project: &ProjectRef,
        mut query: RunQuery,
    ) -> Result<(Vec<RunView>, Vec<RunId>)> {
        allowed(caller, Action::Read, Scope::Project(project.clone()))?;
        self.0.known_project(project).await?;
        query.limit = Some(query.limit.unwrap_or(PAGE).min(LARGEST_PAGE));
        query.keyword = query.keyword.filter(|word| !word.is_empty());
        let Page { listed, unreadable } = self.0.parts.store.page(project.clone(), query).await?;
        let view =
            |Listed { stored, env: variables }| RunView { env: variables.map(env), ..self.0.view(stored) };
        let unreadable = unreadable.into_iter().map(|run| run.id).collect();
        Ok((listed.into_iter().map(view).collect(), unreadable))
    }

    /// Why a run is where it is.
    pub async fn explain(&self, caller: &Caller, of: &RunRef) -> Result<Explain> {
        let stored = self.0.stored(caller, Action::Read, of).await?;
        let id = of.id;
        let (status, mut said) = (stored.status(), self.0.said(&stored));
        if status == Status::Idle {
            said.next.push(format!("`vessl run terminate {}`", id.0));
        }
        let (mut progress, mut silent_millis) = (None, None);
        if let State::Active { phase, .. } = stored.doc.run.state {
            if let Some(what) = self.0.moves(&stored, phase).await? {
                said.why = format!("{}: {what}", said.why);
            }
            if matches!(phase, Phase::Pulling | Phase::Importing | Phase::Exporting) {
                let last = self.attempts().last_progress(stored.doc.run.attempt_id()).await;
                let began = stored.doc.phases.last().map(|change| change.at);
                let moved = last.as_ref().map(|(_, at)| *at).max(began);
                let silent = moved.map(|at| self.0.now().as_millisecond() - at.as_millisecond());
                silent_millis = silent.map(|millis| u64::try_from(millis).unwrap_or(0));
                progress = last.map(|(progress, _)| progress);
            }
        }
        let mut ahead = Vec::new();
        if status == Status::Queued {
            let sight = self.0.ahead.sight(id);
            (progress, ahead) = (sight.progress, sight.here);
        }
        let ends = match self.0.parts.store.run_texts(id).await? {
            Some(texts) => self.0.ends(&stored, &texts.plan).await,
            None => None,
        };
        let (queue, decided_at) = (self.0.allocator.place(id), said.at);
        let (why, next) = (said.why, said.next);
        Ok(Explain { id, status, why, next, queue, progress, ahead, silent_millis, ends, decided_at })
    }

    /// Events after `after`, at most some hundred, and whether the run can have more.
    pub async fn events(&self, caller: &Caller, of: &RunRef, after: u64) -> Result<(Vec<RunEvent>, bool)> {
        let stored = self.0.stored(caller, Action::Read, of).await?;
        // Read after the run, so that an ended run shows all of its events; what came in between is for the next look,
        // because it belongs to a later state of the run than the one that would be shown with it.
        let mut found = self.0.parts.store.events(of.id, after, EVENTS).await?;
        found.retain(|event| event.seq <= stored.doc.seq);
        let last = found.last().map_or(after, |event| event.seq);
        let more = last < stored.doc.seq || !stored.status().is_final();
        let events = found.into_iter().map(|event| self.0.event(&stored, event)).collect();
        Ok((events, more))
    }

    /// An attempt, the current one if no `number` is given, and whether it has ended: what somebody who reads a log must know.
    pub async fn attempt(
        &self,
        caller: &Caller,
        of: &RunRef,
        number: Option<u32>,
    ) -> Result<(AttemptId, bool)> {
        let doc = self.0.stored(caller, Action::Read, of).await?.doc;
        let current = doc.run.attempt_id();
        if number.is_none_or(|number| number == current.number) {
            return Ok((current, doc.run.verdict().is_some()));
        }
        let past = doc.attempts.iter().find(|past| Some(past.number) == number);
        let past = past.map(|past| AttemptId { number: past.number, nonce: past.nonce, ..current });
        past.map(|past| (past, true)).ok_or_else(|| ControlError::NotFound {
            message: format!("run {} has no attempt {}", of.id.0, number.unwrap_or_default()),
            hint: Some(format!("its attempts are 1 to {}", current.number)),
        })
    }
}

impl Inner {
    /// The run, if the caller may do this with it and it is of this project.
    pub(super) async fn stored(&self, caller: &Caller, action: Action, of: &RunRef) -> Result<StoredRun> {
        allowed(caller, action, Scope::Project(of.project.clone()))?;
        match self.parts.store.run(of.id).await? {
            Some(stored) if stored.project == of.project => Ok(stored),
            _ => Err(ControlError::NotFound {
                message: format!("there is no run `{}` in `{}`", of.id.0, of.project),
                hint: Some("`vessl run list` shows the runs there are".to_owned()),
            }),
        }
    }

    pub(super) fn view(&self, stored: StoredRun) -> RunView {
        let said = self.said(&stored);
        let doc = stored.doc;
        // What an attempt was is not what the run is, once another one follows.
        let is_over = matches!(doc.run.state, State::Retrying { .. });
        let exit_code =
            exit_code(&doc.run.state).or(doc.commands.map(|end| end.exit_code)).filter(|_| !is_over);
        let node = doc.run.placement().map(|placement| placement.node.to_string());
        let status = doc.history.last().map_or_else(|| doc.run.status(), |change| change.status);
        RunView {
            id: doc.run.id,
            name: stored.name,
            description: stored.description,
            tags: doc.tags,
            kind: doc.kind,
            status,
            reason: said.why,
            reason_code: reason_code(&doc.run.state),
            exit_code,
            attempt: doc.run.attempt,
            retries: doc.run.retries.allowed,
            from: doc.from,
            created_at: doc.created_at,
            attempts: doc.attempts.into_iter().map(past).collect(),
            started_at: doc.run.started_at().filter(|_| !is_over),
            ended_at: doc.run.ended_at().filter(|_| !is_over),
            no_contact_since: doc.run.no_contact_since,
            created_by: doc.created_by.map(String::from),
            organization: stored.project.organization.into(),
            project: stored.project.project.into(),
            cluster: doc.cluster.into(),
            node,
            preset: doc.preset.map(String::from),
            resources: doc.resources,
            image: doc.image,
            image_digest: doc.image_digest,
            commit: doc.imports.iter().find_map(Transfer::commit).map(str::to_owned),
            history: doc.history,
            imports: doc.imports,
            exports: doc.exports,
            phases: doc.phases,
            usage: doc.usage,
            ends: None,
            kept: None,
            ports: Vec::new(),
            ssh: None,
            jupyter: None,
            env: None,
            yaml: None,
            provenance: None,
            warnings: Vec::new(),
        }
    }

    /// Says which version each of these is: of exports what the attempt made, of others what has the same files.
    async fn number(&self, transfers: &mut [Transfer], of: Option<AttemptId>) -> Result<()> {
        let store = &self.parts.store;
        for transfer in transfers {
            if let Some(of) = of {
                transfer.number = store.exported_number(of, transfer.path.clone()).await?;
            }
            if transfer.number.is_none()
                && let Some((name, manifest)) =
                    ObjectName::of_address(&transfer.label).zip(transfer.version.clone())
            {
                transfer.number = store.number_of(name, manifest).await?;
            }
        }
        Ok(())
    }

    /// What is being fetched or copied in.
    async fn moves(&self, stored: &StoredRun, phase: Phase) -> Result<Option<String>> {
        match phase {
            Phase::Pulling => Ok(Some(format!("`{}`", stored.doc.image))),
            Phase::Importing => {
                let texts = self.parts.store.run_texts(stored.id()).await?;
                let imports = texts.map(|texts| texts.plan.imports).unwrap_or_default();
                // Imports are carried out in order.
                let (nth, all) = (stored.doc.imports.len(), imports.len());
                Ok(imports.get(nth).map(|import| {
                    format!("`{}` to `{}` ({} of {all})", import.source.label(), import.path, nth + 1)
                }))
            }
            _ => Ok(None),
        }
    }

    /// The words of the last turn. For a run that waits they are made new from the very rule that decides.
    fn said(&self, stored: &StoredRun) -> Explanation {
        let doc = &stored.doc;
        if let (State::Queued, Some(admission @ Admission::Waiting(_))) =
            (&doc.run.state, self.allocator.peek(doc.run.id))
        {
            let seen = Inputs {
                observed: Observation::Nothing,
                admission: Some(admission),
                applied: Applied::default(),
                nonce: Nonce::default(),
            };
            let at = self.now();
            let turn = decide(&doc.run, &seen, at);
            return Explanation { status: None, why: turn.why, next: turn.next, at };
        }
        let status = stored.status();
        // A turn since the record was read may have brought another status.
        let fits =
            |said: &Explanation| said.at >= doc.decided_at && said.status.is_none_or(|said| said == status);
        let handle = self.handles().get(&doc.run.id).and_then(|handle| handle.explanation());
        let settled = status.is_final() || status == Status::Idle;
        let mut said = handle.filter(|said| fits(said) && !settled).unwrap_or_else(|| Explanation {
            status: None,
            why: doc.why.clone(),
            next: Vec::new(),
            at: doc.decided_at,
        });
        if status == Status::Running
            && doc.kind == RunKind::Interactive
            && let Some(end) = &doc.commands
        {
            said.why = format!("{}; the session goes on", end.words);
        }
        said
    }

    fn event(&self, stored: &StoredRun, event: StoredEvent) -> RunEvent {
        let run = event.status.map(|status| {
            let mut view = self.view(stored.clone());
            // What a waiting run waits for is said anew; all others stay as they were said.
            if status != Status::Queued || view.status != status {
                view.reason.clone_from(&event.message);
            }
            if status != view.status {
                view.status = status;
                view.exit_code = None;
                view.reason_code = None;
                view.ended_at = None;
                view.started_at = view.started_at.filter(|_| status >= Status::Running);
                let is_it = |change: &StatusChange| change.status == status && change.at == event.at;
                let past = view.history.iter().position(is_it);
                view.history.truncate(past.map_or(view.history.len(), |at| at + 1));
            }
            Box::new(view)
        });
        RunEvent {
            seq: event.seq,
            at: event.at,
            kind: event.kind,
            message: event.message,
            run,
            progress: None,
        }
    }
}

fn past(attempt: PastAttempt) -> AttemptView {
    let PastAttempt { number, verdict, node, started_at, ended_at, imports, image_digest, .. } = attempt;
    AttemptView {
        attempt: number,
        status: verdict.status,
        reason_code: verdict.reason_code,
        reason: verdict.reason,
        exit_code: verdict.exit_code,
        node: node.map(|node| node.to_string()),
        started_at,
        ended_at,
        commit: imports.iter().find_map(Transfer::commit).map(str::to_owned),
        image_digest,
    }
}

fn reason_code(state: &State) -> Option<EndReason> {
    match state {
        State::Ended { verdict, .. } => Some(verdict.reason_code).filter(|code| *code != EndReason::Unknown),
        _ => None,
    }
}

fn exit_code(state: &State) -> Option<i32> {
    match state {
        State::Ended { verdict, .. } => verdict.exit_code,
        _ => None,
    }
}

/// What the file and the submit made of the environment; what every run has is left out.
fn env(variables: Vec<EnvPlan>) -> BTreeMap<String, Option<String>> {
    let own = variables.into_iter().filter(|variable| !RESERVED.contains(&variable.key.as_str()));
    let pair = |EnvPlan { key, value }| match value {
        EnvFrom::Text(text) => (key, Some(text)),
        EnvFrom::Secret(_) => (key, None),
    };
    own.map(pair).collect()
}
