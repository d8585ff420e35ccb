//! A few read-only connections, used on blocking threads, opened when first needed and kept.
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use tokio::sync::Semaphore;
use vessl_data::locked;

use super::{Result, StoreError, open_reader};

/// Reads that run at the same time; more would only wait for the same cores and disk.
const MOST: usize = 4;

#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    turns: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, turns: Arc::new(Semaphore::new(MOST)), idle: Arc::default() }
    }

    pub(super) async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (idle, path) = (Arc::clone(&self.idle), self.path.clone());
        let done = tokio::task::spawn_blocking(move || {
            let kept = locked(&idle).pop();
            let conn = kept.map_or_else(|| open_reader(&path), Ok)?;
            let done = work(&conn);
            locked(&idle).push(conn);
            drop(turn);
            done
        });
        done.await.map_err(|_| StoreError::Closed)?
    }
}
