//! What runs at the head of a queue import is brought onto the machine while they wait: one run at a time, and never twice. It decides
//! nothing about them: what fails here the run tries itself, and says so.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use vessl_core::ahead::{FetchOrder, FetchStep, Fetched};
use vessl_core::ids::RunId;
use vessl_core::wire::{Progress, RunEventKind};
use vessl_data::locked;

use super::{Inner, Result};

/// Runs at the head of each queue whose imports are fetched.
const FIRST: usize = 4;

/// What was fetched for whom.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<BTreeMap<RunId, Sight>>);

/// What is known of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct Sight {
    /// How far the import is that is on its way.
    pub(super) progress: Option<Progress>,
    /// What is there, a line each.
    pub(super) here: Vec<String>,
}

impl Ahead {
    /// What is known of a run.
    pub(super) fn sight(&self, run: RunId) -> Sight {
        locked(&self.0).get(&run).cloned().unwrap_or_default()
    }

    fn update(&self, run: RunId, change: impl FnOnce(&mut Sight)) {
        change(locked(&self.0).entry(run).or_default());
    }
}

/// Fetches until the server stops.
pub(super) async fn work(control: Arc<Inner>) {
    let mut changes = control.allocator.changes();
    let mut tried = BTreeSet::new();
    loop {
        changes.borrow_and_update();
        let waiting = control.allocator.first_waiting(FIRST);
        let next = waiting.into_iter().find(|run| !tried.contains(run));
        tokio::select! {
            () = control.stopping.cancelled() => return,
            () = control.next_fetch(next) => tried.extend(next),
            _ = changes.changed(), if next.is_none() => {}
        }
        tried.retain(|run| control.allocator.has(*run));
        locked(&control.ahead.0).retain(|run, _| control.allocator.has(*run));
    }
}

impl Inner {
    /// Fetches for a run; without one it never ends.
    async fn next_fetch(&self, run: Option<RunId>) {
        let Some(run) = run else { return std::future::pending().await };
        if let Err(error) = self.fetch_for(run).await {
            let error = crate::chain(&error);
            tracing::info!(run = run.0, error, "its imports could not be fetched ahead");
        }
        self.ahead.update(run, |sight| sight.progress = None);
    }

    /// Fetches for a run that waits, until it has gone without a place. One that has its place waits for what is on its way.
    async fn fetch_for(&self, run: RunId) -> Result<()> {
        let (stored, texts) = (self.parts.store.run(run).await?, self.parts.store.run_texts(run).await?);
        let Some((stored, texts)) = stored.zip(texts).filter(|(_, texts)| !texts.plan.imports.is_empty())
        else {
            return Ok(());
        };
        self.fetch_home(run, &texts.plan).await?;
        let order = FetchOrder { plan: texts.plan, secrets: self.run_secrets(run).await? };
        let mut steps = self.parts.engines.images(&stored.doc.cluster)?.fetch(&order).await?;
        drop(order);
        let mut changes = self.allocator.changes();
        loop {
            tokio::select! {
                step = steps.recv() => match step {
                    Some(Ok(FetchStep::Progress(progress))) => {
                        self.ahead.update(run, |sight| sight.progress = Some(progress));
                    }
                    Some(Ok(FetchStep::Done(fetched))) => self.fetched(run, fetched).await?,
                    Some(Err(error)) => return Err(error.into()),
                    None => return Ok(()),
                },
                _ = changes.changed() => if !self.allocator.has(run) { return Ok(()) },
            }
        }
    }

    async fn fetched(&self, run: RunId, fetched: Fetched) -> Result<()> {
        let Fetched { label, bytes, files, new, error } = fetched;
        if let Some(error) = error {
            tracing::info!(run = run.0, source = label, error, "an import could not be fetched ahead");
            return Ok(());
        }
        let s = |n| if n == 1 { "" } else { "s" };
        let amount = format!("{files} file{}, {bytes} byte{}", s(files), s(bytes));
        let how = if new { "fetched ahead" } else { "here already" };
        self.ahead.update(run, |sight| sight.here.push(format!("`{label}` {how}: {amount}")));
        // What has ended has its last event.
        if new && self.allocator.has(run) {
            let words = format!("fetched ahead `{label}`: {amount}");
            self.note(run, RunEventKind::FetchedAhead, &words).await?;
        }
        Ok(())
    }
}
