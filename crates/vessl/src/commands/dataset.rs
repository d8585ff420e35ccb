//! `vessl dataset …`.
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use vessl_core::object::{ObjectKind, ObjectName};
use vessl_core::wire::registry::{FileChange, VersionCreate};

use super::objects::{self, Create, Diff, Download, Listing, OfVersion, Target, Upload};
use super::{completion, upload};
use crate::client::Client;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::registry;
use crate::session::Session;

/// What can be done with datasets.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a dataset, still without files
    #[command(after_help = "A run reads it with `import: {/data: vessl-dataset://ORGANIZATION/NAME}`.

Examples:
  vessl dataset create cats
  vessl dataset create cats -m 'all cats of 2026'")]
    Create(Create),
    /// List the datasets of the organization
    #[command(after_help = "Examples:
  vessl dataset list
  vessl dataset list --output json | jq -r '.[].name'")]
    List,
    /// Show one dataset with its newest version
    #[command(after_help = "Examples:\n  vessl dataset read cats")]
    Read(Name),
    /// List the files of a dataset
    #[command(after_help = "Examples:
  vessl dataset list-files cats
  vessl dataset list-files cats -p train -r
  vessl dataset list-files cats --version 3 --output json

What is not UTF-8 in a name is written as `%FF`.")]
    ListFiles(ListFiles),
    /// Upload a file or directory: the files that are new or changed make a new version
    #[command(after_help = "\
Files come where `cp -r` would put them: the directory `cats` to `/` becomes `/cats`; of `cats/.` only what is in it comes. Files \
that are there already with another content are replaced, others stay. All of it makes one version, or none if anything fails. Only \
content that the server does not have is sent, and after an interruption the same command goes on where it stopped. A file that is \
written to meanwhile ends the upload with its name.

Files named `.vesslignore` leave things out, in the directory itself, in those below it and in those above it up to the working \
directory; they are written like a `.gitignore`. Links to something inside stay links, others become what they lead to. Permissions, \
times and holes are kept; sockets, pipes and devices are named and left out.

Examples:
  vessl dataset upload cats images /
  vessl dataset upload cats images/. /train
  vessl dataset upload cats labels.csv /train/")]
    Upload(Named<Upload>),
    /// Download a file or directory of a dataset
    #[command(after_help = "\
Files land where `cp -r` would put them: `train` becomes `DEST/train`; of `train/.` only what is in it comes, and `/` is everything. \
Every file is verified. A download that was interrupted goes on where it stopped when the same command is run again.

Examples:
  vessl dataset download cats / data
  vessl dataset download cats train/. data --version 3
  vessl dataset download cats train/labels.csv .")]
    Download(DownloadArgs),
    /// Copy a file or directory inside a dataset: a new version, for which nothing is sent
    #[command(after_help = "Examples:\n  vessl dataset copy cats train/labels.csv old/labels.csv")]
    Copy(Copy),
    /// Delete a file or directory of a dataset: a new version without it
    #[command(after_help = "Versions from before keep it.

Examples:
  vessl dataset delete-file cats train/broken.png
  vessl dataset delete-file cats old")]
    DeleteFile(DeleteFile),
    /// List the versions of a dataset, the newest first
    #[command(after_help = "Examples:\n  vessl dataset versions cats")]
    Versions(Name),
    /// Say which files two versions of a dataset do not have in common
    #[command(after_help = "Examples:
  vessl dataset diff cats 1 2
  vessl dataset diff cats 1 latest --output json")]
    Diff(Named<Diff>),
    /// Delete a dataset with all of its versions
    #[command(after_help = "Refused while a run that has not ended uses it.

Examples:
  vessl dataset delete cats")]
    Delete(Name),
}

/// Names one dataset.
#[derive(Args, Debug)]
pub(crate) struct Name {
    /// Name of the dataset; one of another organization is `ORGANIZATION/NAME`
    #[arg(add = ArgValueCandidates::new(completion::datasets))]
    name: String,
}

/// Names one dataset, and more.
#[derive(Args, Debug)]
pub(crate) struct Named<T: Args> {
    #[command(flatten)]
    of: Name,
    #[command(flatten)]
    args: T,
}

/// Which files.
#[derive(Args, Debug)]
pub(crate) struct ListFiles {
    #[command(flatten)]
    of: Name,
    #[command(flatten)]
    listing: Listing,
    #[command(flatten)]
    version: OfVersion,
}

/// What to bring.
#[derive(Args, Debug)]
pub(crate) struct DownloadArgs {
    #[command(flatten)]
    of: Name,
    #[command(flatten)]
    args: Download,
    #[command(flatten)]
    version: OfVersion,
}

/// Two places in a dataset.
#[derive(Args, Debug)]
pub(crate) struct Copy {
    #[command(flatten)]
    of: Name,
    /// File or directory of the newest version
    source: String,
    /// Its new path; what is there is replaced
    dest: String,
}

/// A place in a dataset.
#[derive(Args, Debug)]
pub(crate) struct DeleteFile {
    #[command(flatten)]
    of: Name,
    /// File or directory of the newest version
    path: String,
}

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    let client = &mut client;
    match command {
        Command::Create(args) => {
            let name = named(client, &args.name).await?;
            let made = client.create_object(&name, args.description.as_deref()).await?;
            session.out.object(&made, registry::object)?;
        }
        Command::List => {
            let all = client.objects(ObjectKind::Dataset).await?;
            let none = "there are no datasets; `vessl dataset create NAME` makes one";
            session.out.list(&all, registry::DATASETS, none)?;
        }
        Command::Read(of) => {
            let name = named(client, &of.name).await?;
            session.out.object(&objects::read(client, &name).await?, registry::object)?;
        }
        Command::Versions(of) => {
            let name = named(client, &of.name).await?;
            objects::read(client, &name).await?;
            let versions = client.versions(&name).await?;
            session.out.list(&versions, registry::VERSIONS, "the dataset has no files yet")?;
        }
        Command::Diff(Named { of, args }) => {
            let name = named(client, &of.name).await?;
            objects::diff(client, &name, &args, session).await?;
        }
        Command::Delete(of) => {
            let name = named(client, &of.name).await?;
            client.delete_object(&name).await?;
            objects::deleted("the dataset", &name.name, session)?;
        }
        files => with_files(files, client, session).await?,
    }
    Ok(exit::OK)
}

/// Those that have to do with files.
async fn with_files(command: Command, client: &mut Client, session: &Session) -> Result<()> {
    match command {
        Command::ListFiles(ListFiles { of, listing, version }) => {
            let name = named(client, &of.name).await?;
            objects::list_files(client, (&name, &version.version), &listing, session).await
        }
        Command::Upload(Named { of, args }) => {
            let name = named(client, &of.name).await?;
            let from = objects::read(client, &name).await?.newest.map(|version| version.version);
            let target = Target { name, from, version: VersionCreate::default() };
            upload::tell(&objects::send(client, target, &args, session).await?, session)
        }
        Command::Download(DownloadArgs { of, args, version }) => {
            let name = named(client, &of.name).await?;
            objects::bring(client, (&name, &version.version), &args, session).await
        }
        Command::Copy(Copy { of, source, dest }) => {
            let (from, to) = (tree_path(&source)?, tree_path(&dest)?);
            change(client, &of, FileChange::Copy { from, to }, session).await
        }
        Command::DeleteFile(DeleteFile { of, path }) => {
            let path = tree_path(&path)?;
            change(client, &of, FileChange::Delete { path }, session).await
        }
        _ => Ok(()),
    }
}

async fn named(client: &mut Client, name: &str) -> Result<ObjectName> {
    client.named(ObjectKind::Dataset, name).await
}

fn tree_path(text: &str) -> Result<String> {
    objects::tree_path(text).map(|path| upload::spelled(&path))
}

/// Makes a version by one change, and says which.
async fn change(client: &mut Client, of: &Name, change: FileChange, session: &Session) -> Result<()> {
    let name = named(client, &of.name).await?;
    objects::version(client, &name, "latest").await?;
    let made = objects::change(client, &name, None, vec![change]).await?;
    session.out.outcome(&made, &format!("made version {} of {name}", made.version))
}
