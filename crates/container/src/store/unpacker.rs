//! One layer, by who holds its lock: fetched, verified while it streams, unpacked beside its place, made visible.
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::UnboundedSender;

use super::layers::Layer;
use super::pull::{DownloadRequest, LayerTask, PullState};
use super::{Store, StoreError, part};
use crate::manifest::Descriptor;
use crate::source::{Blob, open_local};
use crate::unpack::{self, InputFailed, UnpackError, Unpacked};
use vessl_core::reference::Digest;
use vessl_data::is_full;

pub(super) struct Unpacker<'a> {
    pub(super) store: &'a Store,
    pub(super) state: &'a PullState,
    pub(super) task: &'a LayerTask,
    pub(super) requests: &'a UnboundedSender<DownloadRequest>,
}

/// Whether a download was begun by an earlier pull; it may have been damaged since.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Fresh,
    Resumed,
}

impl Unpacker<'_> {
    pub(super) fn run(&self) -> Result<(), StoreError> {
        let done = match self.attempt() {
            Err((StoreError::Corrupt { .. }, Start::Resumed)) => {
                self.store.drop_work(&self.task.diff);
                self.attempt()
            }
            done => done,
        };
        match &done {
            Err((error, _)) if !is_worth_keeping(error) => self.store.drop_work(&self.task.diff),
            Err(_) => self.store.drop_half_layer(&self.task.diff),
            Ok(()) => {}
        }
        done.map_err(|(error, _)| error)
    }

    fn attempt(&self) -> Result<(), (StoreError, Start)> {
        let fresh = |error| (error, Start::Fresh);
        let fs = self.store.begin_layer(&self.task.diff).map_err(fresh)?;
        let (input, start) = self.input().map_err(fresh)?;
        let layer = self.unpack(input, &fs).map_err(|error| (error, start))?;
        self.remove_part();
        self.store.finish_layer(&self.task.diff, &layer).map_err(fresh)?;
        self.store.drop_work(&self.task.diff);
        Ok(())
    }

    /// The compressed bytes; a remote blob is requested, and read while it arrives.
    fn input(&self) -> Result<(Box<dyn Read + Send>, Start), StoreError> {
        if let Blob::Remote(blob) = &self.task.blob {
            return self.request(blob);
        }
        let local = open_local(&self.task.blob)
            .map_err(|e| StoreError::io("read a layer for", &self.store.root, e))?;
        match local {
            Some(local) => Ok((Box::new(local), Start::Fresh)),
            None => Ok((Box::new(io::empty()), Start::Fresh)),
        }
    }

    fn request(&self, blob: &Descriptor) -> Result<(Box<dyn Read + Send>, Start), StoreError> {
        let path = self.part_path(&blob.digest);
        let (writer, reader) = part::open(&path, blob.size, self.store.options.again)
            .map_err(|e| StoreError::io("open", &path, e))?;
        let start = if writer.received() > 0 { Start::Resumed } else { Start::Fresh };
        // If nobody takes orders any more, the order is dropped and the reader fails.
        let _ = self.requests.send(DownloadRequest { blob: blob.clone(), part: writer });
        Ok((Box::new(reader), start))
    }

    fn part_path(&self, digest: &Digest) -> std::path::PathBuf {
        self.store.work_dir(&self.task.diff).join(format!("{}.part", digest.hex()))
    }

    /// The download is not needed any more, and need not be written to disk by the sync that follows.
    fn remove_part(&self) {
        if let Blob::Remote(blob) = &self.task.blob {
            // What is left is removed with the work directory.
            let _ = std::fs::remove_file(self.part_path(&blob.digest));
        }
    }

    fn unpack(&self, input: Box<dyn Read + Send>, fs: &Path) -> Result<Layer, StoreError> {
        let is_local = matches!(self.task.blob, Blob::Local(..));
        let mut input = Checked { input, state: self.state, is_local, hash: Sha256::new(), count: 0 };
        let limits = &self.store.options.limits;
        let unpacked = unpack::layer(&mut input, self.task.blob.size(), fs, limits);
        match unpacked {
            // A damaged stream fails to unpack before its digest is seen to be wrong: the digest is the better word.
            Ok(_) | Err(UnpackError::Format(_) | UnpackError::Refused { .. }) => self.check_blob(input)?,
            Err(_) => {}
        }
        let unpacked = unpacked.map_err(|error| self.explain(error))?;
        self.check_diff(&unpacked)?;
        Ok(unpacked.into())
    }

    /// Reads the rest of the compressed bytes and compares size and digest.
    fn check_blob(&self, mut input: Checked<'_>) -> Result<(), StoreError> {
        io::copy(&mut input, &mut io::sink()).map_err(|error| match error.get_ref() {
            Some(inner) if inner.is::<InputFailed>() => StoreError::Cancelled,
            _ => StoreError::io("read a layer for", &self.store.root, error),
        })?;
        let got = Digest::from_hash(&input.hash.finalize());
        match self.task.blob.digest() {
            Some(expected) if *expected != got => Err(StoreError::wrong_digest(&self.name(), expected, &got)),
            _ if input.count != self.task.blob.size() => {
                let reason = format!("it has {} bytes instead of {}", input.count, self.task.blob.size());
                Err(StoreError::Corrupt { what: self.name(), reason })
            }
            _ => Ok(()),
        }
    }

    fn check_diff(&self, unpacked: &Unpacked) -> Result<(), StoreError> {
        if unpacked.diff.hex() == self.task.diff {
            return Ok(());
        }
        let reason = format!(
            "it unpacks to `{}` where the image's configuration says `sha256:{}`",
            unpacked.diff, self.task.diff
        );
        Err(StoreError::Corrupt { what: self.name(), reason })
    }

    fn name(&self) -> String {
        match self.task.blob.digest() {
            Some(digest) => format!("layer `{digest}`"),
            None => format!("layer `sha256:{}`", self.task.diff),
        }
    }

    fn explain(&self, source: UnpackError) -> StoreError {
        match source {
            // The first failure is told; this one only follows from it.
            UnpackError::Input => StoreError::Cancelled,
            UnpackError::Os { source, .. } if is_full(&source) => StoreError::NoSpace {
                path: self.store.root.clone(),
                doing: format!("unpacking {}", self.name()),
            },
            source => StoreError::Layer { layer: self.name(), source },
        }
    }
}

/// Whether a later pull can go on with what was downloaded before `error`.
fn is_worth_keeping(error: &StoreError) -> bool {
    match error {
        StoreError::Corrupt { .. } | StoreError::NoSpace { .. } => false,
        StoreError::Layer { source, .. } => matches!(source, UnpackError::Os { .. }),
        _ => true,
    }
}

/// Hashes and counts what is read, and fails when the pull was stopped.
struct Checked<'a> {
    input: Box<dyn Read + Send>,
    state: &'a PullState,
    /// Local bytes are counted here, remote ones where they arrive.
    is_local: bool,
    hash: Sha256,
    count: u64,
}

impl Read for Checked<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.state.is_stopped() {
            return Err(io::Error::other(InputFailed));
        }
        let n = self.input.read(to)?;
        self.hash.update(&to[..n]);
        self.count += n as u64;
        if self.is_local {
            self.state.fetched.add(n as u64);
        }
        Ok(n)
    }
}
