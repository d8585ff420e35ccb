//! What can be done with datasets, models and artifacts alike: their files listed, brought and sent, their versions listed, compared
//! and deleted. Each of them has its own commands elsewhere.
mod fetch;
mod place;

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use vessl_core::object::{ObjectKind, ObjectName};
use vessl_core::wire::registry::{FileChange, ObjectView, VersionCreate, VersionView};

pub(crate) use self::fetch::{download, kind_at};
pub(crate) use self::place::{place, tree_path};
use super::upload::{self, Outcome, Placed, Wanted};
use crate::client::{Client, FileSource, Listed, is_missing};
use crate::error::{Error, Result};
use crate::output::registry;
use crate::session::Session;

/// Which files of a version are listed.
#[derive(Args, Debug)]
pub(crate) struct Listing {
    /// What is in this directory; default: in the topmost one
    #[arg(short, long, value_name = "PATH", default_value = "", hide_default_value = true)]
    pub(crate) path: String,
    /// Also what is in the directories that are in it
    #[arg(short, long)]
    pub(crate) recursive: bool,
}

/// Which version.
#[derive(Args, Debug)]
pub(crate) struct OfVersion {
    /// Number of a version, or `latest`
    #[arg(long, value_name = "VERSION", default_value = "latest")]
    pub(crate) version: String,
}

/// A name, and a new thing's description.
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// Name; letters, digits, `-`, `_` and `.`
    pub(crate) name: String,
    /// What it is, in words
    #[arg(short = 'm', long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
}

/// Two places.
#[derive(Args, Debug)]
pub(crate) struct Upload {
    /// File or directory of this machine
    #[arg(value_name = "SOURCE", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) source: PathBuf,
    /// Where it goes; `/` is the topmost directory
    #[arg(value_name = "DEST")]
    pub(crate) dest: String,
}

/// Two places the other way round.
#[derive(Args, Debug)]
pub(crate) struct Download {
    /// File or directory of the version; `/` is everything
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// Directory of this machine, made if missing; for a file also its new name
    #[arg(value_name = "DEST", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) dest: PathBuf,
}

/// Two versions.
#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// The version before: its number, or `latest`
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    /// The version after
    #[arg(value_name = "TO", default_value = "latest")]
    pub(crate) to: String,
}

/// One thing; an error says how one comes to be.
pub(crate) async fn read(client: &mut Client, name: &ObjectName) -> Result<ObjectView> {
    client.object(name).await.map_err(|error| with_hint(error, || how_to_make(name)))
}

/// One version, or the error of one that is not there.
pub(crate) async fn version(client: &mut Client, name: &ObjectName, version: &str) -> Result<VersionView> {
    match client.version(name, version).await {
        Err(error) if is_missing(&error) => {
            let object = read(client, name).await?;
            Err(with_hint(error, || match (&object.newest, name.kind) {
                (None, ObjectKind::Dataset) => {
                    format!("it has no files yet: `vessl dataset upload {} SOURCE DEST`", name.name)
                }
                (None, _) => "it has no version yet".to_owned(),
                (Some(newest), _) => format!("the newest one is {}", newest.version),
            }))
        }
        other => other,
    }
}

fn how_to_make(name: &ObjectName) -> String {
    let own = &name.name;
    match name.kind {
        ObjectKind::Dataset => {
            format!("`vessl dataset create {own}` makes one; `vessl dataset list` lists them")
        }
        ObjectKind::ModelRepository => {
            format!(
                "`vessl model-repository create {own}` makes one; `vessl model-repository list` lists them"
            )
        }
        ObjectKind::Artifact => format!("`vessl artifact upload {own} SOURCE /` makes one"),
    }
}

/// The same error with a next step, if it has none.
pub(crate) fn with_hint(mut error: Error, hint: impl FnOnce() -> String) -> Error {
    if let Error::Refused { status: 404, body } = &mut error
        && body.hint.is_none()
    {
        body.hint = Some(hint());
    }
    error
}

/// Lists files.
pub(crate) async fn list_files(
    client: &mut Client,
    (name, number): (&ObjectName, &str),
    listing: &Listing,
    session: &Session,
) -> Result<()> {
    let found = version(client, name, number).await?;
    let path = upload::spelled(&tree_path(&listing.path)?);
    let listed = Listed { path: &path, recursive: listing.recursive };
    let files = client.version_files(name, found.version, listed).await;
    let files = files.map_err(|error| {
        with_hint(error, || "`list-files --recursive` without `--path` lists everything".to_owned())
    })?;
    let files: Vec<_> = files.into_iter().filter(|file| file.path != ".").collect();
    session.out.list(&files, registry::FILES, "there are no files")
}

/// Brings files here.
pub(crate) async fn bring(
    client: &mut Client,
    (name, number): (&ObjectName, &str),
    args: &Download,
    session: &Session,
) -> Result<()> {
    let found = version(client, name, number).await?;
    let source = FileSource::Version(name.clone(), found.version);
    download(client, source, (&args.source, &args.dest), session).await
}

/// To what files are uploaded.
#[derive(Debug)]
pub(crate) struct Target {
    /// Of what a version is made.
    pub(crate) name: ObjectName,
    /// The version that the new one begins with, if any.
    pub(crate) from: Option<u64>,
    /// The rest of what is asked for.
    pub(crate) version: VersionCreate,
}

/// Uploads a file or directory to a place.
pub(crate) async fn send(
    client: &mut Client,
    target: Target,
    args: &Upload,
    session: &Session,
) -> Result<Outcome> {
    let local = upload::look(&args.source, session).await?;
    let to = match target.from {
        Some(number) => {
            let source = FileSource::Version(target.name.clone(), number);
            let there = kind_at(client, &source, &tree_path(&args.dest)?).await?;
            place(&local, &args.dest, there)?
        }
        None => place(&local, &args.dest, None)?,
    };
    let Target { name, from, version } = target;
    let source = args.source.canonicalize().unwrap_or_else(|_| args.source.clone());
    let key = format!("{}\0{}", source.display(), args.dest);
    upload::upload(client, vec![Placed { local, to }], Wanted { name, key, onto: from, version }, session)
        .await
}

/// Makes a version by changes alone.
pub(crate) async fn change(
    client: &mut Client,
    name: &ObjectName,
    base: Option<u64>,
    changes: Vec<FileChange>,
) -> Result<VersionView> {
    let request = VersionCreate { base, changes, ..VersionCreate::default() };
    client.create_version(name, &request).await
}

/// Lists what two versions have that is not the same.
pub(crate) async fn diff(
    client: &mut Client,
    name: &ObjectName,
    args: &Diff,
    session: &Session,
) -> Result<()> {
    for number in [&args.from, &args.to] {
        version(client, name, number).await?;
    }
    let differences = client.diff(name, (&args.from, &args.to)).await?;
    session.out.list(&differences, registry::DIFFERENCES, "they have the same files")
}

/// Says that something was deleted.
pub(crate) fn deleted(what: &str, shown: &str, session: &Session) -> Result<()> {
    session.out.outcome(&json!({ "deleted": shown }), &format!("deleted {what} `{shown}`"))
}
