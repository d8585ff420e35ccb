//! What an agent writes into a run directory and what crosses its pipes. Every format carries a version.
//!
//! ```text
//! runs/<id>/<attempt>-<nonce>/
//!                     plan.json     one Plan, written by the server
//!                     events        Event lines, each on disk before its consequences
//!                     log/          segments of the log, see the data room
//!                     commands.json what another agent needs that writes the exports; the agent's own format
//!                     exit.json     one ExitRecord, written once; again to add a failed clean-up, and when exports are written again
//!                     control.sock  Control lines in, ControlReply lines out, while the agent lives
//!                     door.sock     where init answers whoever reaches into the container, see [`crate::door`]
//!                     jupyter.*     of an interactive run, see [`crate::jupyter`]: state, token (mode 0600), log
//!                     activity      empty; its time changes while somebody uses the run, see [`ACTIVITY`]
//!                     lock          held (flock) by the living agent
//!                     progress      one wire::Progress, replaced as a whole, there only while something moves
//!                     agent.log     what the agent itself has to say, for whoever looks for a fault
//!                     spare         space kept for the last words, given back before them
//!                     box/          scratch
//!                     kept/         what was scratch, of an attempt with exports that failed
//! ```
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::credential::{CredentialKind, CredentialRef};
use crate::door::Surroundings;
use crate::ids::{CredentialName, Nonce, RunId};
use crate::limits::TimeLimit;
use crate::secret::{Secret, expose, expose_all};
use crate::status::{EndReason, Status};

/// Version of `events`, `exit.json` and of the control protocol.
pub const RECORD_VERSION: u32 = 1;

/// Name of the file whose time changes when somebody types into the run, or uses its Jupyter.
pub const ACTIVITY: &str = "activity";

/// What the agent is doing, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Fetching the image.
    Pulling,
    /// Copying sources in.
    Importing,
    /// Starting the container.
    Starting,
    /// Commands run.
    Running,
    /// Commands ended; the container is kept.
    Idle,
    /// Asked to stop, commands are ending.
    Terminating,
    /// Writing exports.
    Exporting,
}

impl Phase {
    /// The status word that people see in this phase.
    pub fn status(self) -> Status {
        match self {
            Self::Pulling | Self::Importing | Self::Starting => Status::Initializing,
            Self::Running => Status::Running,
            Self::Idle => Status::Idle,
            Self::Terminating | Self::Exporting => Status::Stopping,
        }
    }
}

/// One line of the `events` file (JSON lines, fsynced at every line).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Event {
    /// [`RECORD_VERSION`].
    pub v: u32,
    /// From 1, without gaps.
    pub seq: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What.
    pub what: EventKind,
}

/// The events of a file with one on each line. A line that is not even JSON was damaged on the disk and is left out: what else
/// is known of the run must not be lost with it. One that another version wrote is an error.
pub fn events(text: &[u8]) -> serde_json::Result<Vec<Event>> {
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let whole = lines.filter(|line| is_json(line));
    whole.map(serde_json::from_slice).collect()
}

/// Whether a text is JSON, whatever it says.
pub fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

/// What happened in an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum EventKind {
    /// An agent took the run; from here on its commands are never started again. A second one has its exports alone.
    Started {
        /// `/proc/sys/kernel/random/boot_id`.
        boot_id: String,
        /// Process id of the agent.
        pid: i32,
        /// Field 22 of `/proc/<pid>/stat`.
        start_time: u64,
        /// cgroup name of everything the agent starts.
        unit: String,
        /// Of the attempt: events that begin with another are another attempt's.
        #[serde(default)]
        #[schema(value_type = String)]
        nonce: Nonce,
    },
    /// A new phase began.
    Phase {
        /// Which.
        phase: Phase,
    },
    /// The image is here.
    Image {
        /// Reference as written.
        reference: String,
        /// Manifest digest.
        digest: String,
        /// Compressed bytes fetched; 0 when everything was here.
        bytes: u64,
        /// Time it took.
        millis: u64,
    },
    /// An import is done.
    Imported(Transfer),
    /// An export is done or failed.
    Exported(Transfer),
    /// Item `n` of `of` started.
    Item {
        /// From 1.
        n: u32,
        /// Number of items.
        of: u32,
    },
    /// The commands ended, and the agent goes on: exports or a kept container follow.
    CommandsEnded {
        /// Exit status, 128+n for a signal.
        exit_code: i32,
        /// How they ended, in words.
        #[serde(default)]
        words: String,
    },
    /// The time limit of the run is longer now.
    Extended {
        /// By so many milliseconds.
        millis: u64,
    },
    /// The run will be ended soon.
    EndsSoon {
        /// By which limit.
        limit: TimeLimit,
        /// In words.
        words: String,
    },
}

/// Result of one import or export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Transfer {
    /// Path in the container.
    pub path: String,
    /// Source or target as the author named it.
    pub label: String,
    /// Bytes moved.
    pub bytes: u64,
    /// Files moved.
    pub files: u64,
    /// Time it took.
    pub millis: u64,
    /// Commit or manifest hash; `None` when nothing was written (missing or empty directory, failure).
    pub version: Option<String>,
    /// Which version of an artifact that is, from 1; only in a read of one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// What did not come with it, a sentence each: why, and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

impl Transfer {
    /// The commit it brought, if it came from git: 40 hex digits, where a tree has 64. Those of Hugging Face are others'.
    pub fn commit(&self) -> Option<&str> {
        self.version.as_deref().filter(|version| version.len() == 40 && !self.label.starts_with("hf://"))
    }
}

/// What a run took of the machine, as far as its cgroup counted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Usage {
    /// Most bytes of memory at one time, cached files among them.
    pub memory_peak: Option<u64>,
    /// Time on all processors together, in milliseconds.
    pub cpu_millis: Option<u64>,
}

/// `exit.json`: written to a new file, fsynced, renamed, directory fsynced, before anyone is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExitRecord {
    /// [`RECORD_VERSION`].
    pub v: u32,
    /// The run.
    pub run: RunId,
    /// The attempt.
    pub attempt: u32,
    /// What makes the attempt this one.
    #[serde(default)]
    #[schema(value_type = String)]
    pub nonce: Nonce,
    /// `completed`, `failed` or `terminated`.
    pub status: Status,
    /// Why, as a code.
    #[serde(default, deserialize_with = "EndReason::stored")]
    pub reason_code: EndReason,
    /// In words.
    pub reason: String,
    /// Of the failing item or the last one; 128+n for a signal; `None` if no command was started.
    pub exit_code: Option<i32>,
    /// Whether the kernel killed for memory.
    pub oom: bool,
    /// When the commands started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When everything was over.
    #[schema(value_type = String, format = DateTime)]
    pub ended_at: Timestamp,
    /// Results of the imports.
    pub imports: Vec<Transfer>,
    /// Results of the exports.
    pub exports: Vec<Transfer>,
    /// What it took of the machine; absent where its commands never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// A failure while cleaning up.
    pub cleanup: Option<String>,
}

/// One request on `control.sock` (a JSON line); the answer is a [`ControlReply`] line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Control {
    /// SIGTERM, grace, kill of the cgroup, exports.
    Stop {
        /// Seconds before the kill.
        grace_s: u64,
        /// Whether exports are written.
        export: bool,
    },
    /// Are you there?
    Ping,
    /// What does a program need that is started beside the commands?
    Surroundings,
    /// Write this line into the log of the run.
    Note {
        /// One line.
        line: String,
    },
    /// The time limit of the run becomes longer.
    Extend {
        /// By so many milliseconds.
        millis: u64,
    },
}

/// Answer to a [`Control`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlReply {
    /// Whether it was accepted (asking again is accepted).
    pub ok: bool,
    /// Why not.
    pub error: Option<String>,
    /// What was asked for with [`Control::Surroundings`]; nothing while there is no container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surroundings: Option<Surroundings>,
}

/// What `vessl agent machine` prints: what the machine has for runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineReport {
    /// [`RECORD_VERSION`].
    pub v: u32,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Name and totals.
    pub node: crate::plan::Node,
}

/// What `vessl agent proof DIR` prints about an attempt whose lock is free and that has no exit record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "proof")]
pub enum Proof {
    /// The agent never took the run: it may be started.
    NeverStarted,
    /// Proven dead: other boot id, or the process is gone and its cgroup is empty.
    Dead {
        /// In words.
        why: String,
    },
    /// Something of it still lives (its cgroup is not empty, or the process is there).
    Alive {
        /// In words.
        why: String,
    },
}

/// Secret values of one attempt. Reach the agent as one JSON document on an inherited pipe, and never a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// [`EnvFrom::Secret`](crate::plan::EnvFrom::Secret) key → value.
    #[serde(serialize_with = "expose_all")]
    pub env: BTreeMap<String, Secret>,
    /// The logins of the credentials that the run uses.
    pub credentials: BTreeMap<CredentialRef, Login>,
}

impl Secrets {
    /// The login of a credential of this kind.
    pub fn login(&self, kind: CredentialKind, name: &CredentialName) -> Option<&Login> {
        self.credentials.get(&CredentialRef { kind, name: name.clone() })
    }
}

/// A user name and a password or token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// User name; may be empty for a bare token.
    pub username: String,
    /// Password, token, secret key, or the JSON of a service account.
    #[serde(serialize_with = "expose")]
    pub password: Secret,
    /// Token of a session that the keys are for.
    #[serde(default, serialize_with = "expose", skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
}

/// What the supervisor sends to init as one length-prefixed JSON document on descriptor 3 (u32 little endian, then bytes).
#[derive(Clone, Serialize, Deserialize)]
pub struct InitConfig {
    /// [`RECORD_VERSION`].
    pub v: u32,
    /// Script text from [`crate::script`]; `None` runs `argv` as it is.
    pub script: Option<String>,
    /// Program and arguments when there is no script (the image's entry point). Empty together with `stay`: nothing is
    /// started and init only stays.
    pub argv: Vec<String>,
    /// Full environment of the script as `KEY=VALUE`.
    pub env: Vec<String>,
    /// Directory the script starts in.
    pub workdir: String,
    /// Numeric user and groups the script runs as.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Keep PID 1 alive after the script ended (termination protection, interactive).
    pub stay: bool,
    /// Number of items of the script: no mark of another one is believed.
    pub items: u32,
}

/// What init reports on descriptor 3, each as a length-prefixed JSON document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "say")]
pub enum InitReport {
    /// The shell was executed.
    Running,
    /// The script could not be started: no shell, missing workdir, bad user.
    Refused {
        /// In words.
        why: String,
        /// Shell convention: 126 or 127.
        exit_code: i32,
    },
    /// Item `n` (from 1) starts.
    Item {
        /// From 1.
        n: u32,
    },
    /// The script ended.
    Ended {
        /// Exit code, 128+n for a signal.
        exit_code: i32,
        /// Item that was the last one to start, from 1, when it was told.
        item: Option<u32>,
        /// What ended the script; [`crate::script::ending`] puts it into words.
        how: Ending,
    },
}

/// What ended a script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The item ended and the script went on to its own end (status 0) or stopped there (any other status).
    Item,
    /// The shell itself ended inside the item: `exit`, `exec`, `set -e`, a syntax error in a POSIX shell, a signal.
    #[default]
    Shell,
    /// The item's working directory could not be entered.
    Workdir,
}

/// Descriptor of the script's shell on which it tells init how far it is: one end of a socket pair. After `item N` the script
/// waits for one line back, see [`InitAsk::Go`]. It is closed for the commands themselves. See [`Mark`] for what is written.
pub const MARK_FD: i32 = 7;

/// Longest line on [`MARK_FD`], in bytes with its newline; init drops longer ones.
pub const MARK_LINE_MAX: usize = 64;

/// One line of the script on [`MARK_FD`], behind which stands the word that came with leave for the item before. While an item
/// runs its commands can reach the descriptor too if they try (the shell keeps a copy of it), so init believes a line only
/// - from the process of the shell itself, which the kernel tells ([`Marks`] gets nothing else),
/// - with that word,
/// - at the one place where it can stand, see [`Marks`].
///
/// Everything else is dropped: it is no report, gets no leave and leaves nothing behind. An item that goes about it in the shell
/// itself could still say that it is the next one; nothing but words for people depends on that (the exit code comes from waiting
/// for the shell), and there are never more reports than items.
///
/// ```text
/// item 2          item 2 starts                → InitReport::Item { n: 2 }, then leave to go on with a word
/// done 2 0 WORD   item 2 ended with status 0   → remembered
/// workdir 2 WORD  the directory of item 2 could not be entered; the shell exits at once
/// (shell ends)                                 → InitReport::Ended { exit_code, item, how }
/// ```
///
/// Reading: keep the last `item` and how it went on ([`Marks`] does), and report `Ended` when the shell was waited for and
/// what it had written was read. Do not wait for the end of file: background processes may hold the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Item `n` (from 1) starts.
    Item(u32),
    /// Item `n` ended with this status.
    Done(u32, i32),
    /// The directory of item `n` could not be entered.
    Workdir(u32),
}

impl Mark {
    /// Reads one line, without its newline and its word. `None` if it is not of the script.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.split(' ');
        let mark = match (words.next()?, words.next()?.parse().ok()?) {
            ("item", n) => Self::Item(n),
            ("done", n) => Self::Done(n, words.next()?.parse().ok()?),
            ("workdir", n) => Self::Workdir(n),
            _ => return None,
        };
        words.next().is_none().then_some(mark)
    }
}

/// What the marks so far say; fed by init with what the script's own shell writes to [`MARK_FD`], as it comes. It keeps one line
/// at most.
///
/// ```text
/// item 1 → done 1 or workdir 1 → item 2 → … → done N or workdir N
/// ```
#[derive(Clone, Debug, Default)]
pub struct Marks {
    line: Vec<u8>,
    items: u32,
    item: u32,
    step: Step,
    how: Ending,
    /// Exit status of the item that failed; 0 without one.
    failed: i32,
    word: String,
}

/// Whether an item runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// Before the first, or between two.
    #[default]
    Between,
    Running,
}

impl Marks {
    /// Of a script with so many items.
    pub fn new(items: u32) -> Self {
        Self { items, ..Self::default() }
    }

    /// From here on a mark must bring this word: it was given to the shell with leave to go on.
    pub fn expect(&mut self, word: String) {
        self.word = word;
    }

    /// Takes bytes in and returns the marks that they complete and that can be believed, in order.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Mark> {
        let mut marks = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                marks.extend(self.line_done());
            } else if self.line.len() < MARK_LINE_MAX {
                self.line.push(byte);
            }
        }
        marks
    }

    /// The report of a script whose shell ended with `exit_code` (128+n for a signal). An item that failed has failed the run, also
    /// where a trap that ran after it ended the shell with 0.
    pub fn ended(&self, exit_code: i32) -> InitReport {
        let exit_code = if exit_code == 0 { self.failed } else { exit_code };
        InitReport::Ended { exit_code, item: (self.item > 0).then_some(self.item), how: self.how }
    }

    fn line_done(&mut self) -> Option<Mark> {
        let line = std::mem::take(&mut self.line);
        let mark = self.read(&line)?;
        self.believe(mark).then_some(mark)
    }

    fn read(&self, line: &[u8]) -> Option<Mark> {
        let whole = Some(line).filter(|line| line.len() < MARK_LINE_MAX)?;
        Mark::parse(whole.strip_suffix(self.word.as_bytes())?.trim_ascii_end())
    }

    /// Whether a mark comes where it can stand; if so, it is remembered.
    fn believe(&mut self, mark: Mark) -> bool {
        let (step, item, how) = match (self.step, mark) {
            (Step::Between, Mark::Item(n)) => (Step::Running, n, Ending::Shell),
            (Step::Running, Mark::Done(n, _)) => (Step::Between, n, Ending::Item),
            (Step::Running, Mark::Workdir(n)) => (Step::Between, n, Ending::Workdir),
            _ => return false,
        };
        let is_next = match step {
            Step::Running => self.item.checked_add(1) == Some(item) && item <= self.items,
            Step::Between => self.item == item,
        };
        if is_next {
            (self.step, self.item, self.how) = (step, item, how);
            if let Mark::Done(_, status) = mark {
                self.failed = status;
            }
        }
        is_next
    }
}

/// What the supervisor asks of a running init on descriptor 3, length-prefixed JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum InitAsk {
    /// The agent has taken note of the item that [`InitReport::Item`] told: the script may go on. Init passes it on as
    /// one line with a new word on [`MARK_FD`], see [`Mark`]. So the log can say where an item begins.
    Go,
    /// Send SIGTERM to the script's shell and to the programs that it runs, to what those leave behind when they are gone, and
    /// exit when nothing of the session is left.
    Stop,
    /// Send SIGTERM to everything of the session that was there at the stop and has not had it.
    StopRest,
    /// Send this signal to the script's process group and session.
    Signal {
        /// Signal number.
        signal: i32,
    },
    /// Write this line on every terminal of the container.
    Say {
        /// In words.
        words: String,
    },
    /// Kill what is left and exit.
    Exit,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The marks of a script of three items that are believed of these bytes; leave to go on comes with the word `w1`, `w2`, ….
    fn believed(pieces: &[&str]) -> (Vec<Mark>, InitReport) {
        let mut marks = Marks::new(3);
        let mut all = Vec::new();
        for piece in pieces {
            for mark in marks.feed(piece.as_bytes()) {
                if let Mark::Item(n) = mark {
                    marks.expect(format!("w{n}"));
                }
                all.push(mark);
            }
        }
        (all, marks.ended(0))
    }

    fn check(pieces: &[&str], expected: &[Mark], end: (u32, Ending)) {
        let (item, how) = end;
        let failed = expected.iter().rev().find_map(|mark| match mark {
            Mark::Done(_, status) => Some(*status),
            _ => None,
        });
        let exit_code = failed.unwrap_or_default();
        let ended = InitReport::Ended { exit_code, item: (item > 0).then_some(item), how };
        assert_eq!(believed(pieces), (expected.to_vec(), ended), "{pieces:?}");
    }

    #[test]
    fn marks_are_believed_where_they_can_stand() {
        use Ending::{Item, Shell, Workdir};
        use Mark::Done;
        let whole = [Mark::Item(1), Done(1, 0), Mark::Item(2), Done(2, 7)];
        check(&["\nitem 1 \n", "\ndone 1 0 w1\n", "\nitem 2 w1\n", "\ndone 2 7 w2\n"], &whole, (2, Item));
        check(&["ite", "m 1", "\n", "done 1 0 w", "1\n"], &whole[..2], (1, Item));
        check(&["item 1\n", "workdir 1 w1\n"], &[Mark::Item(1), Mark::Workdir(1)], (1, Workdir));
        check(&[], &[], (0, Shell));
        // A number that is not the next one, no item of the script, or no number.
        for first in [
            "item 0",
            "item 2",
            "item 3",
            "item 4",
            "item 999",
            "item -1",
            "item x",
            "item",
            "done 1 0",
            "workdir 1",
        ] {
            check(&[first, "\n"], &[], (0, Shell));
        }
        check(&["item 1\n", "item 2 w1\n", "item 1 w1\n", "item 999 w1\n"], &whole[..1], (1, Shell));
        check(&["item 1\n", "done 2 0 w1\n", "workdir 2 w1\n", "done 0 0 w1\n"], &whole[..1], (1, Shell));
        // Each once.
        let twice = ["item 1\n", "done 1 0 w1\n", "done 1 5 w1\n", "workdir 1 w1\n", "item 1 w1\n"];
        check(&twice, &whole[..2], (1, Item));
        // Past the last one.
        let all: Vec<String> =
            (1..6).flat_map(|n| [format!("item {n} w{}\n", n - 1), format!("done {n} 0 w{n}\n")]).collect();
        let all: Vec<&str> =
            std::iter::once("item 1\n").chain(all.iter().skip(1).map(String::as_str)).collect();
        let three = [1, 2, 3].map(|n| [Mark::Item(n), Done(n, 0)]).concat();
        check(&all, &three, (3, Item));
    }

    #[test]
    fn a_mark_without_its_word_is_dropped() {
        use Ending::Shell;
        for other in
            ["done 1 0", "done 1 0 ", "done 1 0 w2", "done 1 0 w1 ", "workdir 1", "done 1 0 w1 w1", "w1", ""]
        {
            check(&["item 1\n", other, "\n"], &[Mark::Item(1)], (1, Shell));
        }
    }

    #[test]
    fn junk_costs_one_line_and_hides_no_mark() {
        let mut marks = Marks::new(1);
        for _ in 0..1000 {
            assert_eq!(marks.feed(&[b'x'; 4096]), []);
            assert!(marks.line.capacity() <= 2 * MARK_LINE_MAX);
        }
        // A mark begins on a line of its own.
        assert_eq!(marks.feed(b"\nitem 1 \n"), [Mark::Item(1)]);
    }
}
