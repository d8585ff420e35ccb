//! What is told of JupyterLab: a record and a log in the run directory, sentences in the log of the run. Nothing of it has the token.
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use vessl_core::door::Surroundings;
use vessl_core::jupyter::{JUPYTER_VERSION, JupyterRecord, JupyterState, LOG_FILE, STATE_FILE, TOKEN_FILE};
use vessl_core::record::{Control, ControlReply};
use vessl_core::secret::Secret;
use vessl_data::durable;
use vessl_reach::agent;

/// Most bytes of the log of JupyterLab; then it begins anew.
const LARGEST_LOG: u64 = 1 << 20;
/// Its last lines that are remembered.
const LAST_LINES: usize = 12;
/// Most characters of a line that are repeated elsewhere.
const QUOTED: usize = 300;

/// The token of the run whose directory this is.
pub(crate) fn token(dir: &Path) -> io::Result<Secret> {
    let text = std::fs::read_to_string(dir.join(TOKEN_FILE))?;
    Ok(Secret::from(text.trim()))
}

/// Who is told.
#[derive(Debug)]
pub(crate) struct Told {
    dir: PathBuf,
    last: Option<JupyterRecord>,
    noted: Option<String>,
}

impl Told {
    /// In the run directory `dir`.
    pub(crate) fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), last: None, noted: None }
    }

    /// The run directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Id of the run, as its directory is named.
    pub(crate) fn run(&self) -> String {
        let name = self.dir.parent().and_then(Path::file_name).unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Says how far it is. A disk that is full must not end anything.
    pub(crate) fn state(&mut self, state: JupyterState, why: impl Into<String>) {
        let record = JupyterRecord { v: JUPYTER_VERSION, state, why: why.into() };
        if self.last.as_ref() == Some(&record) {
            return;
        }
        let text = serde_json::to_vec(&record).map_err(io::Error::other);
        let written = text.and_then(|text| durable::write_atomic(&self.dir.join(STATE_FILE), &text, 0o600));
        if written.is_ok() {
            self.last = Some(record);
        }
    }

    /// The same that is wrong until something changes, and said in the log of the run as well: once.
    pub(crate) async fn unavailable(&mut self, why: String) {
        self.state(JupyterState::Unavailable, &why);
        self.note(&format!("JupyterLab: {why}")).await;
    }

    /// Writes a line into the log of the run, unless it was the last one.
    pub(crate) async fn note(&mut self, line: &str) {
        if self.noted.as_deref() == Some(line) {
            return;
        }
        let ask = Control::Note { line: line.to_owned() };
        // An agent that does not answer is ending, and then nobody wants to know.
        if agent::ask::<_, ControlReply>(&self.dir, &ask).await.is_ok_and(|reply| reply.ok) {
            self.noted = Some(line.to_owned());
        }
    }

    /// Environment and directory of the commands; `None` if there is no container, or none any more.
    pub(crate) async fn surroundings(&self) -> Option<Surroundings> {
        let reply: ControlReply = agent::ask(&self.dir, &Control::Surroundings).await.ok()?;
        reply.surroundings
    }

    /// The log of JupyterLab itself, without this token.
    pub(crate) fn log(&self, token: &Secret) -> LabLog {
        let path = self.dir.join(LOG_FILE);
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path).ok();
        LabLog { file, token: token.clone(), rest: Vec::new(), last: VecDeque::new() }
    }
}

/// What JupyterLab prints.
#[derive(Debug)]
pub(crate) struct LabLog {
    file: Option<File>,
    token: Secret,
    rest: Vec<u8>,
    last: VecDeque<String>,
}

impl LabLog {
    /// Takes in what it printed.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.line(&line);
        }
        if self.rest.len() > 64 << 10 {
            let line = std::mem::take(&mut self.rest);
            self.line(&line);
        }
    }

    fn line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line).trim_end().replace(self.token.expose(), "***");
        if let Some(file) = &mut self.file {
            if file.metadata().is_ok_and(|about| about.len() > LARGEST_LOG) {
                let _ = file.set_len(0);
            }
            let _ = writeln!(file, "{line}");
        }
        if !line.trim().is_empty() {
            self.last.push_back(line);
            self.last.drain(..self.last.len().saturating_sub(LAST_LINES));
        }
    }

    /// The last thing that it said, in one line.
    pub(crate) fn last_words(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.line(&rest);
        }
        // The last line of a Python error says most.
        let said = self.last.iter().rev().find(|line| !line.starts_with(' '))?;
        Some(said.trim().chars().take(QUOTED).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_no_token_and_knows_the_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Told::of(dir.path()).log(&Secret::from("hush-hush"));
        assert_eq!(log.last_words(), None);
        log.add(b"one\nGET /lab?token=hush");
        log.add(b"-hush 200\nTraceback:\n  File x\nImportError: no");
        assert_eq!(log.last_words().as_deref(), Some("ImportError: no"));
        let text = std::fs::read_to_string(dir.path().join(LOG_FILE)).unwrap();
        assert_eq!(text, "one\nGET /lab?token=*** 200\nTraceback:\n  File x\nImportError: no\n");
    }

    #[test]
    fn the_log_does_not_grow_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Told::of(dir.path()).log(&Secret::from("hush"));
        for _ in 0..40 {
            log.add(&vec![b'x'; 100_000]);
        }
        let size = std::fs::metadata(dir.path().join(LOG_FILE)).unwrap().len();
        assert!(size < 2 * LARGEST_LOG, "{size}");
    }
}
