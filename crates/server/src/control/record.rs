//! What a decision adds to a run's record: its new state, the changes of status, the events, the named results.
//!
//! Pure: it only puts together what was stored, what was seen and what was decided.
use jiff::Timestamp;
use vessl_core::ids::AttemptId;
use vessl_core::object::VolumeRef;
use vessl_core::plan::{ExportTarget, Plan};
use vessl_core::record::{Event, EventKind, ExitRecord, Transfer};
use vessl_core::run::{Run, State, Status};
use vessl_core::units::Span;
use vessl_core::wire::{PhaseChange, RunEventKind, StatusChange};

use crate::store::runs::{CommandsEnd, Export, PastAttempt, Save, StoredEvent, StoredRun};

/// A record that is being continued.
#[derive(Debug)]
pub(super) struct RecordBuilder {
    stored: StoredRun,
    events: Vec<StoredEvent>,
    /// Exports that were finished since the record was stored.
    exported: Vec<Transfer>,
    changed: bool,
}

impl RecordBuilder {
    pub(super) fn of(stored: StoredRun) -> Self {
        Self { stored, events: Vec::new(), exported: Vec::new(), changed: false }
    }

    /// Takes over what the agent said, in order.
    pub(super) fn on_events(&mut self, events: &[Event]) {
        for event in events {
            if event.seq <= self.stored.doc.agent_seq {
                continue;
            }
            self.on_event(event);
            self.stored.doc.agent_seq = event.seq;
            self.changed = true;
        }
    }

    fn on_event(&mut self, event: &Event) {
        let at = event.at;
        match &event.what {
            EventKind::Started { .. } => {}
            EventKind::Phase { phase } => {
                self.stored.doc.phases.push(PhaseChange { phase: *phase, at });
                // A phase that begins a status is told by that.
                let words = self.words(phase.status(), phase.words());
                if !self.status(phase.status(), at, &words) {
                    self.event(RunEventKind::Phase, at, words);
                }
            }
            EventKind::Image { reference, digest, bytes, millis } => {
                self.stored.doc.image_digest = Some(digest.clone());
                let how = if *bytes == 0 { "was here".to_owned() } else { fetched(*bytes, *millis) };
                self.event(RunEventKind::Image, at, format!("image `{reference}` ({digest}) {how}"));
            }
            EventKind::Imported(transfer) => {
                self.event(RunEventKind::Imported, at, moved("imported", transfer));
                self.stored.doc.imports.push(transfer.clone());
            }
            EventKind::Exported(transfer) => {
                self.event(RunEventKind::Exported, at, moved("exported", transfer));
                // What is written again takes the place of what was said before.
                self.stored.doc.exports.retain(|known| known.path != transfer.path);
                self.stored.doc.exports.push(transfer.clone());
                self.exported.push(transfer.clone());
            }
            EventKind::CommandsEnded { exit_code, words } => {
                let end = CommandsEnd { exit_code: *exit_code, words: words.clone() };
                self.stored.doc.commands = Some(end);
                self.event(
                    RunEventKind::CommandsEnded,
                    at,
                    format!("the commands ended with exit status {exit_code}"),
                );
            }
            EventKind::Extended { millis } => {
                self.stored.doc.extended = self.stored.doc.extended.saturating_add(*millis);
                self.event(RunEventKind::Extended, at, format!("the time limit is {} longer", Span(*millis)));
            }
            EventKind::EndsSoon { words, .. } => self.event(RunEventKind::EndsSoon, at, words.clone()),
            EventKind::Item { n, of } => {
                self.event(RunEventKind::Item, at, format!("item {n} of {of} starts"));
            }
        }
    }

    /// Takes over what the exit record says of imports and exports: it is the last word.
    pub(super) fn ended(&mut self, record: &ExitRecord) {
        self.stored.doc.imports.clone_from(&record.imports);
        self.stored.doc.exports.clone_from(&record.exports);
        self.stored.doc.usage = record.usage;
        self.exported.clone_from(&record.exports);
    }

    /// Exports that are finished and may not be bound yet. Each counts by itself, whatever becomes of the run.
    pub(super) fn exported(&self) -> &[Transfer] {
        &self.exported
    }

    /// Adds an event that changes no status.
    pub(super) fn note(&mut self, kind: RunEventKind, at: Timestamp, message: &str) {
        self.event(kind, at, message.to_owned());
        self.changed = true;
    }

    /// Takes over a decision.
    pub(super) fn decided(&mut self, run: Run, why: &str, now: Timestamp) {
        if run == self.stored.doc.run && !self.changed {
            return;
        }
        self.changed = true;
        let (status, at) = (run.status(), run.ended_at().unwrap_or(now));
        let why = &*self.words(status, why);
        match (self.stored.doc.run.no_contact_since, run.no_contact_since) {
            (None, Some(_)) => self.event(RunEventKind::Contact, now, why.to_owned()),
            (Some(_), None) => self.event(RunEventKind::Contact, now, "there is contact again".to_owned()),
            _ => {}
        }
        let before = std::mem::replace(&mut self.stored.doc.run, run);
        why.clone_into(&mut self.stored.doc.why);
        self.stored.doc.decided_at = now;
        let is_retrying = |run: &Run| matches!(run.state, State::Retrying { .. });
        let is_next = self.stored.doc.run.attempt != before.attempt;
        let exports_again =
            matches!(self.stored.doc.run.state, State::Exporting { .. }) && before.status().is_final();
        let turns_back = is_next || exports_again || is_retrying(&self.stored.doc.run);
        if is_next {
            self.next_attempt(&before);
        }
        if turns_back && !is_retrying(&before) {
            self.push_status(status, at, why);
        } else {
            self.status(status, at, why);
        }
    }

    /// What was known of the attempt that is over, kept; nothing is known of the next one yet.
    fn next_attempt(&mut self, before: &Run) {
        let doc = &mut self.stored.doc;
        if let (Some(verdict), Some(ended_at)) = (before.verdict(), before.ended_at()) {
            doc.attempts.push(PastAttempt {
                number: before.attempt,
                nonce: before.nonce,
                verdict: verdict.clone(),
                node: before.placement().map(|placement| placement.node.clone()),
                gpus: before.placement().map(|placement| placement.gpus.clone()).unwrap_or_default(),
                started_at: before.started_at(),
                ended_at,
                imports: std::mem::take(&mut doc.imports),
                image_digest: doc.image_digest.take(),
            });
        }
        doc.agent_seq = 0;
        doc.image_digest = None;
        doc.commands = None;
        doc.imports.clear();
        doc.exports.clear();
        doc.phases.clear();
        doc.usage = None;
        doc.extended = 0;
    }

    /// Why the run is in `status`; one whose container is kept says how its commands ended.
    fn words(&self, status: Status, why: &str) -> String {
        match &self.stored.doc.commands {
            Some(end) if status == Status::Idle && !end.words.is_empty() => {
                format!("{}; the container is kept until the run is terminated", end.words)
            }
            _ => why.to_owned(),
        }
    }

    /// Notes a status that comes after the last one; what the agent said late never turns a status back.
    fn status(&mut self, status: Status, at: Timestamp, why: &str) -> bool {
        if status <= self.stored.status() || self.stored.status().is_final() {
            return false;
        }
        self.push_status(status, at, why);
        true
    }

    fn push_status(&mut self, status: Status, at: Timestamp, why: &str) {
        let reason = why.to_owned();
        self.stored.doc.history.push(StatusChange { status, at, reason });
        self.push(RunEventKind::Status, at, Some(status), why.to_owned());
    }

    fn event(&mut self, kind: RunEventKind, at: Timestamp, message: String) {
        self.push(kind, at, None, message);
    }

    fn push(&mut self, kind: RunEventKind, at: Timestamp, status: Option<Status>, message: String) {
        self.stored.doc.seq += 1;
        let seq = self.stored.doc.seq;
        self.events.push(StoredEvent { seq, at, kind, status, message });
    }

    /// What has to be saved, if anything changed.
    pub(super) fn save(self, exports: Vec<Export>) -> Option<Save> {
        let unfinished = !self.stored.doc.run.is_settled();
        self.changed.then_some(Save { stored: self.stored, unfinished, events: self.events, exports })
    }
}

/// Whether a decision ends an attempt that had not ended.
pub(super) fn is_verdict(before: &Run, after: &Run) -> bool {
    before.verdict().is_none() && after.verdict().is_some()
}

/// The trees of the finished exports of an attempt, with what the plan says they are.
pub(super) fn exports(attempt: AttemptId, finished: &[Transfer], plan: &Plan) -> Vec<Export> {
    let export = |transfer: &Transfer| {
        let manifest = transfer.version.clone().filter(|_| transfer.error.is_none())?;
        let planned = plan.exports.iter().find(|export| export.path == transfer.path)?;
        let volume = || VolumeRef::of_address(&planned.target.label(), &plan.project.organization);
        let (object, volume) = match &planned.target {
            // Nothing of it is in the store.
            ExportTarget::Bucket(_) | ExportTarget::Volume(_) => (None, Some(volume()?)),
            target => (target.object(), None),
        };
        let (path, bytes, files) = (transfer.path.clone(), transfer.bytes, transfer.files);
        Some(Export { attempt, path, manifest, bytes, files, object, merged: None, volume })
    };
    finished.iter().filter_map(export).collect()
}

fn moved(verb: &str, transfer: &Transfer) -> String {
    let (path, label) = (&transfer.path, &transfer.label);
    match (&transfer.error, &transfer.version) {
        (Some(error), _) => format!("`{label}` at {path} was not {verb}: {error}"),
        (None, None) => format!("nothing to be {verb} at {path}"),
        (None, Some(_)) => {
            let s = |n| if n == 1 { "" } else { "s" };
            let (files, bytes) = (transfer.files, transfer.bytes);
            format!("{verb} `{label}` at {path}: {files} file{}, {bytes} byte{}", s(files), s(bytes))
        }
    }
}

fn fetched(bytes: u64, millis: u64) -> String {
    format!("was fetched: {bytes} bytes in {millis} ms")
}
