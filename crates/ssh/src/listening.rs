//! What listens in the run for a connection, and what of it must be removed afterwards.
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::{AbortHandle, JoinHandle};

/// Most listeners of a connection.
const LISTENERS: usize = 64;

/// What a listener is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum At {
    Tcp(String, u32),
    Unix(String),
    Agent,
}

/// One that listens in the run, and the socket it made there.
#[derive(Debug)]
pub(crate) struct Ear {
    accepting: AbortHandle,
    path: Option<String>,
}

impl Ear {
    /// One whose connections a task takes.
    pub(crate) fn new(accepting: &JoinHandle<()>, path: Option<String>) -> Self {
        Self { accepting: accepting.abort_handle(), path }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What listens in the run for a connection.
#[derive(Debug, Default)]
pub(crate) struct Listening(Mutex<HashMap<At, Ear>>);

impl Listening {
    fn open(&self) -> MutexGuard<'_, HashMap<At, Ear>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there may be one more, and this one is not there yet.
    pub(crate) fn has_room(&self, at: &At) -> bool {
        let open = self.open();
        open.len() < LISTENERS && !open.contains_key(at)
    }

    /// Keeps one until it is ended.
    pub(crate) fn keep(&self, at: At, ear: Ear) {
        self.open().insert(at, ear);
    }

    /// Where programs of the run find the client's agent, if it is forwarded.
    pub(crate) fn agent_socket(&self) -> Option<String> {
        self.open().get(&At::Agent).and_then(|ear| ear.path.clone())
    }

    /// Ends a listener; false if there is none.
    pub(crate) fn end_tcp(&self, address: &str, port: u32) -> bool {
        self.open().remove(&At::Tcp(address.to_owned(), port)).is_some()
    }

    /// The same; its socket is left to be removed.
    pub(crate) fn end_unix(&self, path: &str) -> Option<String> {
        let mut ear = self.open().remove(&At::Unix(path.to_owned()))?;
        ear.path.take()
    }

    /// Ends all of them. Their sockets are left to be removed.
    pub(crate) fn end(&self) -> Vec<String> {
        self.open().drain().filter_map(|(_, mut ear)| ear.path.take()).collect()
    }
}
