//! Datasets, model repositories and artifacts: what can be asked of a server about them, one function each.
use hyper::body::Incoming;
use vessl_core::ids::{ProjectName, RunId};
use vessl_core::object::{ObjectKind, ObjectName, VolumeRef};
use vessl_core::wire::FileView;
use vessl_core::wire::registry::{FileDifference, ObjectCreate, ObjectView, VersionCreate, VersionView};

use super::http::ApiRequest;
use super::path::Path;
use super::{Client, Method, header};
use crate::error::{Error, Result};

/// Where files are that can be downloaded.
#[derive(Clone, Debug)]
pub(crate) enum FileSource {
    /// A run exported them.
    Run(RunId),
    /// They are a version of something.
    Version(ObjectName, u64),
    /// They lie in a volume, where they may change at any moment.
    Volume(VolumeRef),
}

impl Client {
    /// The full name of something, from its own name, from `ORGANIZATION/NAME` (of an artifact `ORGANIZATION/PROJECT/NAME`), or
    /// from the address that a run file uses.
    pub(crate) async fn named(&mut self, kind: ObjectKind, text: &str) -> Result<ObjectName> {
        let text = match text.split_once("://") {
            Some((scheme, rest)) if scheme == scheme_of(kind) => rest,
            _ => text,
        };
        let parts: Vec<&str> = text.split('/').collect();
        match (kind, parts.as_slice()) {
            (ObjectKind::Artifact, [organization, project, name]) => Ok(ObjectName {
                kind,
                organization: (*organization).into(),
                project: Some((*project).into()),
                name: (*name).to_owned(),
            }),
            (ObjectKind::Dataset | ObjectKind::ModelRepository, [organization, name]) => Ok(ObjectName {
                kind,
                organization: (*organization).into(),
                project: None,
                name: (*name).to_owned(),
            }),
            _ => {
                let organization = self.organization().await?.into();
                let project = match kind {
                    ObjectKind::Artifact => self.scope.project.clone().map(Into::into),
                    ObjectKind::Dataset | ObjectKind::ModelRepository => None,
                };
                Ok(ObjectName { kind, organization, project, name: text.to_owned() })
            }
        }
    }

    /// The organization that is settled, or the server's default; then the project is known, too.
    pub(crate) async fn organization(&mut self) -> Result<String> {
        self.settle().await?;
        Ok(self.scope.organization.clone().unwrap_or_default())
    }

    /// All of a kind.
    pub(crate) async fn objects(&mut self, kind: ObjectKind) -> Result<Vec<ObjectView>> {
        let any = self.named(kind, "").await?;
        let path = Path::of(&["organizations", any.organization.as_str(), "objects", kind.word()]);
        self.get(path.with("project", any.project.as_ref().map(ProjectName::as_str)).into()).await
    }

    /// Makes one.
    pub(crate) async fn create_object(
        &mut self,
        name: &ObjectName,
        description: Option<&str>,
    ) -> Result<ObjectView> {
        let path = Path::of(&["organizations", name.organization.as_str(), "objects", name.kind.word()]);
        let request = ObjectCreate {
            name: name.name.clone(),
            project: name.project.as_ref().map(|project| project.as_str().to_owned()),
            description: description.map(str::to_owned),
            ..ObjectCreate::default()
        };
        self.post(path.into(), &request).await
    }

    /// One of them.
    pub(crate) async fn object(&mut self, name: &ObjectName) -> Result<ObjectView> {
        self.get(of(name, &[]).into()).await
    }

    /// Removes one with all of its versions.
    pub(crate) async fn delete_object(&mut self, name: &ObjectName) -> Result<()> {
        self.delete(of(name, &[]).into()).await
    }

    /// Versions, newest first.
    pub(crate) async fn versions(&mut self, name: &ObjectName) -> Result<Vec<VersionView>> {
        self.get(of(name, &["versions"]).into()).await
    }

    /// One version: by number, by another name that it goes by, or the newest as `latest`.
    pub(crate) async fn version(&mut self, name: &ObjectName, version: &str) -> Result<VersionView> {
        self.get(of(name, &["versions", version]).into()).await
    }

    /// Makes a version. What has an upload is made once, however often it is asked for.
    pub(crate) async fn create_version(
        &mut self,
        name: &ObjectName,
        request: &VersionCreate,
    ) -> Result<VersionView> {
        self.post(of(name, &["versions"]).into(), request).await
    }

    /// Removes one version.
    pub(crate) async fn delete_version(&mut self, name: &ObjectName, version: u64) -> Result<()> {
        self.delete(of(name, &["versions", &version.to_string()]).into()).await
    }

    /// What is in a directory of a version, or the one file of that path; with `recursive` everything below it.
    pub(crate) async fn version_files(
        &mut self,
        name: &ObjectName,
        version: u64,
        listed: Listed<'_>,
    ) -> Result<Vec<FileView>> {
        let path = of(name, &["versions", &version.to_string(), "files"]);
        self.get(listed.of(path).into()).await
    }

    /// The same of any source; of a run everything, whatever is asked.
    pub(crate) async fn files_of(
        &mut self,
        source: &FileSource,
        listed: Listed<'_>,
    ) -> Result<Vec<FileView>> {
        match source {
            FileSource::Run(id) => self.files_and_directories(*id).await,
            FileSource::Version(name, number) => self.version_files(name, *number, listed).await,
            FileSource::Volume(volume) => self.volume_files(volume, listed).await,
        }
    }

    /// What two versions have that is not the same.
    pub(crate) async fn diff(
        &mut self,
        name: &ObjectName,
        (from, to): (&str, &str),
    ) -> Result<Vec<FileDifference>> {
        self.get(of(name, &["diff"]).with("from", Some(from)).with("to", Some(to)).into()).await
    }

    /// Bytes of a file from `begin` on, in its packed form if it has one. The server may begin at 0 instead; where it begins stands
    /// before the body.
    pub(crate) async fn content(
        &mut self,
        of_what: &FileSource,
        file: &FileView,
        begin: u64,
    ) -> Result<(u64, Incoming)> {
        let path = match of_what {
            FileSource::Run(id) => {
                self.of_run(*id, &["files", "content"]).await?.with("export", Some(&file.export))
            }
            FileSource::Version(name, number) => {
                of(name, &["versions", &number.to_string(), "files", "content"])
            }
            FileSource::Volume(volume) => super::storages::of(volume, &["files", "content"]),
        };
        let packed = file.packed_size.map(|_| true);
        let path = path.with("path", Some(&file.path)).with("packed", packed).into();
        let mut headers = Vec::new();
        if begin > 0 {
            headers.push((header::RANGE, format!("bytes={begin}-")));
        }
        let answer = self.begin(&ApiRequest { method: Method::GET, path, body: None, headers }).await?;
        let from = if answer.status() == ::http::StatusCode::PARTIAL_CONTENT { begin } else { 0 };
        Ok((from, answer.into_body()))
    }
}

/// Which files are listed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Listed<'a> {
    /// A directory or a file; empty for the topmost directory.
    pub(crate) path: &'a str,
    /// Whether also what is in the directories that are in it.
    pub(crate) recursive: bool,
}

impl<'a> Listed<'a> {
    /// What is in one directory.
    pub(crate) fn in_dir(path: &'a str) -> Self {
        Self { path, recursive: false }
    }

    /// Everything below a directory.
    pub(crate) fn below(path: &'a str) -> Self {
        Self { path, recursive: true }
    }

    /// As the query of a path.
    pub(super) fn of(self, path: Path) -> Path {
        let path = path.with("path", Some(self.path).filter(|path| !path.is_empty()));
        path.with("recursive", self.recursive.then_some(true))
    }
}

/// Whether an error says that something is not there.
pub(crate) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Refused { status: 404, .. })
}

fn of(name: &ObjectName, rest: &[&str]) -> Path {
    let mut segments =
        vec!["organizations", name.organization.as_str(), "objects", name.kind.word(), name.name.as_str()];
    segments.extend(rest);
    Path::of(&segments).with("project", name.project.as_ref().map(ProjectName::as_str))
}

fn scheme_of(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Artifact => "vessl-artifact",
        ObjectKind::Dataset => "vessl-dataset",
        ObjectKind::ModelRepository => "vessl-model",
    }
}
