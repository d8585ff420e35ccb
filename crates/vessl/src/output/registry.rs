//! How datasets, models, versions, storages and their files look as tables. It knows no commands.
use vessl_core::wire::registry::{
    DifferenceKind, FileDifference, ObjectView, StorageView, UploadView, VersionView, VolumeChange,
    VolumeView,
};
use vessl_core::wire::{FileKind, FileView};

use super::format::{bytes, date};
use super::table::{Columns, Rows};
use super::views;

/// Columns of a list of datasets.
pub(crate) const DATASETS: &Columns<ObjectView> = &[
    ("NAME", |o| o.name.clone()),
    ("VERSION", |o| newest(o, |v| v.version.to_string())),
    ("FILES", |o| newest(o, |v| v.files.to_string())),
    ("SIZE", |o| newest(o, |v| bytes(v.bytes))),
    ("UPDATED", |o| newest(o, |v| date(v.created_at))),
    ("DESCRIPTION", |o| o.description.clone().unwrap_or_default()),
];

/// Columns of a list of model repositories.
pub(crate) const REPOSITORIES: &Columns<ObjectView> = &[
    ("NAME", |o| o.name.clone()),
    ("NEWEST", |o| newest(o, |v| v.version.to_string())),
    ("MODEL", |o| newest(o, |v| v.name.clone().unwrap_or_default())),
    ("UPDATED", |o| newest(o, |v| date(v.created_at))),
    ("DESCRIPTION", |o| o.description.clone().unwrap_or_default()),
];

/// Columns of a list of versions.
pub(crate) const VERSIONS: &Columns<VersionView> = &[
    ("VERSION", |v| v.version.to_string()),
    ("FILES", |v| v.files.to_string()),
    ("SIZE", |v| bytes(v.bytes)),
    ("CREATED", |v| date(v.created_at)),
    ("BY", |v| v.created_by.clone().unwrap_or_default()),
    ("RUN", run),
    ("DESCRIPTION", |v| v.description.clone().unwrap_or_default()),
];

/// Columns of a list of models.
pub(crate) const MODELS: &Columns<VersionView> = &[
    ("NUMBER", |v| v.version.to_string()),
    ("NAME", |v| v.name.clone().unwrap_or_default()),
    ("FILES", |v| v.files.to_string()),
    ("SIZE", |v| bytes(v.bytes)),
    ("CREATED", |v| date(v.created_at)),
    ("RUN", run),
];

/// Columns of a list of the files of a version or volume.
pub(crate) const FILES: &Columns<FileView> = &[
    ("PATH", views::path),
    ("SIZE", |f| if f.kind == FileKind::File { bytes(f.size) } else { String::new() }),
    ("MODE", |f| f.mode.clone().unwrap_or_default()),
    ("MODIFIED", |f| f.modified_at.map(date).unwrap_or_default()),
    ("BLAKE3", |f| f.digest.chars().take(16).collect()),
];

/// Columns of what two versions have that is not the same.
pub(crate) const DIFFERENCES: &Columns<FileDifference> = &[
    ("CHANGE", |d| word(d.change).to_owned()),
    ("BEFORE", |d| d.before.map(bytes).unwrap_or_default()),
    ("AFTER", |d| d.after.map(bytes).unwrap_or_default()),
    ("PATH", |d| d.path.clone()),
];

/// Columns of a list of storages.
pub(crate) const STORAGES: &Columns<StorageView> = &[
    ("NAME", |s| s.name.clone()),
    ("TYPE", |s| s.kind.to_string()),
    ("PATH", |s| s.path.clone()),
    ("CREDENTIAL", |s| s.credential_name.clone().unwrap_or_default()),
    ("CREATED", |s| date(s.created_at)),
];

/// Columns of a list of what changed a volume.
pub(crate) const CHANGES: &Columns<VolumeChange> = &[
    ("WHEN", |c| date(c.at)),
    ("WHAT", |c| c.what.word().to_owned()),
    ("PATH", |c| c.path.clone()),
    ("FILES", |c| c.files.map(|files| files.to_string()).unwrap_or_default()),
    ("SIZE", |c| c.bytes.map(bytes).unwrap_or_default()),
    ("BY", |c| c.by.clone().unwrap_or_default()),
    ("RUN", |c| c.run.map(|run| run.0.to_string()).unwrap_or_default()),
];

/// Columns of a list of uploads.
pub(crate) const UPLOADS: &Columns<UploadView> = &[
    ("ID", |u| u.id.clone()),
    ("FOR", |u| u.object.clone().unwrap_or_default()),
    ("CAME", |u| bytes(u.bytes)),
    ("BY", |u| u.created_by.clone().unwrap_or_default()),
    ("SINCE", |u| date(u.created_at)),
    ("ENDS", |u| date(u.expires_at)),
];

/// Columns of a list of volumes.
pub(crate) const VOLUMES: &Columns<VolumeView> = &[
    ("NAME", |v| v.name.clone()),
    ("ADDRESS", |v| v.address.clone()),
    ("TAGS", |v| v.tags.join(", ")),
    ("CREATED", |v| date(v.created_at)),
];

fn word(change: DifferenceKind) -> &'static str {
    match change {
        DifferenceKind::Added => "added",
        DifferenceKind::Removed => "removed",
        DifferenceKind::Changed => "changed",
    }
}

fn newest(object: &ObjectView, shown: impl FnOnce(&VersionView) -> String) -> String {
    object.newest.as_ref().map(shown).unwrap_or_default()
}

fn run(version: &VersionView) -> String {
    version.run.map(|id| id.0.to_string()).unwrap_or_default()
}

/// A dataset or a model repository.
pub(crate) fn object(object: &ObjectView) -> Rows {
    let aliases = object.aliases.iter().map(|(alias, number)| format!("{alias} = {number}"));
    vec![
        ("Name", object.name.clone()),
        ("Address", object.address.clone()),
        ("Description", object.description.clone().unwrap_or_default()),
        ("Tags", object.tags.join(", ")),
        ("Metadata", pairs(&object.metadata)),
        ("Newest", newest(object, line)),
        ("Aliases", aliases.collect::<Vec<_>>().join("\n")),
        ("Created", date(object.created_at)),
        ("By", object.created_by.clone().unwrap_or_default()),
    ]
}

/// A version of a dataset or artifact, or a model.
pub(crate) fn version(version: &VersionView) -> Rows {
    vec![
        ("Number", version.version.to_string()),
        ("Name", version.name.clone().unwrap_or_default()),
        ("Description", version.description.clone().unwrap_or_default()),
        ("Tags", version.tags.join(", ")),
        ("Metadata", pairs(&version.metadata)),
        ("Files", version.files.to_string()),
        ("Size", bytes(version.bytes)),
        ("Manifest", version.manifest.clone()),
        ("Created", date(version.created_at)),
        ("By", version.created_by.clone().unwrap_or_default()),
        ("Run", run(version)),
    ]
}

/// A storage.
pub(crate) fn storage(storage: &StorageView) -> Rows {
    vec![
        ("Name", storage.name.clone()),
        ("Type", storage.kind.to_string()),
        ("Path", storage.path.clone()),
        ("Endpoint", storage.endpoint.clone().unwrap_or_default()),
        ("Region", storage.region.clone().unwrap_or_default()),
        ("Credential", storage.credential_name.clone().unwrap_or_default()),
        ("Created", date(storage.created_at)),
    ]
}

/// A volume.
pub(crate) fn volume(volume: &VolumeView) -> Rows {
    VOLUMES.iter().map(|(name, value)| (*name, value(volume))).collect()
}

/// A version in one line.
fn line(version: &VersionView) -> String {
    let files = if version.files == 1 { "file" } else { "files" };
    format!(
        "{}, {} {files}, {}, {}",
        version.version,
        version.files,
        bytes(version.bytes),
        date(version.created_at)
    )
}

fn pairs(metadata: &std::collections::BTreeMap<String, String>) -> String {
    metadata.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join("\n")
}
