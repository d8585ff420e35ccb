//! Bytes of a request on their way into a file: written in pieces of some size where waiting for the disk harms nobody, while the
//! next piece comes.
use bytes::Bytes;
use tokio::task::JoinHandle;
use vessl_data::incoming::{Incoming, IncomingError, Pack};

use super::{RegistryError, Result};

/// Bytes that are written at once.
const PIECE: usize = 1 << 20;

/// What takes bytes in, one after the other. Blocks on the disk.
pub trait Takes: Send + 'static {
    /// Takes the next ones.
    fn take(&mut self, bytes: &[u8]) -> std::result::Result<(), IncomingError>;
}

impl Takes for Incoming {
    fn take(&mut self, bytes: &[u8]) -> std::result::Result<(), IncomingError> {
        self.append(bytes)
    }
}

impl Takes for Pack {
    fn take(&mut self, bytes: &[u8]) -> std::result::Result<(), IncomingError> {
        self.append(bytes)
    }
}

/// Bytes on their way. Whoever else must not write meanwhile is held off by `guard`, until the last piece is written.
#[derive(Debug)]
pub struct Receiver<T, G> {
    idle: Option<(T, G)>,
    writing: Option<JoinHandle<Result<(T, G)>>>,
    waiting: Vec<Bytes>,
    length: usize,
    received: u64,
}

impl<T: Takes, G: Send + 'static> Receiver<T, G> {
    pub(super) fn new(to: T, guard: G) -> Self {
        Self { idle: Some((to, guard)), writing: None, waiting: Vec::new(), length: 0, received: 0 }
    }

    /// Takes the next bytes.
    pub async fn append(&mut self, bytes: Bytes) -> Result<()> {
        self.length += bytes.len();
        self.received += bytes.len() as u64;
        self.waiting.push(bytes);
        if self.length < PIECE { Ok(()) } else { self.flush().await }
    }

    /// Bytes that came.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Begins to write what waits.
    pub async fn flush(&mut self) -> Result<()> {
        let (mut to, guard) = self.settle().await?;
        let waiting = std::mem::take(&mut self.waiting);
        self.length = 0;
        self.writing = Some(tokio::task::spawn_blocking(move || {
            waiting.iter().try_for_each(|bytes| to.take(bytes))?;
            Ok((to, guard))
        }));
        Ok(())
    }

    /// Writes all of it, and does the last step with it.
    pub(super) async fn finish<R: Send + 'static, E: Into<RegistryError> + Send + 'static>(
        mut self,
        last: impl FnOnce(T) -> std::result::Result<R, E> + Send + 'static,
    ) -> Result<R> {
        self.flush().await?;
        let (to, guard) = self.settle().await?;
        let done = tokio::task::spawn_blocking(move || {
            let done = last(to);
            drop(guard);
            done
        });
        done.await.map_err(|_| RegistryError::Stopping)?.map_err(Into::into)
    }

    /// Waits for the piece that is being written.
    async fn settle(&mut self) -> Result<(T, G)> {
        match self.writing.take() {
            Some(writing) => writing.await.map_err(|_| RegistryError::Stopping)?,
            None => self.idle.take().ok_or(RegistryError::Stopping),
        }
    }
}
