//! `vessl storage …`.
mod copy;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use vessl_core::object::{BUILT_IN_STORAGE, StorageKind, VolumeRef};
use vessl_core::wire::registry::{StorageCreate, VolumeCreate};

use super::objects::{deleted, tree_path, with_hint};
use super::{completion, upload};
use crate::client::{Client, Listed};
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::{clean, registry};
use crate::session::Session;

/// What can be done with storages and volumes.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Name a place where volumes lie: a directory of the machine, an NFS export or a bucket
    #[command(after_help = "\
The storage `vessl-storage` is there without being made. A directory must lie below `hostpath_roots` of the server's settings.

Examples:
  vessl storage create fast --storage-type host-path --path /srv/vessl/volumes
  vessl storage create team --storage-type nfs --path nas.example.org:/export
  vessl storage create minio --storage-type s3 --path s3://bucket/volumes \\
    --endpoint http://minio.example.org:9000 --credential-name team-s3
  vessl storage create google --storage-type gcs --path gs://bucket/volumes \\
    --credential-name team-gcs")]
    Create(Create),
    /// List the storages of the organization
    #[command(after_help = "Examples:\n  vessl storage list")]
    List(Limit),
    /// Forget a storage that has no volumes
    #[command(after_help = "What lies there stays.\n\nExamples:\n  vessl storage delete fast")]
    Delete(Name),
    /// Make a volume of a storage
    #[command(after_help = "A run reads and writes it with `mount: {/data: volume://STORAGE/VOLUME}`.

Examples:
  vessl storage create-volume scratch --storage-name vessl-storage")]
    CreateVolume(CreateVolume),
    /// List the volumes of a storage
    #[command(after_help = "Examples:
  vessl storage list-volumes --storage-name vessl-storage
  vessl storage list-volumes --storage-name vessl-storage --keyword scratch")]
    ListVolumes(ListVolumes),
    /// Say who changed a volume when: exports of runs, copies and deletes, the newest first
    #[command(after_help = "\
What a run writes to a mounted volume is not noticed, and of the files only the newest are kept: what needs versions is a dataset.

With a path, what may have changed something there is listed. Files that one command copied are one line.

Examples:
  vessl storage volume-history volume://vessl-storage/scratch
  vessl storage volume-history volume://vessl-storage/scratch/logs --limit 5")]
    VolumeHistory(History),
    /// Delete a volume; in `vessl-storage` with everything in it, elsewhere its files stay
    #[command(after_help = "Refused while a run that has not ended uses it.

Examples:
  vessl storage delete-volume scratch --storage-name vessl-storage")]
    DeleteVolume(DeleteVolume),
    /// List the files of a volume, or of a directory in it
    #[command(after_help = "Examples:
  vessl storage list-files volume://vessl-storage/scratch
  vessl storage list-files volume://vessl-storage/scratch/logs -r")]
    ListFiles(ListFiles),
    /// Copy files into a volume, out of it, or from one to another
    #[command(after_help = "\
One of the two, or both, are `volume://STORAGE/VOLUME[/PATH]`. Of a directory, what is in it comes into DEST; a file comes into a \
directory, or gets the name DEST. Files that are there are replaced, each at once; others stay. A volume has no versions: a file that \
somebody writes to meanwhile may come as a mixture out of it, and files of a copy appear one after the other.

Files named `.vesslignore` leave things out on the way into a volume, as with `vessl dataset upload`. Links and empty directories \
do not go into a volume from here; between two volumes links that stay inside are copied, and the others are named and left out.

The volume may lie in a bucket: the server asks it with the credential of its storage, and keeps on its own disk what comes until all of \
it is there. Of an NFS export the server copies nothing; runs do.

Examples:
  vessl storage copy-file data volume://vessl-storage/scratch/data
  vessl storage copy-file volume://vessl-storage/scratch/data data
  vessl storage copy-file volume://vessl-storage/scratch volume://fast/copy
  vessl storage copy-file volume://minio/results volume://vessl-storage/scratch")]
    CopyFile(CopyFile),
    /// Delete a file of a volume, or a directory with everything in it
    #[command(after_help = "Examples:
  vessl storage delete-file volume://vessl-storage/scratch/a.bin
  vessl storage delete-file -r volume://vessl-storage/scratch/logs")]
    DeleteFile(DeleteFile),
}

/// What to name.
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// Name of the storage; letters, digits, `-`, `_` and `.`
    name: String,
    /// What it is made of
    #[arg(long, value_name = "TYPE", value_parser = kinds())]
    storage_type: StorageKind,
    /// A directory, `server:/path`, `s3://bucket/prefix` or `gs://bucket/prefix`
    #[arg(long)]
    path: String,
    /// Stored credential for a bucket, see `vessl credential`
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(completion::credentials))]
    credential_name: Option<String>,
    /// Address of a store with the S3 API, or of one like Google's
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Region of an S3 bucket
    #[arg(long)]
    region: Option<String>,
}

fn kinds() -> impl TypedValueParser<Value = StorageKind> {
    PossibleValuesParser::new(["host-path", "nfs", "s3", "gcs"])
        .try_map(|word| StorageKind::of_word(&word).ok_or("it is no type of a storage"))
}

/// How many.
#[derive(Args, Debug)]
pub(crate) struct Limit {
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
}

/// Names one storage.
#[derive(Args, Debug)]
pub(crate) struct Name {
    /// Name of the storage
    #[arg(add = ArgValueCandidates::new(completion::storages))]
    name: String,
}

/// Names the storage that volumes are of.
#[derive(Args, Debug)]
pub(crate) struct OfStorage {
    /// Name of the storage
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(completion::storages))]
    storage_name: String,
}

/// What to make.
#[derive(Args, Debug)]
pub(crate) struct CreateVolume {
    /// Name of the volume; letters, digits, `-`, `_` and `.`
    name: String,
    #[command(flatten)]
    of: OfStorage,
    /// A word to find it by; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
}

/// Which volumes.
#[derive(Args, Debug)]
pub(crate) struct ListVolumes {
    #[command(flatten)]
    of: OfStorage,
    /// Only those with this in their names
    #[arg(long, value_name = "WORD")]
    keyword: Option<String>,
    #[command(flatten)]
    limit: Limit,
}

/// Names one volume.
#[derive(Args, Debug)]
pub(crate) struct DeleteVolume {
    /// Name of the volume
    name: String,
    #[command(flatten)]
    of: OfStorage,
}

/// Names a place in a volume.
#[derive(Args, Debug)]
pub(crate) struct Place {
    /// `volume://STORAGE/VOLUME[/PATH]`
    path: String,
}

/// Which changes.
#[derive(Args, Debug)]
pub(crate) struct History {
    #[command(flatten)]
    of: Place,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
}

/// Which files.
#[derive(Args, Debug)]
pub(crate) struct ListFiles {
    #[command(flatten)]
    of: Place,
    /// Also what is in the directories that are in it
    #[arg(short, long)]
    recursive: bool,
}

/// From where to where.
#[derive(Args, Debug)]
pub(crate) struct CopyFile {
    /// File or directory of this machine, or `volume://STORAGE/VOLUME[/PATH]`
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    source: String,
    /// The same
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    dest: String,
}

/// What to delete.
#[derive(Args, Debug)]
pub(crate) struct DeleteFile {
    #[command(flatten)]
    of: Place,
    /// A directory with everything in it
    #[arg(short, long)]
    recursive: bool,
}

/// A place in a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
struct InVolume {
    storage: String,
    volume: String,
    /// Spelled as in a list of files; empty is the topmost directory.
    path: String,
    /// Whether it was written as a directory.
    means_dir: bool,
}

const SCHEME: &str = "volume://";

impl InVolume {
    /// Reads `volume://STORAGE/VOLUME[/PATH]`.
    fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::Usage {
            message: format!("`{}` names no place in a volume", clean(text)),
            hint: "write `volume://STORAGE/VOLUME` or `volume://STORAGE/VOLUME/PATH`".to_owned(),
        };
        let rest = text.strip_prefix(SCHEME).ok_or_else(wrong)?;
        let (storage, rest) = rest.split_once('/').ok_or_else(wrong)?;
        let (volume, path) = rest.split_once('/').unwrap_or((rest, ""));
        if storage.is_empty() || volume.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            storage: storage.to_owned(),
            volume: volume.to_owned(),
            path: upload::spelled(&tree_path(path)?),
            means_dir: path.ends_with('/') || path.is_empty(),
        })
    }

    async fn volume(&self, client: &mut Client) -> Result<VolumeRef> {
        let organization = client.organization().await?.into();
        let (storage, volume) = (self.storage.as_str().into(), self.volume.as_str().into());
        Ok(VolumeRef { organization, storage, volume })
    }
}

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    let client = &mut client;
    match command {
        Command::Create(args) => {
            let made = client.create_storage(&storage(args)).await?;
            session.out.object(&made, registry::storage)?;
        }
        Command::List(Limit { limit }) => {
            let mut all = client.storages().await?;
            all.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
            session.out.list(&all, registry::STORAGES, "there are no storages")?;
        }
        Command::Delete(Name { name }) => {
            client.delete_storage(&name).await?;
            deleted("the storage", &name, session)?;
        }
        Command::CreateVolume(CreateVolume { name, of, tags }) => {
            let made = client.create_volume(&of.storage_name, &VolumeCreate { name, tags }).await?;
            session.out.object(&made, registry::volume)?;
        }
        Command::ListVolumes(ListVolumes { of, keyword, limit }) => {
            let found = client.volumes(&of.storage_name, keyword.as_deref(), limit.limit).await?;
            session.out.list(&found, registry::VOLUMES, "there are no such volumes")?;
        }
        Command::VolumeHistory(History { of, limit }) => {
            let at = InVolume::parse(&of.path)?;
            let volume = at.volume(client).await?;
            let more = limit.saturating_add(1);
            let mut changes = client.volume_changes(&volume, (&at.path, more)).await?;
            let is_cut = changes.len() > limit as usize;
            changes.truncate(limit as usize);
            session.out.list(&changes, registry::CHANGES, "nothing is known to have changed it")?;
            if is_cut {
                session
                    .out
                    .note(&format!("there are more: these are the newest {limit}, `--limit` says how many"));
            }
        }
        Command::DeleteVolume(DeleteVolume { name, of }) => {
            client.delete_volume(&of.storage_name, &name).await?;
            let what = if of.storage_name == BUILT_IN_STORAGE {
                "the volume with its files:"
            } else {
                "the volume, but not its files, which stay where they are:"
            };
            deleted(what, &name, session)?;
        }
        Command::ListFiles(ListFiles { of, recursive }) => {
            let at = InVolume::parse(&of.path)?;
            let volume = at.volume(client).await?;
            let files = client.volume_files(&volume, Listed { path: &at.path, recursive }).await;
            let mut files = files.map_err(|error| {
                let hint = format!("`vessl storage list-volumes --storage-name {}`", at.storage);
                with_hint(error, || hint)
            })?;
            files.retain(|file| file.path != ".");
            session.out.list(&files, registry::FILES, "there are no files")?;
        }
        Command::CopyFile(CopyFile { source, dest }) => copy::copy(client, &source, &dest, session).await?,
        Command::DeleteFile(DeleteFile { of, recursive }) => {
            let at = InVolume::parse(&of.path)?;
            let volume = at.volume(client).await?;
            let gone = client.delete_volume_file(&volume, Listed { path: &at.path, recursive }).await;
            gone.map_err(|error| match error {
                Error::Refused { status: 409, mut body } if !recursive => {
                    body.hint = Some("`-r` deletes a directory with everything in it".to_owned());
                    Error::Refused { status: 409, body }
                }
                other => other,
            })?;
            deleted("the file", &of.path, session)?;
        }
    }
    Ok(exit::OK)
}

/// The storage that is wanted. The hosted product's client writes buckets without their scheme.
fn storage(args: Create) -> StorageCreate {
    let Create { name, storage_type: kind, path, credential_name, endpoint, region } = args;
    let scheme = match kind {
        StorageKind::S3 => "s3://",
        StorageKind::Gcs => "gs://",
        StorageKind::BuiltIn | StorageKind::HostPath | StorageKind::Nfs => "",
    };
    let path = if path.starts_with(scheme) { path } else { format!("{scheme}{path}") };
    StorageCreate { name, kind, path, endpoint, region, credential_name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_volumes() {
        let check = |text: &str, expected: Option<(&str, &str, &str, bool)>| {
            let place = InVolume::parse(text).ok();
            let parts = place.as_ref().map(|place| {
                (place.storage.as_str(), place.volume.as_str(), place.path.as_str(), place.means_dir)
            });
            assert_eq!(parts, expected, "{text}");
        };
        check("volume://s/v", Some(("s", "v", "", true)));
        check("volume://s/v/", Some(("s", "v", "", true)));
        check("volume://s/v/a//b", Some(("s", "v", "a/b", false)));
        check("volume://s/v/a/", Some(("s", "v", "a", true)));
        for wrong in ["s/v", "volume://s", "volume:///v", "volume://s/", "volume://s/v/../x", "s3://b/k"] {
            check(wrong, None);
        }
    }
}
