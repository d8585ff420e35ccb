//! `vessl artifact …`.
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use vessl_core::object::{ObjectKind, ObjectName};
use vessl_core::wire::ArtifactView;
use vessl_core::wire::registry::VersionCreate;

use super::objects::{self, Diff, Download, Listing, OfVersion, Target, Upload};
use super::{completion, upload};
use crate::client::{Client, is_missing};
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::{registry, views};
use crate::session::Session;

/// What can be asked about artifacts.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the artifacts of the project, each with its newest version
    #[command(
        after_help = "A run makes one with `export: {/output: vessl-artifact://ORGANIZATION/PROJECT/NAME}`.

Examples:
  vessl artifact list
  vessl artifact list --output json | jq '.[].name'"
    )]
    List,
    /// Show one artifact with all its versions
    #[command(
        after_help = "Examples:\n  vessl artifact read weights\n  vessl artifact read default/default/weights"
    )]
    Read(Name),
    /// Delete an artifact, or one version of it
    #[command(
        after_help = "Without a version all of them are deleted. The files stay with the runs that exported them, and runs that \
were submitted still get what they import. The number of a deleted version is not given again.

Examples:
  vessl artifact delete weights@3
  vessl artifact delete default/default/weights"
    )]
    Delete(Delete),
    /// List the versions of an artifact, the newest first
    #[command(after_help = "Examples:\n  vessl artifact versions weights")]
    Versions(Name),
    /// List the files of an artifact
    #[command(after_help = "Examples:
  vessl artifact list-files weights
  vessl artifact list-files weights -p checkpoints -r --version 2")]
    ListFiles(ListFiles),
    /// Download a file or directory of an artifact
    #[command(after_help = "\
Files land where `cp -r` would put them, see `vessl dataset download --help`.

Examples:
  vessl artifact download weights / weights
  vessl artifact download weights model.pt . --version 2")]
    Download(DownloadArgs),
    /// Upload a file or directory as the next version of an artifact, which is made if it is missing
    #[command(after_help = "\
Files come where `cp -r` would put them, see `vessl dataset upload --help`. The version has these files and no others, like one that a \
run exports.

Examples:
  vessl artifact upload weights checkpoint/. /")]
    Upload(UploadArgs),
    /// Say which files two versions of an artifact do not have in common
    #[command(after_help = "Examples:\n  vessl artifact diff weights 1 2")]
    Diff(DiffArgs),
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

/// What to send.
#[derive(Args, Debug)]
pub(crate) struct UploadArgs {
    #[command(flatten)]
    of: Name,
    #[command(flatten)]
    args: Upload,
}

/// What to compare.
#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    of: Name,
    #[command(flatten)]
    args: Diff,
}

/// Names what is deleted.
#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// Name of the artifact, and which version: `NAME@VERSION`
    #[arg(value_name = "NAME[@VERSION]", value_parser = versioned, add = ArgValueCandidates::new(completion::artifacts))]
    which: (String, Option<u64>),
}

fn versioned(text: &str) -> Result<(String, Option<u64>), String> {
    let Some((name, version)) = text.rsplit_once('@') else { return Ok((text.to_owned(), None)) };
    let number = version.parse().ok().filter(|number| *number > 0);
    let number = number.ok_or("a version is a number from 1 on, see `vessl artifact read NAME`")?;
    Ok((name.to_owned(), Some(number)))
}

/// Names one artifact.
#[derive(Args, Debug)]
pub(crate) struct Name {
    /// Name of the artifact; one of another project is `ORGANIZATION/PROJECT/NAME`
    #[arg(add = ArgValueCandidates::new(completion::artifacts))]
    name: String,
}

const MADE: &str = "a run makes one with `export: {/output: vessl-artifact://ORGANIZATION/PROJECT/NAME}`";

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    match command {
        Command::List => {
            let none = format!("the project has no artifacts; {MADE}");
            session.out.list(&client.artifacts().await?, views::ARTIFACTS, &none)?;
        }
        Command::Read(Name { name }) => {
            session.out.object(&read(&mut client, &name).await?, views::artifact)?;
        }
        Command::Delete(Delete { which: (name, version) }) => {
            client.delete_artifact(&name, version).await?;
            let shown = version.map_or_else(|| name.clone(), |number| format!("{name}@{number}"));
            session
                .out
                .outcome(&serde_json::json!({ "deleted": shown }), &format!("deleted artifact {shown}"))?;
        }
        files => with_files(files, &mut client, session).await?,
    }
    Ok(exit::OK)
}

/// Those that have to do with files.
async fn with_files(command: Command, client: &mut Client, session: &Session) -> Result<()> {
    match command {
        Command::Versions(of) => {
            let name = named(client, &of).await?;
            objects::read(client, &name).await?;
            let versions = client.versions(&name).await?;
            session.out.list(&versions, registry::VERSIONS, "the artifact has no versions")
        }
        Command::ListFiles(ListFiles { of, listing, version }) => {
            let name = named(client, &of).await?;
            objects::list_files(client, (&name, &version.version), &listing, session).await
        }
        Command::Download(DownloadArgs { of, args, version }) => {
            let name = named(client, &of).await?;
            objects::bring(client, (&name, &version.version), &args, session).await
        }
        Command::Upload(UploadArgs { of, args }) => {
            let name = named(client, &of).await?;
            match client.object(&name).await {
                Err(error) if is_missing(&error) => drop(client.create_object(&name, None).await?),
                other => drop(other?),
            }
            let version = VersionCreate { base: Some(0), ..VersionCreate::default() };
            let target = Target { name, from: None, version };
            upload::tell(&objects::send(client, target, &args, session).await?, session)
        }
        Command::Diff(DiffArgs { of, args }) => {
            let name = named(client, &of).await?;
            objects::diff(client, &name, &args, session).await
        }
        Command::List | Command::Read(_) | Command::Delete(_) => Ok(()),
    }
}

async fn named(client: &mut Client, of: &Name) -> Result<ObjectName> {
    client.named(ObjectKind::Artifact, &of.name).await
}

/// One artifact; where there are none at all, the error says how one comes to be.
async fn read(client: &mut Client, name: &str) -> Result<ArtifactView> {
    match client.artifact(name).await {
        Err(Error::Refused { status: 404, mut body }) => {
            if client.artifacts().await.is_ok_and(|all| all.is_empty()) {
                body.hint = Some(MADE.to_owned());
            }
            Err(Error::Refused { status: 404, body })
        }
        other => other,
    }
}
