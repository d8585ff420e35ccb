//! What people ask of runs that exist: terminate, change, delete. The rules answer; this only carries it out.
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vessl_core::access::{Action, Caller, Scope, allowed};
use vessl_core::ids::{OrganizationName, ProjectRef, RunId, RunRef};
use vessl_core::run::{Answer, Ask, Run, Status, request};
use vessl_core::spec::labels;
use vessl_core::wire::{NameView, RunEventKind, RunTerminate, RunUpdate, RunView};

use super::record::RecordBuilder;
use super::submit::nonce;
use super::{Control, ControlError, Inner, Result};
use crate::store::StoreError;
use crate::store::names::check_name;
use crate::store::runs::{Save, StoredRun};

/// How often a save that somebody was faster with is tried again; each time somebody else got on.
const TRIES: u32 = 1000;
/// Longest wait of a terminate for the end of a run that has not been started; it takes an instant, or the run is starting.
const ENDING: Duration = Duration::from_millis(500);
/// Longest wait of a delete for the end of the cleaning up; shorter than a client waits for an answer.
const CLEANING: Duration = Duration::from_secs(45);

impl Control {
    /// Asks for the end of a run. Asking twice is fine.
    pub async fn terminate(&self, caller: &Caller, of: &RunRef, ask: RunTerminate) -> Result<RunView> {
        let grace_s = Some(ask.grace_s.unwrap_or(self.0.parts.inventory.grace_s));
        let ask = Ask::Terminate { grace_s, export: !ask.no_export };
        match self.0.with_reserve(|| self.request(caller, of, ask)).await {
            Err(full) if full.is_disk_full() => self.forward(caller, of, ask).await.map_err(|_| full),
            done => done,
        }
    }

    /// A request that cannot be stored goes to the agent alone: it may be the run that filled the disk.
    async fn forward(&self, caller: &Caller, of: &RunRef, ask: Ask) -> Result<RunView> {
        let stored = self.0.stored(caller, Action::Run, of).await?;
        let Answer::Accepted(run) = request(&stored.doc.run, ask, self.now()) else {
            return Ok(self.0.view(stored));
        };
        let at = run.attempt_id();
        let asked = run.asked.terminate.ok_or(ControlError::Stopping)?;
        self.0.parts.engines.of(&stored.doc.cluster)?.stop(at, &asked).await?;
        Ok(self.0.view(stored))
    }

    async fn request(&self, caller: &Caller, of: &RunRef, ask: Ask) -> Result<RunView> {
        let stored = self
            .0
            .change(caller, of, |stored| {
                let now = self.now();
                match request(&stored.doc.run, ask, now) {
                    Answer::AlreadySo(_) => Ok(None),
                    Answer::Denied(why) => Err(ControlError::refused(why)),
                    Answer::Accepted(run) => {
                        let mut record = RecordBuilder::of(stored.clone());
                        record.decided(*run, "a person asked for the end of the run", now);
                        Ok(record.save(Vec::new()))
                    }
                }
            })
            .await?;
        self.0.wake(of.id);
        if matches!(stored.status(), Status::Queued | Status::Pending) {
            let _ = tokio::time::timeout(ENDING, self.next_event(of.id, stored.doc.seq)).await;
            return Ok(self.0.view(self.0.stored(caller, Action::Run, of).await?));
        }
        Ok(self.0.view(stored))
    }

    /// Waits until the driver of a run has said something after event `seq`, or has left.
    async fn next_event(&self, id: RunId, seq: u64) {
        let Some(mut events) = self.follow(id) else { return };
        let _ = events.wait_for(|known| *known > seq).await;
    }

    /// Begins a new attempt of a run that has ended.
    pub async fn restart(&self, caller: &Caller, of: &RunRef) -> Result<RunView> {
        let run = self.0.stored(caller, Action::Run, of).await?.doc.run;
        if run.status().is_final() {
            self.let_driver_leave(run.id).await;
        }
        let ask = Ask::Restart { nonce: nonce()? };
        let restarted = self.0.change(caller, of, |stored| {
            let now = self.now();
            match request(&stored.doc.run, ask, now) {
                Answer::AlreadySo(_) => Ok(None),
                Answer::Denied(why) => Err(ControlError::refused(why)),
                Answer::Accepted(run) => {
                    let why =
                        format!("attempt {}, as a person asked for it: it waits for its turn", run.attempt);
                    let mut record = RecordBuilder::of(stored.clone());
                    record.decided(*run, &why, now);
                    Ok(record.save(Vec::new()))
                }
            }
        });
        let stored = restarted.await?;
        self.0.start_driver(&stored);
        Ok(self.0.view(stored))
    }

    /// Writes the exports of a run again that failed, from the files that it left.
    pub async fn export(&self, caller: &Caller, of: &RunRef) -> Result<RunView> {
        let run = self.0.stored(caller, Action::Run, of).await?.doc.run;
        self.let_settle(&run).await;
        if run.status().is_final() {
            self.let_driver_leave(run.id).await;
        }
        let kept = self.0.parts.attempts.keeps(run.attempt_id());
        let started = AtomicBool::new(false);
        let changed = self.0.change(caller, of, |stored| {
            let now = self.now();
            let failed = stored.doc.exports.iter().filter(|export| export.error.is_some()).count();
            match request(&stored.doc.run, Ask::Export { failed, kept }, now) {
                Answer::AlreadySo(_) => {
                    started.store(false, Ordering::Relaxed);
                    Ok(None)
                }
                Answer::Denied(why) => Err(ControlError::refused(why)),
                Answer::Accepted(run) => {
                    started.store(true, Ordering::Relaxed);
                    let mut record = RecordBuilder::of(stored.clone());
                    record.decided(*run, "a person asked for the exports again that failed", now);
                    Ok(record.save(Vec::new()))
                }
            }
        });
        let stored = changed.await?;
        if started.load(Ordering::Relaxed) {
            self.0.start_driver(&stored);
        }
        Ok(self.0.view(stored))
    }

    /// Changes name, description or tags.
    pub async fn update(&self, caller: &Caller, of: &RunRef, update: RunUpdate) -> Result<RunView> {
        check_update(&update)?;
        let stored = self
            .0
            .change(caller, of, |stored| {
                let mut changed = stored.clone();
                let update = update.clone();
                changed.name = update.name.unwrap_or(changed.name);
                changed.description = update.description.or(changed.description);
                changed.doc.tags = update.tags.unwrap_or(changed.doc.tags);
                let unfinished = !changed.doc.run.is_settled();
                let save = Save { stored: changed, unfinished, events: Vec::new(), exports: Vec::new() };
                Ok((save.stored != *stored).then_some(save))
            })
            .await?;
        self.0.allocator.rename(of.id, &stored.name);
        Ok(self.0.view(stored))
    }

    /// Deletes a run that has ended: its rows, its secrets, its directory with the log.
    pub async fn delete(&self, caller: &Caller, of: &RunRef) -> Result<()> {
        self.let_settle(&self.0.stored(caller, Action::Run, of).await?.doc.run).await;
        for _ in 0..TRIES {
            let stored = self.0.stored(caller, Action::Run, of).await?;
            if is_cleaning(&stored.doc.run) {
                return Err(ControlError::CleaningUp(of.id));
            }
            match request(&stored.doc.run, Ask::Delete, self.now()) {
                Answer::AlreadySo(_) => return Ok(()),
                Answer::Denied(why) => return Err(ControlError::refused(why)),
                Answer::Accepted(_) => {}
            }
            self.0.forget_kept(of.id, None).await;
            // The directory goes first: a crash in between leaves a run that can be deleted again, and never a
            // directory that nobody knows.
            self.0.parts.attempts.remove(of.id).await?;
            let delete = || async { Ok(self.0.parts.store.delete_run(of.id, stored.revision).await?) };
            match self.0.with_reserve(delete).await {
                Err(ControlError::Store(StoreError::Stale(_))) => {}
                done => {
                    self.0.parts.reserve.fill();
                    return done;
                }
            }
        }
        Err(ControlError::Store(StoreError::Stale(of.id)))
    }

    /// Lets the driver of a run that has ended finish its cleaning up, which takes an instant or fails again and again.
    async fn let_settle(&self, run: &Run) {
        if is_cleaning(run) {
            self.let_driver_leave(run.id).await;
        }
    }

    /// Waits until no driver works for a run that has ended.
    async fn let_driver_leave(&self, id: RunId) {
        let Some(mut changes) = self.follow(id) else { return };
        let settled = async { while changes.changed().await.is_ok() {} };
        // A client asks again for what is not done by then.
        let _ = tokio::time::timeout(CLEANING, settled).await;
    }

    /// Makes an organization.
    pub async fn create_organization(&self, caller: &Caller, name: &OrganizationName) -> Result<NameView> {
        allowed(caller, Action::Operate, Scope::Server)?;
        check_name("organization", name.as_str()).map_err(ControlError::Malformed)?;
        let created_at = self.now();
        if self.0.parts.store.add_organization(name.clone(), created_at).await? {
            return Ok(NameView { name: name.to_string(), created_at });
        }
        Err(ControlError::refused(format!("the organization `{name}` is already there")))
    }

    /// Makes a project of an organization.
    pub async fn create_project(&self, caller: &Caller, new: &ProjectRef) -> Result<NameView> {
        allowed(caller, Action::Manage, Scope::Organization(new.organization.clone()))?;
        check_name("project", new.project.as_str()).map_err(ControlError::Malformed)?;
        self.0.known_organization(&new.organization).await?;
        let created_at = self.now();
        if self.0.parts.store.add_project(new.clone(), created_at).await? {
            return Ok(NameView { name: new.project.to_string(), created_at });
        }
        Err(ControlError::refused(format!("the project `{new}` is already there")))
    }

    /// All organizations.
    pub async fn organizations(&self, caller: &Caller) -> Result<Vec<NameView>> {
        allowed(caller, Action::Read, Scope::Server)?;
        Ok(self.0.parts.store.organizations().await?)
    }

    /// All projects of an organization.
    pub async fn projects(&self, caller: &Caller, organization: &OrganizationName) -> Result<Vec<NameView>> {
        allowed(caller, Action::Read, Scope::Organization(organization.clone()))?;
        self.0.known_organization(organization).await?;
        Ok(self.0.parts.store.projects(organization.clone()).await?)
    }

    /// Refuses a project that does not exist, or that the caller may not see.
    pub async fn check_project(&self, caller: &Caller, project: &ProjectRef) -> Result<()> {
        allowed(caller, Action::Read, Scope::Project(project.clone()))?;
        self.0.known_project(project).await.map(drop)
    }
}

impl Inner {
    /// Loads, changes and saves until nobody was faster. Answers the run as it is then.
    pub(super) async fn change(
        &self,
        caller: &Caller,
        of: &RunRef,
        change: impl Fn(&StoredRun) -> Result<Option<Save>>,
    ) -> Result<StoredRun> {
        for _ in 0..TRIES {
            let stored = self.stored(caller, Action::Run, of).await?;
            let Some(save) = change(&stored)? else { return Ok(stored) };
            let mut after = save.stored.clone();
            match self.parts.store.save_run(save).await {
                Ok(revision) => {
                    after.revision = revision;
                    self.publish(of.id, after.doc.seq);
                    return Ok(after);
                }
                Err(StoreError::Stale(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ControlError::Store(StoreError::Stale(of.id)))
    }

    /// Adds an event that is neither the agent's nor a change of the status.
    pub(super) async fn note(&self, id: RunId, kind: RunEventKind, message: &str) -> Result<()> {
        for _ in 0..TRIES {
            let Some(stored) = self.parts.store.run(id).await? else { return Ok(()) };
            let mut record = RecordBuilder::of(stored);
            record.note(kind, self.now(), message);
            let Some(save) = record.save(Vec::new()) else { return Ok(()) };
            let seq = save.stored.doc.seq;
            match self.parts.store.save_run(save).await {
                Ok(_) => {
                    self.publish(id, seq);
                    return Ok(());
                }
                Err(StoreError::Stale(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ControlError::Store(StoreError::Stale(id)))
    }

    /// Does something that a full disk must not forbid: once more with the space that is set aside for it.
    async fn with_reserve<T, F: Future<Output = Result<T>>>(&self, work: impl Fn() -> F) -> Result<T> {
        match work().await {
            Err(full) if full.is_disk_full() && self.parts.reserve.spend() => work().await,
            done => done,
        }
    }
}

/// Whether a run has ended and something of it is still on the machine.
fn is_cleaning(run: &Run) -> bool {
    run.status().is_final() && !run.is_settled()
}

fn check_update(update: &RunUpdate) -> Result<()> {
    let name = update.name.as_deref().map_or(Ok(()), labels::check_name);
    let description = update.description.as_deref().map_or(Ok(()), labels::check_description);
    let tags = update.tags.as_deref().map_or(Ok(()), labels::check_tags);
    name.and(description).and(tags).map_err(ControlError::Malformed)
}
