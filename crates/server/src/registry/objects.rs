//! Datasets, model repositories and artifacts: made, listed, changed, deleted, and the other names of their versions.
use vessl_core::access::{Action, Caller, allowed};
use vessl_core::ids::{ArtifactName, ProjectRef};
use vessl_core::object::{ObjectKind, ObjectName};
use vessl_core::spec::labels::{self, NAME_FORM};
use vessl_core::wire::registry::{ArtifactView, ObjectCreate, ObjectUpdate, ObjectView};

use super::{Registry, RegistryError, Result};
use crate::store::objects::{About, Artifact, ObjectQuery};
use crate::store::versions::Which;

/// Most keys of the metadata of one thing.
const MOST_KEYS: usize = 100;
/// Longest key and longest value of metadata, in bytes.
const LONGEST_VALUE: usize = 4096;

impl Registry {
    /// Things of a kind, by project and name.
    pub async fn objects(&self, caller: &Caller, query: ObjectQuery) -> Result<Vec<ObjectView>> {
        allowed(caller, Action::Read, scope(&query))?;
        self.known_organization(&query.organization).await?;
        Ok(self.store.objects(query).await?)
    }

    /// Makes a thing without versions.
    pub async fn create_object(
        &self,
        caller: &Caller,
        query: ObjectQuery,
        new: ObjectCreate,
    ) -> Result<ObjectView> {
        let ObjectCreate { name, project: _, description, tags, metadata } = new;
        let name = named(query, name)?;
        allowed(caller, Action::Manage, name.scope())?;
        check_name(name.kind.word(), &name.name)?;
        let about = About { description, tags, metadata };
        check(&about)?;
        self.known_organization(&name.organization).await?;
        if let Some(project) = &name.project
            && !self
                .store
                .projects(name.organization.clone())
                .await?
                .iter()
                .any(|view| view.name == project.as_str())
        {
            return Err(RegistryError::Missing(format!(
                "there is no project `{}/{project}`",
                name.organization
            )));
        }
        if !self.store.create_object(name.clone(), about, self.made(caller)).await? {
            return Err(RegistryError::refused(
                format!("there is a {} `{}` already", name.kind, name.name),
                "",
            ));
        }
        self.known(&name).await
    }

    /// One thing with its newest version.
    pub async fn object(&self, caller: &Caller, name: &ObjectName) -> Result<ObjectView> {
        allowed(caller, Action::Read, name.scope())?;
        self.known(name).await
    }

    /// Changes what is said of a thing.
    pub async fn update_object(
        &self,
        caller: &Caller,
        name: &ObjectName,
        change: ObjectUpdate,
    ) -> Result<ObjectView> {
        allowed(caller, Action::Run, name.scope())?;
        check_update(&change)?;
        if !self.store.update_object(name.clone(), change).await? {
            return Err(no(name));
        }
        self.known(name).await
    }

    /// Forgets a thing with all of its versions. Refused while a run that has not ended uses it.
    pub async fn delete_object(&self, caller: &Caller, name: &ObjectName) -> Result<()> {
        allowed(caller, to_delete(name.kind), name.scope())?;
        self.known(name).await?;
        self.refuse_in_use(name).await?;
        if self.store.delete_object(name.clone()).await? { Ok(()) } else { Err(no(name)) }
    }

    /// Lets a version go by another name, until that is given to another version.
    pub async fn set_alias(
        &self,
        caller: &Caller,
        name: &ObjectName,
        (alias, number): (String, u64),
    ) -> Result<ObjectView> {
        allowed(caller, Action::Run, name.scope())?;
        check_name("alias", &alias)?;
        if alias == "latest" || alias.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(RegistryError::Malformed(format!(
                "`{alias}` names a version of its own; choose another alias"
            )));
        }
        if !self.store.set_alias(name.clone(), alias, number).await? {
            self.known(name).await?;
            return Err(RegistryError::Missing(format!("there is no version {number} of `{name}`")));
        }
        self.known(name).await
    }

    /// Forgets another name of a version.
    pub async fn delete_alias(&self, caller: &Caller, name: &ObjectName, alias: String) -> Result<()> {
        allowed(caller, Action::Run, name.scope())?;
        if self.store.delete_alias(name.clone(), alias.clone()).await? {
            return Ok(());
        }
        self.known(name).await?;
        Err(RegistryError::Missing(format!(
            "no version of `{name}` has the alias `{}`",
            alias.escape_debug()
        )))
    }

    /// Artifacts of a project, each with its newest version.
    pub async fn artifacts(&self, caller: &Caller, project: &ProjectRef) -> Result<Vec<ArtifactView>> {
        allowed(caller, Action::Read, vessl_core::access::Scope::Project(project.clone()))?;
        let found = self.store.artifacts(project.organization.clone()).await?.into_iter();
        let found = found.filter(|artifact| artifact.name.project == project.project);
        let newest = |Artifact { name, newest }| ArtifactView { name: name.name, versions: vec![newest] };
        Ok(found.map(newest).collect())
    }

    /// One artifact with its history.
    pub async fn artifact(&self, caller: &Caller, full: ArtifactName) -> Result<ArtifactView> {
        let (name, full) = (full.name.clone(), ObjectName::from(full));
        allowed(caller, Action::Read, full.scope())?;
        match self.store.versions(full).await? {
            Some(versions) if !versions.is_empty() => Ok(ArtifactView { name, versions }),
            _ => Err(RegistryError::Missing(format!(
                "there is no artifact `{name}`; `vessl artifact list` shows those there are"
            ))),
        }
    }

    /// Forgets one version of an artifact, or all of it. Files of the runs that made them stay with those.
    pub async fn delete_artifact(
        &self,
        caller: &Caller,
        full: ArtifactName,
        version: Option<u64>,
    ) -> Result<()> {
        let (name, full) = (full.name.clone(), ObjectName::from(full));
        allowed(caller, to_delete(full.kind), full.scope())?;
        let gone = if let Some(number) = version {
            if let Some(found) = self.store.version(full.clone(), Which::Number(number)).await? {
                self.refuse_read(&full, &found.manifest).await?;
            }
            self.store.delete_version(full, number).await?
        } else {
            self.refuse_in_use(&full).await?;
            self.store.delete_object(full).await?
        };
        if gone {
            return Ok(());
        }
        let of = version.map(|number| format!("version {number} of the ")).unwrap_or_default();
        let hint = "`vessl artifact list` shows those there are";
        Err(RegistryError::Missing(format!("there is no {of}artifact `{name}`; {hint}")))
    }

    /// A thing that is there.
    pub(super) async fn known(&self, name: &ObjectName) -> Result<ObjectView> {
        self.store.object(name.clone()).await?.ok_or_else(|| no(name))
    }

    async fn refuse_in_use(&self, name: &ObjectName) -> Result<()> {
        let Some(run) = self.user_of(&name.to_string(), None).await? else { return Ok(()) };
        let message = format!("`{name}` is used by run {}, which has not ended", run.0);
        let hint = format!("wait for its end, or `vessl run terminate {}`", run.0);
        Err(RegistryError::Refused { message, hint: Some(hint) })
    }
}

/// The full name of a thing; an artifact has a project, and nothing else has.
pub(crate) fn named(query: ObjectQuery, name: String) -> Result<ObjectName> {
    let ObjectQuery { kind, organization, project } = query;
    match (kind, &project) {
        (ObjectKind::Artifact, None) => {
            Err(RegistryError::Malformed("an artifact is in a project: say which (`project`)".to_owned()))
        }
        (ObjectKind::Dataset | ObjectKind::ModelRepository, Some(_)) => {
            Err(RegistryError::Malformed(format!("a {kind} is in no project: leave `project` out")))
        }
        _ => Ok(ObjectName { kind, organization, project, name }),
    }
}

fn scope(query: &ObjectQuery) -> vessl_core::access::Scope {
    let ObjectQuery { kind, organization, project } = query.clone();
    ObjectName { kind, organization, project, name: String::new() }.scope()
}

/// What it takes to delete something. Artifacts are made and deleted by those who run.
pub(super) fn to_delete(kind: ObjectKind) -> Action {
    match kind {
        ObjectKind::Artifact => Action::Run,
        ObjectKind::Dataset | ObjectKind::ModelRepository => Action::Manage,
    }
}

fn no(name: &ObjectName) -> RegistryError {
    let ObjectName { kind, name, .. } = name;
    RegistryError::Missing(format!("there is no {kind} `{}`", name.escape_debug()))
}

/// Refuses a name that cannot stand in a URL path or a reference.
pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    if labels::is_name(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(120).collect();
    Err(RegistryError::Malformed(format!(
        "the {what} name `{}` is not usable: it must be {NAME_FORM}",
        shown.escape_debug()
    )))
}

/// Refuses what is too much to be said of a thing.
pub(super) fn check(about: &About) -> Result<()> {
    labels::check_description(about.description.as_deref().unwrap_or_default())
        .and_then(|()| labels::check_tags(&about.tags))
        .map_err(RegistryError::Malformed)?;
    if about.metadata.len() > MOST_KEYS {
        return Err(RegistryError::Malformed(format!("`metadata` may have {MOST_KEYS} keys")));
    }
    for (key, value) in &about.metadata {
        if key.is_empty()
            || key.len().max(value.len()) > LONGEST_VALUE
            || (key.clone() + value).contains('\0')
        {
            return Err(RegistryError::Malformed(format!(
                "a key of `metadata` must not be empty, and key and value may have {LONGEST_VALUE} bytes without NUL"
            )));
        }
    }
    Ok(())
}

/// The same for what changes.
pub(super) fn check_update(change: &ObjectUpdate) -> Result<()> {
    let ObjectUpdate { description, tags, metadata } = change.clone();
    check(&About { description, tags: tags.unwrap_or_default(), metadata })
}
