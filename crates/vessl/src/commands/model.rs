//! `vessl model …`.
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use vessl_core::object::{ObjectKind, ObjectName};
use vessl_core::wire::registry::{FileChange, VersionCreate, VersionView};

use super::completion;
use super::objects::{self, Download, Listing, Target, Upload};
use super::upload::{self, Outcome, Placed, Wanted};
use crate::client::{Client, is_missing};
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::registry;
use crate::session::Session;

/// What can be done with models.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the next model of a repository from files of this machine
    #[command(after_help = "\
The model gets the next number of the repository, which is made if it is missing. Its files never change afterwards: what changes them \
makes the next number. Of a directory, what is in it becomes the model's files.

Examples:
  vessl model create classifiers --source checkpoint --model-name resnet50
  vessl model create classifiers --source weights.pt --source config.json
  vessl model create classifiers --source onnx --path exported/onnx")]
    Create(Create),
    /// List the models of a repository, the newest first
    #[command(after_help = "Examples:\n  vessl model list classifiers")]
    List(Repository),
    /// Show one model
    #[command(after_help = "Examples:\n  vessl model read classifiers 3")]
    Read(Model),
    /// List the files of a model
    #[command(after_help = "Examples:\n  vessl model list-files classifiers 3 -r")]
    ListFiles(Of<Listing>),
    /// Add files to a model: makes the next number, with its files and these
    #[command(after_help = "\
Files come where `cp -r` would put them, see `vessl dataset upload --help`. The files of a number never change, so that a run that \
names it always gets the same: the next number is made from it, and said.

Examples:
  vessl model upload classifiers 3 README.md /")]
    Upload(Of<Upload>),
    /// Download a file or directory of a model
    #[command(after_help = "\
Files land where `cp -r` would put them, see `vessl dataset download --help`.

Examples:
  vessl model download classifiers 3 / model
  vessl model download classifiers 3 weights.pt .")]
    Download(Of<Download>),
    /// Delete a file of a model: makes the next number, with its other files
    #[command(after_help = "Examples:\n  vessl model delete-file classifiers 3 optimizer.pt")]
    DeleteFile(Of<PathOf>),
    /// Delete a model; its number is not given again
    #[command(after_help = "Runs that were submitted still get what they import.

Examples:
  vessl model delete classifiers 3")]
    Delete(Model),
}

/// Names a repository.
#[derive(Args, Debug)]
pub(crate) struct Repository {
    /// Name of the model repository; one of another organization is `ORGANIZATION/NAME`
    #[arg(value_name = "REPOSITORY", add = ArgValueCandidates::new(completion::model_repositories))]
    repository: String,
}

/// Names a model.
#[derive(Args, Debug)]
pub(crate) struct Model {
    #[command(flatten)]
    of: Repository,
    /// Number of the model; `latest` is the newest
    #[arg(value_name = "NUMBER")]
    number: String,
}

/// Names a model, and more.
#[derive(Args, Debug)]
pub(crate) struct Of<T: Args> {
    #[command(flatten)]
    model: Model,
    #[command(flatten)]
    args: T,
}

/// A path in a model.
#[derive(Args, Debug)]
pub(crate) struct PathOf {
    /// File or directory of the model
    path: String,
}

/// What a model is made of.
#[derive(Args, Debug)]
pub(crate) struct Create {
    #[command(flatten)]
    of: Repository,
    /// Name of the model
    #[arg(long, value_name = "NAME")]
    model_name: Option<String>,
    /// What it is, in words
    #[arg(short = 'm', long, value_name = "TEXT")]
    description: Option<String>,
    /// File or directory of this machine; may be given several times
    #[arg(long, value_name = "SOURCE", value_hint = clap::ValueHint::AnyPath)]
    source: Vec<PathBuf>,
    /// Directory of the model that they come into
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
}

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    let client = &mut client;
    match command {
        Command::Create(args) => create(client, &args, session).await?,
        Command::List(of) => {
            let name = named(client, &of).await?;
            objects::read(client, &name).await?;
            let none = "the repository has no models; `vessl model create REPOSITORY` makes one";
            session.out.list(&client.versions(&name).await?, registry::MODELS, none)?;
        }
        Command::Read(model) => {
            let (_, found) = model.find(client).await?;
            session.out.object(&found, registry::version)?;
        }
        Command::ListFiles(Of { model, args }) => {
            let name = named(client, &model.of).await?;
            objects::list_files(client, (&name, &model.number), &args, session).await?;
        }
        Command::Upload(Of { model, args }) => {
            let (name, found) = model.find(client).await?;
            let version =
                VersionCreate { base: Some(found.version), name: found.name, ..VersionCreate::default() };
            let target = Target { name, from: Some(found.version), version };
            let uploaded = objects::send(client, target, &args, session).await?;
            upload::tell(&uploaded, session)?;
            note_next(found.version, &uploaded, session);
        }
        Command::Download(Of { model, args }) => {
            let name = named(client, &model.of).await?;
            objects::bring(client, (&name, &model.number), &args, session).await?;
        }
        Command::DeleteFile(Of { model, args }) => {
            let (name, found) = model.find(client).await?;
            let path = upload::spelled(&objects::tree_path(&args.path)?);
            let change = vec![FileChange::Delete { path }];
            let made = objects::change(client, &name, Some(found.version), change).await?;
            let words = format!(
                "made number {} of {name}: number {} without `{}`",
                made.version, found.version, args.path
            );
            session.out.outcome(&made, &words)?;
        }
        Command::Delete(model) => {
            let (name, found) = model.find(client).await?;
            client.delete_version(&name, found.version).await?;
            objects::deleted("the model", &format!("{} {}", name.name, found.version), session)?;
        }
    }
    Ok(exit::OK)
}

impl Model {
    async fn find(&self, client: &mut Client) -> Result<(ObjectName, VersionView)> {
        let name = named(client, &self.of).await?;
        let found = objects::version(client, &name, &self.number).await?;
        Ok((name, found))
    }
}

async fn named(client: &mut Client, of: &Repository) -> Result<ObjectName> {
    client.named(ObjectKind::ModelRepository, &of.repository).await
}

/// A script that goes on with the old number would miss the files.
fn note_next(from: u64, uploaded: &Outcome, session: &Session) {
    let made = uploaded.version.version;
    if made != from {
        session
            .out
            .note(&format!("number {from} stays as it was; number {made} has its files and the new ones"));
    }
}

async fn create(client: &mut Client, args: &Create, session: &Session) -> Result<()> {
    let name = named(client, &args.of).await?;
    let mut placed = Vec::new();
    for source in args.source.iter().filter(|source| !is_word(source)) {
        let local = upload::look(source, session).await?;
        let dir = objects::tree_path(&args.path)?;
        let to =
            if local.top.is_some() { dir } else { dir.join(local.name.as_deref().unwrap_or(Path::new(""))) };
        placed.push(Placed { local, to });
    }
    match client.object(&name).await {
        Err(error) if is_missing(&error) => {
            client.create_object(&name, None).await?;
            session.out.note(&format!("made the model repository `{}`", name.name));
        }
        other => drop(other?),
    }
    let sources: Vec<_> = args.source.iter().map(|source| source.display().to_string()).collect();
    let key = format!("{}\0{}\0{:?}", sources.join("\0"), args.path, args.model_name);
    let (own, description) = (args.model_name.clone(), args.description.clone());
    let version = VersionCreate { base: Some(0), name: own, description, ..VersionCreate::default() };
    let wanted = Wanted { name, key, onto: None, version };
    upload::tell(&upload::upload(client, placed, wanted, session).await?, session)
}

/// The hosted product's client says `--source local` for a model whose files come later.
fn is_word(source: &Path) -> bool {
    source == Path::new("local") && !source.exists()
}
