//! Brings files of this machine to a server as a version: walked, hashed, and only what the server lacks is sent. A second try of the
//! same command goes on where the first one stopped. It does not know which command it is.
mod ignored;
mod local;
mod remembered;
mod send;
mod volume;

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use jiff::Timestamp;
use serde::Serialize;
use vessl_core::object::ObjectName;
use vessl_core::spelling;
use vessl_core::wire::registry::{FileChange, FilePut, VersionCreate, VersionView};
use vessl_core::wire::{FileKind, FileView};
use vessl_data::tree::{Form, Kind};

pub(crate) use self::local::{Item, Local};
use self::remembered::Remembered;
pub(crate) use self::volume::to_volume;
use crate::client::{Client, Listed, UploadRef, is_missing};
use crate::error::{Error, Result};
use crate::output::progress::Bars;
use crate::output::{Format, views};
use crate::session::Session;

/// How often an upload is begun again that ended meanwhile, or whose blobs did.
const TRIES: u32 = 3;

/// Files on their way to where they will be.
#[derive(Debug)]
pub(crate) struct Placed {
    /// The files.
    pub(crate) local: Local,
    /// Where they will be in the version; empty is the topmost directory.
    pub(crate) to: PathBuf,
}

/// The version that is wanted.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Of what.
    pub(crate) name: ObjectName,
    /// What the command is known by when it comes again.
    pub(crate) key: String,
    /// The version to which the files come. Where they are in it already, no other one is made.
    pub(crate) onto: Option<u64>,
    /// The rest of the request; its changes come behind those of the files.
    pub(crate) version: VersionCreate,
}

/// What became of an upload.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// Address of what the version is of.
    pub(crate) address: String,
    /// The version that has the files.
    #[serde(flatten)]
    pub(crate) version: VersionView,
    /// Files that were to be uploaded, and their bytes.
    pub(crate) uploaded_files: usize,
    pub(crate) uploaded_bytes: u64,
    /// Bytes that the server did not have.
    pub(crate) sent: u64,
    /// Whether a version was made; otherwise the newest one has all of it.
    pub(crate) new: bool,
}

/// Looks at what is to be uploaded, and says what is left out.
pub(crate) async fn look(source: &Path, session: &Session) -> Result<Local> {
    let path = source.to_owned();
    let walked = tokio::task::spawn_blocking(move || Local::walk(&path)).await;
    let local = walked.map_err(|e| Error::Bug(format!("the walk ended: {e}")))??;
    for warning in &local.warnings {
        session.out.warn(&format!("`{}` {}", local.shown_path(&warning.path), warning.text));
    }
    match local.ignored {
        0 => {}
        1 => session.out.note("`.vesslignore` leaves out 1 file or directory"),
        n => session.out.note(&format!("`.vesslignore` leaves out {n} files and directories")),
    }
    Ok(local)
}

/// Hashes everything, showing how far it is.
pub(crate) async fn hash(placed: Vec<Placed>, session: &Session) -> Result<Vec<Placed>> {
    let total = placed.iter().map(|placed| placed.local.bytes).sum();
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let _stopped = StopsWhenGone(Arc::clone(&stop));
    let counter = Arc::clone(&done);
    let hashed = tokio::task::spawn_blocking(move || {
        let mut placed = placed;
        for placed in &mut placed {
            placed.local.hash(&counter, &stop)?;
        }
        Ok(placed)
    });
    let hashed = Bars::or_lines(&session.out).follow("hash", (&done, total), hashed).await;
    hashed.map_err(|e| Error::Bug(format!("the hashing ended: {e}")))?
}

/// Threads that hash end with the command.
struct StopsWhenGone(Arc<AtomicBool>);

impl Drop for StopsWhenGone {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Makes a version with these files.
pub(crate) async fn upload(
    client: &mut Client,
    placed: Vec<Placed>,
    mut wanted: Wanted,
    session: &Session,
) -> Result<Outcome> {
    let placed = hash(placed, session).await?;
    let puts: Vec<FilePut> = placed.iter().flat_map(puts).collect();
    let uploaded_files = puts.iter().filter(|put| put.kind == FileKind::File).count();
    let uploaded_bytes = puts.iter().map(|put| put.size).sum();
    let address = wanted.name.to_string();
    let done = |version, sent, new| Outcome { address, version, uploaded_files, uploaded_bytes, sent, new };
    if let Some(version) = holding(client, &wanted, &placed, &puts).await? {
        return Ok(done(version, 0, false));
    }
    let more = std::mem::take(&mut wanted.version.changes);
    wanted.version.changes = puts.into_iter().map(FileChange::Put).chain(more).collect();
    let locals = Arc::new(placed.into_iter().map(|placed| placed.local).collect());
    let (version, sent) = send(client, &locals, wanted, session).await?;
    Ok(done(version, sent, true))
}

/// Says what became of an upload.
pub(crate) fn tell(uploaded: &Outcome, session: &Session) -> Result<()> {
    if session.out.format() != Format::Table {
        return session.out.data(uploaded);
    }
    let Outcome { address, version, uploaded_files: files, uploaded_bytes, sent, new } = uploaded;
    let counted = if *files == 1 { "1 file".to_owned() } else { format!("{files} files") };
    let (all, number) = (views::size(*uploaded_bytes), version.version);
    let text = if *new {
        let now = if sent == uploaded_bytes {
            String::new()
        } else {
            format!(" ({} of them sent)", views::size(*sent))
        };
        format!("uploaded {counted}, {all}{now}: version {number} of {address}\n")
    } else {
        format!("{counted}, {all}: all of it is in version {number} of {address} already\n")
    };
    session.out.text(&text)
}

/// Sends the blobs and makes the version; begins again where the upload ended meanwhile.
async fn send(
    client: &mut Client,
    locals: &Arc<Vec<Local>>,
    mut wanted: Wanted,
    session: &Session,
) -> Result<(VersionView, u64)> {
    let address = client.address();
    let mut remembered = Remembered::of(&[&address, &wanted.name.to_string(), &wanted.key]);
    let mut known = remembered.as_mut().and_then(Remembered::upload);
    let mut sent = 0;
    for tries in 1.. {
        let upload = living(client, &wanted.name, known.take()).await?;
        if let Some(remembered) = &mut remembered {
            remembered.note(&upload.id);
        }
        wanted.version.upload = Some(upload.id.clone());
        let made = async {
            sent += send::send_missing(client, locals, &upload, session).await?;
            client.create_version(&wanted.name, &wanted.version).await
        };
        match made.await {
            Ok(version) => {
                if let Some(remembered) = remembered {
                    remembered.forget();
                }
                return Ok((version, sent));
            }
            // The upload is gone, or a blob is not there any more.
            Err(Error::Refused { status: 404 | 409, .. }) if tries < TRIES => {
                client.object(&wanted.name).await?;
                known = Some(upload.id);
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::Bug("an upload has no end".to_owned()))
}

/// The upload that is known, if it goes on; else another one.
async fn living(client: &mut Client, of: &ObjectName, known: Option<String>) -> Result<UploadRef> {
    let organization = of.organization.as_str();
    if let Some(id) = known {
        let upload = UploadRef { organization: organization.to_owned(), id };
        match client.upload(&upload).await {
            Ok(_) => return Ok(upload),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let id = client.create_upload(organization, &of.to_string()).await?.id;
    Ok(UploadRef { organization: organization.to_owned(), id })
}

/// The version to which the files would come, if it has all of them already.
async fn holding(
    client: &mut Client,
    wanted: &Wanted,
    placed: &[Placed],
    puts: &[FilePut],
) -> Result<Option<VersionView>> {
    let Some(number) = wanted.onto.filter(|_| wanted.version.changes.is_empty()) else { return Ok(None) };
    let mut there: HashMap<String, FileView> = HashMap::new();
    for placed in placed {
        // The directory itself is not in its list, but in that of the one above it.
        let above = placed.to.parent().unwrap_or(Path::new(""));
        for listed in [Listed::below(&spelled(&placed.to)), Listed::in_dir(&spelled(above))] {
            match client.version_files(&wanted.name, number, listed).await {
                Ok(files) => there.extend(files.into_iter().map(|file| (file.path.clone(), file))),
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
    let is_there = |put: &FilePut| there.get(&put.path).is_some_and(|file| is_same(put, file));
    if !puts.iter().all(is_there) {
        return Ok(None);
    }
    client.version(&wanted.name, &number.to_string()).await.map(Some)
}

fn is_same(put: &FilePut, file: &FileView) -> bool {
    put.kind == file.kind
        && put.digest == *file.recipe.as_ref().unwrap_or(&file.digest)
        && put.chunked == file.recipe.is_some()
        && put.size == file.size
        && put.packed == file.packed_size.is_some()
        && (put.kind == FileKind::Link || put.mode == file.mode)
        && put.modified_at == file.modified_at
        && put.target == file.target
}

/// What a version gets of some files.
fn puts(placed: &Placed) -> Vec<FilePut> {
    let top = placed.local.top.map(|top| FilePut {
        path: Some(spelled(&placed.to)).filter(|path| !path.is_empty()).unwrap_or(".".to_owned()),
        kind: FileKind::Directory,
        mode: Some(format!("{:o}", top.mode)),
        modified_at: moment(Some(top.modified)),
        ..FilePut::default()
    });
    top.into_iter().chain(placed.local.items.iter().map(|item| put(item, &placed.to))).collect()
}

fn put(item: &Item, to: &Path) -> FilePut {
    let entry = &item.entry;
    let whole = if entry.path.as_os_str().is_empty() { to.to_owned() } else { to.join(&entry.path) };
    let put = FilePut { path: spelled(&whole), modified_at: moment(entry.modified), ..FilePut::default() };
    match &entry.kind {
        Kind::File { mode, size, digest, form } => FilePut {
            kind: FileKind::File,
            digest: digest.to_string(),
            size: *size,
            packed: *form == Form::Packed,
            chunked: *form == Form::Chunks,
            mode: Some(format!("{mode:o}")),
            ..put
        },
        Kind::Dir { mode } => FilePut { kind: FileKind::Directory, mode: Some(format!("{mode:o}")), ..put },
        Kind::Symlink { target } => FilePut { kind: FileKind::Link, target: Some(spelled(target)), ..put },
    }
}

fn moment(modified: Option<vessl_data::dir::Modified>) -> Option<Timestamp> {
    modified.and_then(|at| Timestamp::from_nanosecond(at.nanoseconds()).ok())
}

/// A path as the API spells it.
pub(crate) fn spelled(path: &Path) -> String {
    spelling::spell(path.as_os_str().as_bytes())
}
