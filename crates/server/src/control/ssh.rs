//! SSH into runs: whose keys are good, which run a user name means, and the process that serves a connection.
//!
//! What runs without a [`Caller`] here is asked by that process: the key, whose owner it has seen proved, is the permission.
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use tokio::sync::{Mutex, OwnedSemaphorePermit};
use vessl_core::access::{Action, Caller, Scope, allowed};
use vessl_core::ids::{RunId, RunRef};
use vessl_core::wire::{RunKind, RunQuery, SshKeyCreate, SshKeyView, SshView};
use vessl_ssh::ask::{self, Answer, Question};
use vessl_ssh::keys::{self, Place, PublicHostKey};

use super::reach::check_status;
use super::{Control, ControlError, Inner, Result};
use crate::store::names::check_name;
use crate::store::runs::StoredRun;
use crate::store::ssh_keys::Added;

/// Runs of one name that are looked at, newest first.
const NAMED: u32 = 100;
/// Longest line of a key.
const LONGEST: usize = 16 << 10;

/// What a server is opened with.
#[derive(Clone, Debug)]
pub(crate) struct SshParts {
    /// Where the keys are.
    pub keys: Place,
    /// The server's own.
    pub host_key: PublicHostKey,
    /// Whether runs that are not interactive are reached too.
    pub all_runs: bool,
}

/// What is known of SSH.
#[derive(Debug)]
pub(super) struct Ssh {
    parts: SshParts,
    /// Host and port.
    at: OnceLock<(String, u16)>,
    /// Held while keys change, so that the file has what the database has.
    changing: Mutex<()>,
}

impl Ssh {
    pub(super) fn new(parts: SshParts) -> Self {
        Self { parts, at: OnceLock::new(), changing: Mutex::default() }
    }
}

impl Control {
    /// Says where SSH is listened for; only the first word counts.
    pub(crate) fn ssh_is_at(&self, host: String, port: u16) {
        let _ = self.0.ssh.at.set((host, port));
    }

    /// How runs are reached by SSH, if they are.
    pub(crate) fn ssh(&self) -> Option<SshView> {
        let (host, port) = self.0.ssh.at.get()?.clone();
        let PublicHostKey { text, fingerprint } = self.0.ssh.parts.host_key.clone();
        let all_runs = self.0.ssh.parts.all_runs;
        Some(SshView { host, port, host_key: text, fingerprint, all_runs })
    }

    /// What to type to reach a run, if it can be reached now.
    pub(super) fn ssh_line(&self, stored: &StoredRun) -> Option<String> {
        let (host, port) = self.0.ssh.at.get()?;
        let open = self.0.is_open(stored).is_ok() && check_status(stored).is_ok();
        open.then(|| format!("ssh -p {port} {}@{host}", stored.id().0))
    }

    /// The keys of everybody.
    pub async fn ssh_keys(&self, caller: &Caller) -> Result<Vec<SshKeyView>> {
        allowed(caller, Action::Read, Scope::Server)?;
        Ok(self.0.parts.store.ssh_keys().await?)
    }

    /// Adds a key of the caller's; whether it is new. It is good when this is done.
    pub async fn add_ssh_key(&self, caller: &Caller, ask: SshKeyCreate) -> Result<(SshKeyView, bool)> {
        // A key is good for everything that its owner may do.
        allowed(caller, Action::Manage, Scope::Server)?;
        if ask.key.len() > LONGEST {
            return Err(ControlError::Unfit(format!("`key` has more than {LONGEST} bytes")));
        }
        let key =
            keys::person_key(&ask.key).map_err(|error| ControlError::Unfit(format!("`key`: {error}")))?;
        let name = match ask.name {
            Some(name) => {
                check_name("key", &name).map_err(ControlError::Unfit)?;
                name
            }
            None => name_of(&key),
        };
        let keys::PersonKey { text, fingerprint, .. } = key;
        let user = caller.user.to_string();
        let view = SshKeyView { name, fingerprint, key: text, user, created_at: self.now() };
        let changing = self.0.ssh.changing.lock().await;
        match self.0.parts.store.add_ssh_key(view.clone()).await? {
            Added::New => {
                self.0.tell_good_keys().await?;
                drop(changing);
                Ok((view, true))
            }
            Added::Known(known) => Ok((known, false)),
            Added::NameTaken => Err(ControlError::Refused {
                message: format!("another key is called `{}`", view.name),
                hint: Some("give this one a name with `--name`".to_owned()),
            }),
        }
    }

    /// Forgets a key by its name or fingerprint. Sessions that it opened end.
    pub async fn delete_ssh_key(&self, caller: &Caller, which: &str) -> Result<SshKeyView> {
        allowed(caller, Action::Manage, Scope::Server)?;
        let changing = self.0.ssh.changing.lock().await;
        let Some(gone) = self.0.parts.store.delete_ssh_key(which.to_owned()).await? else {
            drop(changing);
            let known = self.0.parts.store.ssh_keys().await?;
            let known: Vec<String> = known.into_iter().map(|view| view.name).collect();
            return Err(ControlError::not_found("key", which, &known));
        };
        self.0.tell_good_keys().await?;
        Ok(gone)
    }

    /// Refuses who may not come to a run by SSH.
    pub async fn may_ssh(&self, caller: &Caller, of: &RunRef) -> Result<()> {
        self.0.stored(caller, Action::Run, of).await.map(drop)
    }

    /// Serves a connection to its end, by a process of its own that goes on without this server. `entering` is given back when
    /// somebody has come in.
    pub(crate) async fn serve_ssh(
        &self,
        connection: OwnedFd,
        ends: &str,
        entering: Option<OwnedSemaphorePermit>,
    ) -> Result<()> {
        let engine = self.0.parts.engines.of(&self.inventory().cluster)?;
        let (mut child, mut questions) = engine.serve_ssh(connection, ends)?;
        let answering = async {
            if let Ok(Some(question)) = ask::receive(&mut questions).await {
                let answer = self.0.ssh_way(question).await;
                // Who is gone needs no answer.
                let _ = ask::send(&mut questions, &answer).await;
            }
        };
        let serving = async {
            // It asks once, when somebody has proved a key; or it ends without.
            answering.await;
            drop(entering);
            child.wait().await
        };
        tokio::select! {
            _ = serving => {}
            // It goes on.
            () = self.0.stopping.cancelled() => {}
        }
        Ok(())
    }
}

/// A name for a key that was given none.
fn name_of(key: &keys::PersonKey) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let comment: String = key.comment.chars().map(fits).collect();
    let comment = comment.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if comment.is_empty() {
        let digits =
            key.fingerprint.trim_start_matches("SHA256:").chars().filter(char::is_ascii_alphanumeric);
        return digits.take(12).collect();
    }
    comment.to_owned()
}

impl Inner {
    /// Writes down which keys are good, for those who serve connections.
    pub(super) async fn tell_good_keys(&self) -> Result<()> {
        let (keys, place) = (self.parts.store.ssh_keys().await?, self.ssh.parts.keys.clone());
        let written = tokio::task::spawn_blocking(move || {
            place.set_good(keys.iter().map(|view| view.fingerprint.as_str()))
        });
        Ok(written.await.map_err(|_| ControlError::Stopping)??)
    }

    /// What to say to somebody who has proved a key.
    async fn ssh_way(&self, question: Question) -> Answer {
        let known = self.parts.store.ssh_key(question.fingerprint).await;
        let caller = match known {
            Ok(known) => known.and_then(|view| Caller::of_key(&view.user.into())),
            Err(error) => return Answer::No { why: error.to_string() },
        };
        let Some(caller) = caller else { return Answer::Stranger };
        match self.ssh_run(&caller, &question.user).await {
            Ok(stored) => {
                let dir = self.parts.attempts.dir(stored.doc.run.attempt_id());
                Answer::Run { dir: dir.path().to_owned() }
            }
            Err(
                ControlError::Refused { message, hint: Some(hint) }
                | ControlError::NotFound { message, hint: Some(hint) },
            ) => Answer::No { why: format!("{message}; {hint}") },
            Err(error) => Answer::No { why: error.to_string() },
        }
    }

    /// The run that a user name means, if it can be reached by SSH now.
    async fn ssh_run(&self, caller: &Caller, named: &str) -> Result<StoredRun> {
        let stored = match named.parse() {
            Ok(id) => self.ssh_run_of_id(caller, RunId(id)).await?,
            Err(_) => self.ssh_run_of_name(caller, named).await?,
        };
        self.is_open(&stored)?;
        check_status(&stored)?;
        Ok(stored)
    }

    async fn ssh_run_of_id(&self, caller: &Caller, id: RunId) -> Result<StoredRun> {
        match self.parts.store.run(id).await? {
            Some(stored) if allowed(caller, Action::Run, Scope::Project(stored.project.clone())).is_ok() => {
                Ok(stored)
            }
            _ => Err(no_run(&id.0.to_string())),
        }
    }

    /// The one run of this name in the default project that has not ended, else the one there is.
    async fn ssh_run_of_name(&self, caller: &Caller, name: &str) -> Result<StoredRun> {
        let project = self.parts.inventory.project.clone();
        allowed(caller, Action::Run, Scope::Project(project.clone()))?;
        let query = RunQuery { name: Some(name.to_owned()), limit: Some(NAMED), ..RunQuery::default() };
        let page = self.parts.store.page(project, query).await?;
        let mut found: Vec<StoredRun> = page.listed.into_iter().map(|listed| listed.stored).collect();
        // Where the name has a `*`, it found others too.
        found.retain(|stored| stored.name == name);
        if found.iter().any(|stored| !stored.status().is_final()) {
            found.retain(|stored| !stored.status().is_final());
        }
        match found.len() {
            0 => Err(no_run(name)),
            1 => Ok(found.remove(0)),
            _ => {
                let ids: Vec<String> = found.iter().take(5).map(|stored| stored.id().0.to_string()).collect();
                let message = format!("several runs are called `{name}`: {}", ids.join(", "));
                Err(ControlError::Refused {
                    message,
                    hint: Some("use the id of one as the user name".to_owned()),
                })
            }
        }
    }

    /// Refuses a run that is not meant to be reached by SSH.
    fn is_open(&self, stored: &StoredRun) -> Result<()> {
        if stored.doc.kind == RunKind::Interactive || self.ssh.parts.all_runs {
            return Ok(());
        }
        Err(ControlError::Refused {
            message: format!("run {} is not interactive", stored.id().0),
            hint: Some("`ssh_all_runs` in the settings of the server opens the others too".to_owned()),
        })
    }
}

fn no_run(named: &str) -> ControlError {
    ControlError::NotFound {
        message: format!("there is no run `{named}`"),
        hint: Some("the user name is the id of a run, or its name: `vessl run list` shows them".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_called_after_its_comment() {
        let check = |comment: &str, expected: &str| {
            let key = keys::PersonKey {
                text: String::new(),
                fingerprint: "SHA256:ab+/cd12345678".to_owned(),
                comment: comment.to_owned(),
            };
            let name = name_of(&key);
            assert_eq!(name, expected, "{comment}");
            assert!(check_name("key", &name).is_ok());
        };
        check("anna@laptop", "anna-laptop");
        check("  Anna's key!", "Anna-s-key");
        check("", "abcd12345678");
        check("@@@", "abcd12345678");
    }
}
