//! A stop of the script: who gets SIGTERM when. A program that is told alone can save what it has; told together with its
//! workers it loses them in the middle of it.
//!
//! ```text
//! at once            the shell, and its children (the leaders), each once
//! when they are gone what they left behind, from the top: a program before its workers
//! the rest           everything that was there at the begin and has not had it (the agent asks for it after half of the grace)
//! ```
//! Whoever only reads what another leader writes (`| tee`) ends by itself when that one does, and writes down its last words. What
//! the trap of a script starts, or a program to save itself, has somebody who is responsible for it and is left alone.
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::account::Account;
use crate::session::{self, Id, Process};
use crate::{child, pipes};

/// A stop that is under way.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    shell: Option<Id>,
    /// Who was there when it began.
    before: Vec<Id>,
    told: Vec<Id>,
    /// Who ends when another does.
    readers: Vec<Id>,
}

impl Stop {
    /// Tells the leaders of a script, whose first process was `script`.
    pub(crate) fn begin(script: Pid, account: &Account) -> Self {
        let living = session::everybody(script);
        let first = living.iter().find(|process| process.id.pid == script);
        let shell = first.filter(|first| child::is_shell(first.id.pid)).map(|first| first.id);
        let leaders = match (shell, first) {
            (Some(shell), _) => {
                living.iter().filter(|process| process.parent == shell.pid).copied().collect()
            }
            // A program without a shell, or one that took the shell's place (`exec`).
            (None, Some(first)) => vec![*first],
            (None, None) => session::tops(&living),
        };
        let before = living.iter().map(|process| process.id).collect();
        let mut stop = Self { shell, before, ..Self::default() };
        let readers = stop.find_readers(&leaders, account);
        // The shell first: it must not go on to the next command when its child ends.
        if let Some(shell) = shell {
            stop.tell(shell);
        }
        stop.tell_all(&leaders, &readers);
        stop
    }

    /// Tells what the leaders have left behind, once they are gone.
    pub(crate) fn go_on(&mut self, script: Pid, account: &Account) {
        let living = session::everybody(script);
        let is_shell = |id: &Id| self.shell == Some(*id);
        if living.iter().any(|process| self.told.contains(&process.id) && !is_shell(&process.id)) {
            return;
        }
        let known = |id: &Id| self.told.contains(id) || self.readers.contains(id);
        let tops: Vec<_> = session::tops(&living).into_iter().filter(|process| !known(&process.id)).collect();
        let readers = self.find_readers(&tops, account);
        self.tell_all(&tops, &readers);
    }

    /// Tells everybody who was there when the stop began and was not told; but who did not end with the one that it reads from has
    /// workers of its own, which are told after it.
    pub(crate) fn tell_the_rest(&mut self, script: Pid) {
        let living = session::everybody(script);
        let untold =
            |process: &&Process| self.before.contains(&process.id) && !self.told.contains(&process.id);
        let rest: Vec<Process> = living.iter().filter(untold).copied().collect();
        let readers: Vec<Pid> =
            rest.iter().filter(|one| self.readers.contains(&one.id)).map(|one| one.id.pid).collect();
        for process in rest.iter().filter(|process| !session::is_below(process, &readers, &living)) {
            self.tell(process.id);
        }
    }

    fn find_readers(&self, of: &[Process], account: &Account) -> Vec<Pid> {
        let of: Vec<Pid> = of.iter().map(|process| process.id.pid).collect();
        pipes::readers(&of, self.shell.map(|shell| shell.pid), account)
    }

    fn tell_all(&mut self, processes: &[Process], readers: &[Pid]) {
        for Process { id, .. } in processes {
            if readers.contains(&id.pid) {
                self.readers.push(*id);
            } else {
                self.tell(*id);
            }
        }
    }

    fn tell(&mut self, id: Id) {
        // A failure means that it is gone already.
        let _ = kill(id.pid, Signal::SIGTERM);
        self.told.push(id);
    }
}
