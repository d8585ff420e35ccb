//! Puts files of this machine into a volume, several at once. A volume has no versions: each file gets its place when it is whole.
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use vessl_core::object::VolumeRef;
use vessl_data::locked;
use vessl_data::tree::Kind;

use super::local::{Item, Local};
use super::{moment, spelled};
use crate::client::{Client, Pieces, VolumeFile};
use crate::error::{Error, Result};
use crate::output::progress::Bars;
use crate::session::Session;

/// What is sent at the same time.
const AT_ONCE: usize = 4;
/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// How often a file is sent again of which the connection was lost, and the pause before that.
const TRIES: u32 = 5;
const AGAIN: Duration = Duration::from_millis(200);

/// What all who send work with.
#[derive(Debug)]
struct Work {
    local: Local,
    volume: VolumeRef,
    to: PathBuf,
    /// A word for all of them.
    command: String,
    waiting: Mutex<VecDeque<usize>>,
    moved: Arc<AtomicU64>,
}

/// Puts all files; gives how many there were, and their bytes.
pub(crate) async fn to_volume(
    client: &Client,
    mut local: Local,
    (volume, to): (&VolumeRef, &Path),
    session: &Session,
) -> Result<(usize, u64)> {
    local.note()?;
    for item in local.items.iter().filter(|item| matches!(item.entry.kind, Kind::Symlink { .. })) {
        session.out.warn(&format!("`{}` was left out: it is a link", local.shown(item)));
    }
    let is_file = |n: &usize| local.items[*n].digest().is_some();
    let waiting: VecDeque<usize> = (0..local.items.len()).filter(is_file).collect();
    let (count, total) = (waiting.len(), local.bytes);
    let work = Arc::new(Work {
        local,
        volume: volume.clone(),
        to: to.to_owned(),
        command: random_word()?,
        waiting: Mutex::new(waiting),
        moved: Arc::default(),
    });
    let mut at_work = JoinSet::new();
    for _ in 0..AT_ONCE.min(count) {
        at_work.spawn(put_waiting(client.another(), Arc::clone(&work)));
    }
    let all = async {
        while let Some(ended) = at_work.join_next().await {
            ended.map_err(|e| Error::Bug(format!("an upload ended: {e}")))??;
        }
        Ok::<_, Error>(())
    };
    let label = if count == 1 { "copy 1 file".to_owned() } else { format!("copy {count} files") };
    Bars::or_lines(&session.out).follow(&label, (&work.moved, total), all).await?;
    Ok((count, total))
}

fn random_word() -> Result<String> {
    let mut bytes = [0; 16];
    let random = getrandom::fill(&mut bytes);
    random.map_err(|error| Error::Bug(format!("the system gives no random bytes: {error}")))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

async fn put_waiting(mut client: Client, work: Arc<Work>) -> Result<()> {
    loop {
        let next = locked(&work.waiting).pop_front();
        let Some(n) = next else { return Ok(()) };
        let put = put(&mut client, &work, n).await;
        if put.is_err() {
            locked(&work.waiting).clear();
            return put;
        }
    }
}

async fn put(client: &mut Client, work: &Arc<Work>, n: usize) -> Result<()> {
    let file = work.file(&work.local.items[n]);
    for tries in 1.. {
        let reader = Arc::clone(work);
        let read = move |pieces: Pieces| reader.read(n, &pieces);
        let put = client.put_volume_file(&work.volume, (&file, &work.command), &work.moved, read).await;
        match put {
            Ok(state) if state.received == file.size => return Ok(()),
            Ok(_) | Err(Error::Unreachable { .. } | Error::NoAnswer { .. }) if tries < TRIES => {
                tokio::time::sleep(AGAIN).await;
                client.find_again().await?;
            }
            Ok(_) => return Err(client.lost("it does not take in a file as a whole")),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Work {
    fn file(&self, item: &Item) -> VolumeFile {
        let entry = &item.entry;
        let whole =
            if entry.path.as_os_str().is_empty() { self.to.clone() } else { self.to.join(&entry.path) };
        let (size, mode) = match entry.kind {
            Kind::File { size, mode, .. } => (size, mode),
            Kind::Dir { .. } | Kind::Symlink { .. } => (0, 0),
        };
        let modified_at = moment(entry.modified);
        VolumeFile { path: spelled(&whole), size, mode: format!("{mode:o}"), modified_at }
    }

    /// Blocks.
    fn read(&self, n: usize, to: &Pieces) -> Result<()> {
        let item = &self.local.items[n];
        let read = self.local.read(item, (0, PIECE), |bytes| to.blocking_send(Ok(bytes.into())).is_ok());
        if read.is_err() {
            // The server must not take what came for the whole.
            let _ = to.blocking_send(Err(std::io::Error::other("the file cannot be read any more")));
        }
        read
    }
}
