//! How stored runs read to people: store rows and what the drivers said last, put into the API's types.
use std::collections::BTreeMap;

use vessl_core::plan::{EnvFrom, EnvPlan, Plan, RESERVED, RunId};
use vessl_core::record::Phase;
use vessl_core::run::{Applied, Look, Seat, Seen, State, Status, decide};
use vessl_core::wire::{Explain, RunEvent, RunView};

use super::{Attempt, Control, ControlError, Inner, Result, Said};
use crate::store::runs::{Page, StoredEvent, StoredRun};

/// Largest page of runs.
const LARGEST_PAGE: u32 = 1000;
/// Events that are read at once.
const EVENTS: u32 = 256;

impl Control {
    /// One run, with its canonical run file.
    pub async fn run(&self, place: [&str; 2], id: RunId) -> Result<RunView> {
        let stored = self.0.stored(place, id).await?;
        let texts = self.0.parts.store.run_texts(id).await?;
        let mut view = self.0.view(stored);
        if let Some(texts) = texts {
            view.env = Some(env(texts.plan));
            view.yaml = Some(texts.yaml);
        }
        Ok(view)
    }

    /// One page of runs, newest first.
    pub async fn runs(&self, mut page: Page) -> Result<Vec<RunView>> {
        self.0.known_project(&page.organization, &page.project).await?;
        page.limit = page.limit.min(LARGEST_PAGE);
        let runs = self.0.parts.store.page(page).await?;
        Ok(runs.into_iter().map(|stored| self.0.view(stored)).collect())
    }

    /// Why a run is where it is.
    pub async fn explain(&self, place: [&str; 2], id: RunId) -> Result<Explain> {
        let stored = self.0.stored(place, id).await?;
        let (status, mut said) = (stored.status(), self.0.said(&stored));
        if status == Status::Idle {
            said.next.push(format!("`vessl run terminate {}`", id.0));
        }
        let mut progress = None;
        if let State::Active { phase, .. } = stored.doc.run.state {
            if let Some(what) = self.0.moves(&stored, phase).await? {
                said.why = format!("{}: {what}", said.why);
            }
            progress = self.progress(Attempt::of(&stored.doc.run)).await;
        }
        Ok(Explain { id, status, why: said.why, next: said.next, progress, decided_at: said.at })
    }

    /// Events after `after`, at most some hundred, and whether the run can have more.
    pub async fn events(&self, place: [&str; 2], id: RunId, after: u64) -> Result<(Vec<RunEvent>, bool)> {
        let stored = self.0.stored(place, id).await?;
        // Read after the run, so that an ended run shows all of its events; what came in between is for the next look,
        // because it belongs to a later state of the run than the one that would be shown with it.
        let mut found = self.0.parts.store.events(id, after, EVENTS).await?;
        found.retain(|event| event.seq <= stored.doc.seq);
        let last = found.last().map_or(after, |event| event.seq);
        let more = last < stored.doc.seq || !stored.status().is_final();
        let events = found.into_iter().map(|event| self.0.event(&stored, event)).collect();
        Ok((events, more))
    }

    /// Attempt and whether it has ended: what somebody who reads a log must know.
    pub async fn attempt(&self, place: [&str; 2], id: RunId) -> Result<(Attempt, bool)> {
        let stored = self.0.stored(place, id).await?;
        Ok((Attempt::of(&stored.doc.run), stored.status().is_final()))
    }
}

impl Inner {
    /// The run, if it is of this organization and project.
    pub(super) async fn stored(&self, [organization, project]: [&str; 2], id: RunId) -> Result<StoredRun> {
        let stored = self.parts.store.run(id).await?;
        match stored {
            Some(stored) if stored.organization == organization && stored.project == project => Ok(stored),
            _ => Err(ControlError::NotFound {
                message: format!("there is no run `{}` in `{organization}/{project}`", id.0),
                hint: Some("`vessl run list` shows the runs there are".to_owned()),
            }),
        }
    }

    pub(super) fn view(&self, stored: StoredRun) -> RunView {
        let said = self.said(&stored);
        let doc = stored.doc;
        let exit_code = exit_code(&doc.run.state).or(doc.commands.map(|end| end.exit_code));
        let node = doc.run.place().map(|place| place.node.clone());
        let status = doc.history.last().map_or_else(|| doc.run.status(), |change| change.status);
        RunView {
            id: doc.run.id,
            name: stored.name,
            description: stored.description,
            tags: doc.tags,
            kind: doc.kind,
            status,
            reason: said.why,
            exit_code,
            attempt: doc.run.attempt,
            created_at: doc.created_at,
            started_at: doc.run.started_at(),
            ended_at: doc.run.ended_at(),
            no_contact_since: doc.run.no_contact_since,
            organization: stored.organization,
            project: stored.project,
            cluster: doc.cluster,
            node,
            preset: doc.preset,
            resources: doc.resources,
            image: doc.image,
            image_digest: doc.image_digest,
            history: doc.history,
            imports: doc.imports,
            exports: doc.exports,
            env: None,
            yaml: None,
            warnings: Vec::new(),
        }
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
    fn said(&self, stored: &StoredRun) -> Said {
        let doc = &stored.doc;
        if let (State::Queued, Some(seat @ Seat::Waits(_))) = (&doc.run.state, self.seats.peek(doc.run.id)) {
            let seen = Seen { look: Look::Nothing, seat: Some(seat), applied: Applied::default() };
            let at = self.now();
            let turn = decide(&doc.run, &seen, at);
            return Said { status: None, why: turn.why, next: turn.next, at };
        }
        let status = stored.status();
        // A turn since the record was read may have brought another status.
        let fits = |said: &Said| said.at >= doc.decided_at && said.status.is_none_or(|said| said == status);
        let desk = self.desks().get(&doc.run.id).and_then(|desk| desk.said());
        let settled = status.is_final() || status == Status::Idle;
        desk.filter(|said| fits(said) && !settled).unwrap_or_else(|| Said {
            status: None,
            why: doc.why.clone(),
            next: Vec::new(),
            at: doc.decided_at,
        })
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
                view.ended_at = None;
                view.started_at = view.started_at.filter(|_| status >= Status::Running);
                let past = view.history.iter().position(|change| change.status == status);
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

fn exit_code(state: &State) -> Option<i32> {
    match state {
        State::Ended { verdict, .. } => verdict.exit_code,
        _ => None,
    }
}

/// What the file and the submit made of the environment; what every run has is left out.
fn env(plan: Plan) -> BTreeMap<String, Option<String>> {
    let own = plan.env.into_iter().filter(|variable| !RESERVED.contains(&variable.key.as_str()));
    let pair = |EnvPlan { key, value }| match value {
        EnvFrom::Text(text) => (key, Some(text)),
        EnvFrom::Secret(_) => (key, None),
    };
    own.map(pair).collect()
}
