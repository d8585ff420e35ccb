//! One object, read from anywhere by whoever asks for pieces of it one after the other. It writes nothing.
use std::io;
use std::sync::Mutex;

use bytes::Bytes;
use reqwest::Response;

use super::error::BucketError;
use super::listing::object;
use super::refusal::Aim;
use super::store::{About, Store};
use super::sums::Sums;
use super::{Session, listing};
use crate::locked;
use crate::sparse::ReadAt;

/// An object as it was when it was opened: bytes of another one never come. Who reads all of it in order gets the last bytes only if the
/// whole has the checksum that the bucket keeps. Its calls block.
pub struct Reader {
    session: Option<Session>,
    key: String,
    about: About,
    state: Mutex<State>,
}

/// Where it is read.
struct State {
    at: u64,
    response: Option<Response>,
    /// What came and was not asked for yet.
    left: Bytes,
    /// Of everything from the first byte on.
    sums: Option<Sums>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({})", self.key)
    }
}

impl Session {
    /// Opens the object at a path of the place; `None` if there is none.
    pub fn read(self, path: &str) -> Result<Option<Reader>, BucketError> {
        let Some(about) = self.runtime.block_on(object(&self.store, path))? else { return Ok(None) };
        let key = format!("{}{path}", listing::below(&self.store, ""));
        let state = State { at: 0, response: None, left: Bytes::new(), sums: Some(about.expected.plan()) };
        Ok(Some(Reader { session: Some(self), key, about, state: Mutex::new(state) }))
    }
}

impl Reader {
    /// Bytes in all.
    pub fn size(&self) -> u64 {
        self.about.size
    }

    /// What the bucket calls its content.
    pub fn tag(&self) -> &str {
        &self.about.tag
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The end of its threads is waited for, which asynchronous code must not do.
        if let Some(session) = self.session.take() {
            std::thread::spawn(move || drop(session));
        }
    }
}

impl ReadAt for Reader {
    fn read_at(&self, to: &mut [u8], at: u64) -> io::Result<usize> {
        let Some(session) = &self.session else { return Ok(0) };
        let mut state = locked(&self.state);
        if at != state.at {
            *state = State { at, response: None, left: Bytes::new(), sums: None };
        }
        let length = usize::try_from(self.about.size.saturating_sub(at)).unwrap_or(usize::MAX).min(to.len());
        if length == 0 {
            return Ok(0);
        }
        let read = session.runtime.block_on(self.fill(&session.store, &mut state, &mut to[..length]));
        read.map_err(io::Error::other)
    }
}

impl Reader {
    async fn fill(&self, store: &Store, state: &mut State, to: &mut [u8]) -> Result<usize, BucketError> {
        if state.left.is_empty() {
            state.left = self.next(store, state).await?;
        }
        let length = state.left.len().min(to.len());
        let piece = state.left.split_to(length);
        to[..length].copy_from_slice(&piece);
        state.at += length as u64;
        if let Some(sums) = &mut state.sums {
            sums.update(&piece);
        }
        if state.at == self.about.size
            && let Some(sums) = state.sums.take()
        {
            self.about
                .expected
                .check(sums.finish(state.at))
                .map_err(|why| BucketError::Damaged { key: store.wire.at().of_key(&self.key), why })?;
        }
        Ok(length)
    }

    /// The bytes that come next, at least one; asked for again where the connection was cut.
    async fn next(&self, store: &Store, state: &mut State) -> Result<Bytes, BucketError> {
        let mut retries = store.wire.retries();
        loop {
            let mut response = match state.response.take() {
                Some(response) => response,
                None => self.ask(store, state.at).await?,
            };
            let cut = match response.chunk().await {
                Ok(Some(chunk)) if chunk.is_empty() => {
                    state.response = Some(response);
                    continue;
                }
                Ok(Some(mut chunk)) => {
                    let most = usize::try_from(self.about.size - state.at).unwrap_or(usize::MAX);
                    chunk.truncate(most);
                    state.response = Some(response);
                    return Ok(chunk);
                }
                Ok(None) => None,
                Err(error) => Some(error),
            };
            retries.after_failure().await.map_err(|()| store.wire.cut(&self.key, cut.as_ref()))?;
        }
    }

    async fn ask(&self, store: &Store, at: u64) -> Result<Response, BucketError> {
        let changed = || BucketError::Changed { key: store.wire.at().of_key(&self.key) };
        let response = match store.get(&self.key, &self.about.tag, Some(at..self.about.size)).await? {
            Ok(response) => response,
            Err(refusal) if refusal.is_missing() || refusal.is_condition() || refusal.status == 416 => {
                return Err(changed());
            }
            Err(refusal) => return Err(store.refused(refusal, &self.key, Aim::Read)),
        };
        let tag = store.tag(&response);
        if !tag.is_empty() && !self.about.tag.is_empty() && tag != self.about.tag {
            return Err(changed());
        }
        match super::get::begins(&response) {
            Some(begin) if begin == at => Ok(response),
            None if at == 0 => Ok(response),
            _ => Err(store.odd("it answers another range than was asked for".to_owned())),
        }
    }
}
