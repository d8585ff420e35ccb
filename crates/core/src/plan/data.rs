//! What comes in and goes out: the image, imports, mounts and exports, with every name resolved. It moves nothing and opens
//! no path.
use std::collections::{BTreeMap, BTreeSet};

use super::report::{Code, Report, candidates, typed};
use super::stores::{self, dataset_name, repository_name};
use super::{
    Catalogue, Cluster, ExportPlan, ExportTarget, GitParts, ImagePlan, ImportPlan, ImportSource, MountFrom,
    MountPlan, Needs,
};
use crate::credential::{CredentialKind, CredentialRef};
use crate::file_url;
use crate::ids::{ArtifactName, CredentialName, RunId};
use crate::spec::{ArtifactRef, Export, Git, Hostpath, Image, Import, MountSource, Spec};
use crate::spelling;

/// Paths of the machine that a run file names as sources: of `hostpath` mounts, of git repositories, of its image. They are written
/// as [`spelling`] does.
pub fn machine_paths(spec: &Spec) -> BTreeSet<String> {
    let mounts = spec.mount.values().filter_map(|mount| match &mount.source {
        MountSource::Hostpath(host) => Some(host.path.clone()),
        _ => None,
    });
    let repositories = spec.import.values().filter_map(|import| match import {
        Import::Git(git) => repository_path(&git.url),
        _ => None,
    });
    let image = spec.image.url.strip_prefix("oci://").map(|rest| layout_parts(rest).0.to_owned());
    mounts.chain(repositories).chain(image).collect()
}

/// The path of a repository on the machine.
fn repository_path(url: &str) -> Option<String> {
    url.strip_prefix("file://").map(|path| spelling::spell(&file_url::path(path)))
}

/// Path and tag of an image that is a layout or an archive.
fn layout_parts(rest: &str) -> (&str, Option<&str>) {
    match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    }
}

/// Reads the data sections of one run file.
pub(super) struct Reader<'a> {
    pub(super) catalogue: &'a Catalogue,
    /// The run that is planned.
    pub(super) run: RunId,
    /// `None` when the cluster is unknown: what depends on it is not checked.
    pub(super) cluster: Option<&'a Cluster>,
    pub(super) report: &'a mut Report,
    pub(super) needs: Needs,
}

impl Reader<'_> {
    /// `None` after an error.
    pub(super) fn image(&mut self, image: &Image) -> Option<ImagePlan> {
        let credential = image.credential_name.as_deref();
        if let Some(rest) = image.url.strip_prefix("host://") {
            self.without_credential(credential, "the machine's own file system");
            return self.host_image(rest);
        }
        if let Some(rest) = image.url.strip_prefix("oci://") {
            self.without_credential(credential, "an image on the machine");
            return self.layout(rest);
        }
        let credential = match credential {
            Some(name) => Some(self.credential(name, CredentialKind::Registry, "image.credential_name")?),
            None => None,
        };
        Some(ImagePlan::Registry { reference: image.url.clone(), credential })
    }

    fn host_image(&mut self, rest: &str) -> Option<ImagePlan> {
        if !rest.trim_matches('/').is_empty() {
            let message = format!("`host://` is the whole machine and takes nothing behind it, not `{rest}`");
            self.report.error(Code::NotAllowed, "image", message).hint("write `image: host://`");
            return None;
        }
        match self.cluster {
            Some(cluster) if !cluster.local => self.local_only("image", "`host://`"),
            Some(cluster) if !cluster.allow_host_image => {
                self.report
                    .error(Code::NotAllowed, "image", "the machine's own file system (`host://`) is not allowed as an image here")
                    .hint("use an image of a registry, or set `allow_host_image = true` in the server's configuration");
                None
            }
            _ => Some(ImagePlan::Host),
        }
    }

    fn layout(&mut self, rest: &str) -> Option<ImagePlan> {
        if self.cluster.is_some_and(|cluster| !cluster.local) {
            return self.local_only("image", "`oci://`");
        }
        let (path, tag) = layout_parts(rest);
        self.is_fenced_in(path, "image")?;
        self.is_there(path, "image")?;
        Some(ImagePlan::Layout { path: path.to_owned(), tag: tag.map(str::to_owned) })
    }

    /// Where the sources of the machine must lie; `None` where the run may see all of it anyway.
    pub(super) fn fence(&self) -> Option<Vec<String>> {
        self.cluster
            .filter(|cluster| !cluster.allow_host_image)
            .map(|cluster| outermost(&cluster.hostpath_roots))
    }

    /// Refuses a source of the machine that lies outside of the fence, by its text, before anything is said of what is there; the
    /// agent checks again what the links of the path lead to.
    fn is_fenced_in(&mut self, path: &str, at: &str) -> Option<()> {
        let Some(roots) = self.fence() else { return Some(()) };
        if roots.iter().any(|root| below(path, root)) {
            return Some(());
        }
        let message = format!("the path `{path}` of the machine may not be used");
        let settings = self.cluster.and_then(|cluster| cluster.settings.as_deref());
        let hint = roots_hint(path, "used", &roots, settings);
        self.report.error(Code::NotAllowed, at, message).hint(hint);
        None
    }

    /// Refuses a path that the machine does not have.
    fn is_there(&mut self, path: &str, at: &str) -> Option<()> {
        if self.cluster.is_some_and(|cluster| cluster.local) && self.catalogue.missing.contains(path) {
            let message = format!("the machine has no `{path}`");
            self.report
                .error(Code::UnknownPath, at, message)
                .hint("correct the path, or make what should be there");
            return None;
        }
        Some(())
    }

    fn without_credential(&mut self, credential: Option<&str>, what: &str) {
        if credential.is_some() {
            let message = format!("the credential is not used: {what} needs none");
            self.report.warn(Code::NoEffect, "image.credential_name", message);
        }
    }

    pub(super) fn imports(&mut self, spec: &Spec) -> Vec<ImportPlan> {
        let mut plans = Vec::new();
        for (path, import) in &spec.import {
            let at = format!("import.{}", path.as_str());
            let source = match import {
                Import::Git(git) => self.git(git, &at),
                Import::Artifact(artifact) => self.artifact(artifact, &at),
                Import::Dataset(dataset) => self.dataset(dataset, &at),
                Import::Model(model) => self.model(model, &at),
                Import::S3(s3) => self.s3(s3, &at).map(ImportSource::Bucket),
                Import::Gs(gs) => self.gs(gs, &at).map(ImportSource::Bucket),
                Import::Hf(hf) => self.hf(hf, &at),
                Import::Volume(volume) => self.imported_volume(volume, &at),
                Import::Injected => self.unsupported(&at, "importing what a pipeline hands over"),
            };
            plans.extend(source.map(|source| ImportPlan::new(path.as_str(), source)));
        }
        plans
    }

    fn git(&mut self, git: &Git, at: &str) -> Option<ImportSource> {
        if git.url.starts_with("file://") && self.cluster.is_some_and(|cluster| !cluster.local) {
            return self.local_only(at, &format!("`{}`", git.url));
        }
        if let Some(path) = repository_path(&git.url) {
            self.is_fenced_in(&path, at)?;
            self.is_there(&path, at)?;
        }
        let credential = match &git.credential_name {
            Some(name) => {
                Some(self.credential(name, CredentialKind::Git, &format!("{at}.git.credential_name"))?)
            }
            None => None,
        };
        let (url, reference) = (git.url.clone(), git.reference.clone());
        let parts = GitParts { submodules: git.submodules, lfs: git.lfs };
        Some(ImportSource::Git { url, reference, credential, parts })
    }

    fn artifact(&mut self, artifact: &ArtifactRef, at: &str) -> Option<ImportSource> {
        let name = self.full_name(artifact);
        self.newest(&name.into(), at).map(|(label, manifest)| ImportSource::Tree { label, manifest })
    }

    pub(super) fn mounts(&mut self, spec: &Spec) -> Vec<MountPlan> {
        let mut plans = Vec::new();
        for (path, mount) in &spec.mount {
            let at = format!("mount.{}", path.as_str());
            let source = match &mount.source {
                MountSource::Hostpath(host) => self.hostpath(host, &at),
                MountSource::Dataset(dataset) => self.mounted_dataset(dataset, &at),
                MountSource::Nfs(nfs) => Some(stores::nfs(nfs)),
                MountSource::Volume(volume) => self.mounted_volume(volume, &at),
            };
            let readonly = mount.readonly;
            plans.extend(source.map(|source| MountPlan { path: path.as_str().to_owned(), source, readonly }));
        }
        plans
    }

    /// Looks at the text and what the catalogue says of it; the agent checks again what the links of the path lead to.
    fn hostpath(&mut self, host: &Hostpath, at: &str) -> Option<MountFrom> {
        let roots = self.allowed_roots(&host.path, at)?;
        self.is_there(&host.path, at)?;
        Some(MountFrom::Hostpath { path: host.path.clone(), roots })
    }

    /// The roots below which paths of the machine may be used, if this one is by its text.
    pub(super) fn allowed_roots(&mut self, path: &str, at: &str) -> Option<Vec<String>> {
        let roots = self.cluster.map(|cluster| outermost(&cluster.hostpath_roots)).unwrap_or_default();
        if self.cluster.is_some() && !roots.iter().any(|root| below(path, root)) {
            let message = format!("the path `{path}` of the machine may not be mounted");
            let settings = self.cluster.and_then(|cluster| cluster.settings.as_deref());
            let hint = roots_hint(path, "mounted", &roots, settings);
            self.report.error(Code::NotAllowed, at, message).hint(hint);
            return None;
        }
        Some(roots)
    }

    pub(super) fn exports(&mut self, spec: &Spec) -> Vec<ExportPlan> {
        let mut plans = Vec::new();
        let mut targets: BTreeMap<String, &str> = BTreeMap::new();
        for (path, export) in &spec.export {
            let at = format!("export.{}", path.as_str());
            if let Some(label) = stores::target_label(export, &self.catalogue.project)
                && let Some(other) = targets.insert(label.clone(), path.as_str())
            {
                let message = format!("`{other}` is exported to `{label}` as well");
                self.report.error(Code::SameTarget, &at, message).hint("give each path its own target");
            }
            let target = self.target_of(export, &at);
            plans.extend(target.map(|target| ExportPlan { path: path.as_str().to_owned(), target }));
        }
        plans
    }

    fn target_of(&mut self, export: &Export, at: &str) -> Option<ExportTarget> {
        let object = match export {
            Export::Output => return Some(ExportTarget::Output),
            Export::Artifact(artifact) => return self.target(artifact, at),
            Export::S3(s3) => return self.s3(s3, at).map(ExportTarget::Bucket),
            Export::Gs(gs) => return self.gs(gs, at).map(ExportTarget::Bucket),
            Export::Volume(volume) => return self.exported_volume(volume, at),
            Export::Dataset(dataset) => dataset_name(dataset),
            Export::Model(model) => repository_name(model),
        };
        self.known(&object, at)?;
        Some(ExportTarget::Object { name: object })
    }

    fn target(&mut self, artifact: &ArtifactRef, at: &str) -> Option<ExportTarget> {
        let name = self.full_name(artifact);
        let project = name.project();
        let own = &self.catalogue.project;
        if project != *own && !self.catalogue.projects.contains(&project) {
            let others = self.catalogue.projects.iter().filter(|other| *other != own);
            let names: Vec<String> = std::iter::once(own).chain(others).map(ToString::to_string).collect();
            self.report
                .error(Code::UnknownProject, at, format!("there is no project `{project}` to write to"))
                .candidates(&project.to_string(), "project", names.iter().map(String::as_str));
            return None;
        }
        Some(ExportTarget::Artifact(name))
    }

    /// An artifact with what the file leaves out: the submitter's organization and project.
    fn full_name(&self, artifact: &ArtifactRef) -> ArtifactName {
        artifact.of(&self.catalogue.project)
    }

    /// Checks that a credential is stored and of the right kind, and notes that it is needed.
    pub(super) fn credential(
        &mut self,
        name: &str,
        kind: CredentialKind,
        at: &str,
    ) -> Option<CredentialName> {
        match self.catalogue.credentials.get(name) {
            Some(stored) if *stored == kind => {
                let name = CredentialName::from(name);
                self.needs.credentials.insert(CredentialRef { kind, name: name.clone() });
                return Some(name);
            }
            Some(stored) => {
                let message = format!(
                    "credential `{name}` is a {stored} credential; a {kind} credential is needed here"
                );
                self.report
                    .error(Code::WrongCredential, at, message)
                    .hint(format!("store one under another name: `{}`", create(kind, "NAME")));
            }
            None => {
                let of_kind = self.catalogue.credentials.iter().filter(|(_, stored)| **stored == kind);
                let names: Vec<&str> = of_kind.map(|(name, _)| name.as_str()).collect();
                let store = create(kind, typed(name));
                let added = self.report.error(
                    Code::UnknownCredential,
                    at,
                    format!("there is no credential `{name}`"),
                );
                added.hint(if names.is_empty() {
                    format!("store it: `{store}`")
                } else {
                    format!("{}; or store it: `{store}`", candidates(name, "credential", &names))
                });
            }
        }
        None
    }

    fn unsupported<T>(&mut self, at: &str, what: &str) -> Option<T> {
        self.report
            .error(Code::Unsupported, at, format!("{what} is not possible in this version"))
            .hint("remove it: this version runs no pipelines");
        None
    }

    fn local_only<T>(&mut self, at: &str, what: &str) -> Option<T> {
        self.report
            .error(
                Code::LocalOnly,
                at,
                format!("{what} is a path of the server's machine and means nothing on this cluster"),
            )
            .hint("use it on the cluster `local`");
        None
    }
}

/// The command that stores a credential.
fn create(kind: CredentialKind, name: &str) -> String {
    let user = match kind {
        CredentialKind::Registry => " --username USER",
        CredentialKind::S3 => " --username KEY_ID",
        CredentialKind::Git | CredentialKind::Gcs | CredentialKind::Hf => "",
    };
    format!("vessl credential create {name} --kind {kind}{user}")
}

/// What may be `used` (a participle), and what the administrator must write so that `path` may be used too.
fn roots_hint(path: &str, used: &str, roots: &[String], settings: Option<&str>) -> String {
    let list = |roots: &[&str]| roots.iter().map(|root| format!("{root:?}")).collect::<Vec<_>>().join(", ");
    let mut all: Vec<&str> = roots.iter().map(String::as_str).collect();
    let now = match all.as_slice() {
        [] => format!("nothing of the machine may be {used} yet"),
        roots => format!("only what is below `{}` may", roots.join("`, `")),
    };
    all.push(path);
    let file = settings.map_or_else(|| "the server's settings file".to_owned(), |file| format!("`{file}`"));
    format!(
        "{now}; to allow this one, write `hostpath_roots = [{}]` into {file}: it counts from the next start of the server (`vessl server stop`)",
        list(&all)
    )
}

/// The roots that lie below no other one. Those that do allow nothing more, and whoever may write to the other could make a link
/// of one that leads out.
fn outermost(roots: &[String]) -> Vec<String> {
    let lies = |inner: &String, outer: &String| lies_below(inner.as_bytes(), outer.as_bytes());
    let is_inner = |(n, root): &(usize, &String)| {
        let is_around = |(m, other): (usize, &String)| lies(root, other) && (!lies(other, root) || m < *n);
        roots.iter().enumerate().any(is_around)
    };
    roots.iter().enumerate().filter(|root| !is_inner(root)).map(|(_, root)| root.clone()).collect()
}

/// Whether a path, as [`spelling`] writes it, is `root` or below it.
fn below(path: &str, root: &str) -> bool {
    lies_below(&spelling::read(path), root.as_bytes())
}

/// Whether `path` is `root` or below it, by their names; a path with `..` never is.
fn lies_below(path: &[u8], root: &[u8]) -> bool {
    let parts = |path: &[u8]| {
        let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        parts.map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let (path, root) = (parts(path), parts(root));
    !path.iter().any(|part| part == b"..") && path.starts_with(&root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_below_roots_by_whole_names() {
        let check = |path: &str, root: &str, expected: bool| {
            assert_eq!(below(path, root), expected, "`{path}` `{root}`");
        };
        check("/data", "/data", true);
        check("/data/a/b", "/data/", true);
        check("//data/./a/", "/data", true);
        check("/data2", "/data", false);
        check("/data/../etc", "/data", false);
        check("/", "/data", false);
        check("/anything", "/", true);
    }

    #[test]
    fn a_root_below_another_allows_nothing_more() {
        let check = |roots: &[&str], expected: &[&str]| {
            let all: Vec<String> = roots.iter().map(|root| (*root).to_owned()).collect();
            assert_eq!(outermost(&all), expected, "{roots:?}");
        };
        check(&["/data", "/srv"], &["/data", "/srv"]);
        check(&["/data/a", "/data", "/data/b/c", "/database"], &["/data", "/database"]);
        check(&["/data", "/data/", "//data"], &["/data"]);
        check(&["/a", "/"], &["/"]);
        check(&[], &[]);
    }
}
