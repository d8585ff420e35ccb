//! The kinds of sources and targets, and the forms they are written in. It opens nothing and resolves no name.
use std::net::Ipv6Addr;
use std::sync::LazyLock;

use super::fields::{At, Fields, Reader};
use super::keys::{self, Keys};
use super::path::normalise;
use super::problem::{Code, Report};
use super::syntax::clip;
use super::types::{ArtifactRef, Dataset, Git, Gs, Hf, Hostpath, Model, Nfs, S3, Volume};
use super::url;

/// A source or target, before it is known whether its section takes it.
#[derive(Debug)]
pub(super) enum Thing {
    Git(Git),
    Dataset(Dataset),
    Model(Model),
    Artifact(ArtifactRef),
    /// `vessl-artifact://` without a name: the run's own files.
    Output,
    S3(S3),
    Gs(Gs),
    Hf(Hf),
    Volume(Volume),
    Hostpath(Hostpath),
    Nfs(Nfs),
}

/// One kind.
pub(super) struct Kind {
    /// Its key in the map form.
    pub(super) key: &'static str,
    /// An example of the text form.
    pub(super) form: &'static str,
    /// Sections that take it.
    pub(super) sections: &'static [&'static str],
    keys: &'static Keys,
}

impl Kind {
    /// Its prefix in the text form.
    pub(super) fn scheme(&self) -> &'static str {
        self.form.split_once("://").map_or(self.form, |(scheme, _)| scheme)
    }
}

/// Every kind, in the order of the reference.
pub(super) static KINDS: [Kind; 10] = [
    Kind { key: "git", form: "git://github.com/owner/repository", sections: &["import"], keys: &keys::GIT },
    Kind {
        key: "dataset",
        form: "vessl-dataset://organization/name",
        sections: &["import", "mount", "export"],
        keys: &keys::DATASET,
    },
    Kind {
        key: "model",
        form: "vessl-model://organization/repository/number",
        sections: &["import", "export"],
        keys: &keys::MODEL,
    },
    Kind {
        key: "artifact",
        form: "vessl-artifact://organization/project/name",
        sections: &["import", "export"],
        keys: &keys::ARTIFACT,
    },
    Kind { key: "s3", form: "s3://bucket/prefix", sections: &["import", "export"], keys: &keys::S3 },
    Kind { key: "gs", form: "gs://bucket/prefix", sections: &["import", "export"], keys: &keys::GS },
    Kind { key: "hf", form: "hf://huggingface.co/owner/name", sections: &["import"], keys: &keys::HF },
    Kind {
        key: "volume",
        form: "volume://storage/volume",
        sections: &["import", "mount", "export"],
        keys: &keys::VOLUME,
    },
    Kind { key: "hostpath", form: "hostpath:///path", sections: &["mount"], keys: &keys::HOSTPATH },
    Kind { key: "nfs", form: "nfs://server/path", sections: &["mount"], keys: &keys::NFS },
];

/// Says which kinds `section` takes, for messages.
pub(super) fn prefixes(section: &str) -> &'static str {
    static SECTIONS: LazyLock<[(&str, String); 3]> =
        LazyLock::new(|| ["import", "mount", "export"].map(|section| (section, one_of(section))));
    SECTIONS.iter().find(|(name, _)| *name == section).map_or("", |(_, text)| text)
}

fn one_of(section: &str) -> String {
    let kinds = KINDS.iter().filter(|kind| kind.sections.contains(&section));
    let prefixes: Vec<_> = kinds.map(|kind| format!("{}://", kind.scheme())).collect();
    format!("one of {}", keys::list(&prefixes.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// Whether `section` takes `kind`; if not, a report that says which sections do.
fn allowed(kind: &Kind, section: &str) -> Result<(), Report> {
    if kind.sections.contains(&section) {
        return Ok(());
    }
    let message = format!("`{}` cannot be used under `{section}`", kind.key);
    let hint = format!("put it under {}; `{section}` takes {}", keys::list(kind.sections), prefixes(section));
    Err(Report::new(Code::WrongSection, message).hint(hint))
}

/// Reads the text form.
pub(super) fn read_text(reader: &mut Reader<'_, '_>, at: &At<'_>, section: &str) -> Option<Thing> {
    let text = reader.word(at, prefixes(section))?;
    let (kind, rest) = reader.take(at, kind_of(&text, section))?;
    reader.take(at, allowed(kind, section))?;
    if rest.starts_with(char::is_whitespace) {
        let message = format!("the white space behind `{}://` was left out", kind.scheme());
        reader.warn(
            at,
            Report::new(Code::WhiteSpace, message).hint(format!(
                "write `{}://{}`",
                kind.scheme(),
                clip(rest.trim())
            )),
        );
    }
    let thing = reader.take(at, from_text(kind, rest.trim()))?;
    if let Thing::Artifact(ArtifactRef { organization_name: None, name, .. }) = &thing {
        let message = format!("`{name}` is read as an artifact of the run's own organization and project");
        reader
            .warn(at, Report::new(Code::NoName, message).hint(format!("write `artifact: {{name: {name}}}`")));
    }
    Some(thing)
}

const GIT_MAP: &str = "for a git repository write `git: {url: …}` with this address";
const GIT_OR_MOUNT: &str = "for a git repository write `git: {url: …}` with this address; a directory of this machine is mounted: \
                            `mount: {/data: hostpath:///…}`";
const HOSTPATH: &str = "a directory of this machine is `hostpath:///…`";

/// Splits the text form into its kind and what follows the prefix.
fn kind_of<'t>(text: &'t str, section: &str) -> Result<(&'static Kind, &'t str), Report> {
    let Some((scheme, rest)) = text.split_once("://") else {
        let message = format!("`{}` has no prefix that says what it is", clip(text));
        let hint = match section {
            "import" if is_local(text) => GIT_OR_MOUNT.to_owned(),
            "mount" if is_local(text) => HOSTPATH.to_owned(),
            "import" if url::git(text, None).is_ok() => GIT_MAP.to_owned(),
            _ => format!("{}; `{section}` takes {}", first(section), prefixes(section)),
        };
        return Err(Report::new(Code::UnknownScheme, message).hint(hint));
    };
    let kind = KINDS.iter().find(|kind| kind.scheme() == scheme).ok_or_else(|| {
        let message = format!("the prefix `{}://` is unknown", clip(scheme));
        Report::new(Code::UnknownScheme, message).hint(instead(scheme, section))
    })?;
    Ok((kind, rest))
}

/// What to write instead of a prefix that does not exist.
fn instead(scheme: &str, section: &str) -> String {
    let schemes: Vec<_> = KINDS.iter().map(Kind::scheme).collect();
    match (scheme, section, keys::nearest(scheme, &schemes)) {
        ("https" | "http" | "ssh", "import", _) => GIT_MAP.to_owned(),
        ("file", "import", _) => GIT_OR_MOUNT.to_owned(),
        ("file", "mount", _) => HOSTPATH.to_owned(),
        (_, _, Some(near)) => format!("did you mean `{near}://`? `{section}` takes {}", prefixes(section)),
        (_, _, None) => format!("{}; `{section}` takes {}", first(section), prefixes(section)),
    }
}

/// What a section takes that needs nothing else, for somebody who tries it for the first time.
fn first(section: &str) -> &'static str {
    match section {
        "export" => "write `vessl-artifact://`, and fetch the files with `vessl run download ID`",
        "import" => "write `git: {url: …}` or `vessl-artifact://organization/project/name`",
        _ => "write `hostpath:///path`",
    }
}

/// Whether a text without prefix is written like a path of this machine.
fn is_local(text: &str) -> bool {
    matches!(text, "." | "..") || ["/", "./", "../", "~"].iter().any(|start| text.starts_with(start))
}

fn bad(kind: &Kind, message: &str) -> Report {
    Report::new(Code::BadSource, message).hint(format!("write `{}`", kind.form))
}

fn from_text(kind: &Kind, rest: &str) -> Result<Thing, Report> {
    match kind.key {
        "git" => Ok(Thing::Git(Git { url: url::git(&format!("git://{rest}"), None)?, ..Git::default() })),
        "hf" => Ok(Thing::Hf(Hf { url: url::hugging_face(rest)?, ..Hf::default() })),
        "hostpath" => Ok(Thing::Hostpath(Hostpath { path: rooted(kind, rest)? })),
        "nfs" => {
            let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
            Ok(Thing::Nfs(Nfs { server: server_name(kind, server)?, path: rooted(kind, path)? }))
        }
        "s3" | "gs" => Ok(bucket_text(kind, rest)?),
        "artifact" if rest.trim_matches('/').is_empty() => Ok(Thing::Output),
        _ => from_names(kind, &names(kind, rest)?),
    }
}

fn from_names(kind: &Kind, names: &[String]) -> Result<Thing, Report> {
    match (kind.key, names) {
        ("dataset", [organization, name]) => Ok(Thing::Dataset(Dataset {
            organization_name: organization.clone(),
            dataset_name: name.clone(),
        })),
        ("model", [organization, repository]) => Ok(Thing::Model(Model {
            organization_name: organization.clone(),
            model_repository_name: repository.clone(),
            model_number: None,
        })),
        ("model", [organization, repository, number]) => Ok(Thing::Model(Model {
            organization_name: organization.clone(),
            model_repository_name: repository.clone(),
            model_number: Some(model_number(kind, number)?),
        })),
        ("artifact", [organization, project, name]) => Ok(Thing::Artifact(ArtifactRef {
            organization_name: Some(organization.clone()),
            project_name: Some(project.clone()),
            name: name.clone(),
        })),
        ("artifact", [name]) => {
            Ok(Thing::Artifact(ArtifactRef { name: name.clone(), ..ArtifactRef::default() }))
        }
        ("volume", [storage, rest @ ..]) if rest.len() <= 1 => {
            Ok(Thing::Volume(Volume { storage_name: storage.clone(), volume_name: rest.first().cloned() }))
        }
        (_, [one]) => Err(bad(kind, &format!("`{}` is not all that `{}` needs", clip(one), kind.key))),
        (_, names) => Err(bad(kind, &format!("`{}` does not have {} names", kind.key, names.len()))),
    }
}

fn model_number(kind: &Kind, text: &str) -> Result<u64, Report> {
    let number = text.parse().ok().filter(|n| *n >= 1 && text.bytes().all(|b| b.is_ascii_digit()));
    number.ok_or_else(|| {
        bad(kind, &format!("`{}` is not the number of a model, which is 1 or more", clip(text)))
    })
}

fn bucket_text(kind: &Kind, rest: &str) -> Result<Thing, Report> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let (bucket, prefix) = (name(kind, bucket)?, url::prefix(prefix));
    Ok(if kind.key == "s3" {
        Thing::S3(S3 { bucket, prefix, ..S3::default() })
    } else {
        Thing::Gs(Gs { bucket, prefix, ..Gs::default() })
    })
}

/// The names between slashes; a slash at the end does not matter.
fn names(kind: &Kind, rest: &str) -> Result<Vec<String>, Report> {
    rest.trim_end_matches('/').split('/').map(|part| name(kind, part)).collect()
}

/// One name: not empty, no slash, not `.` or `..`.
fn name(kind: &Kind, text: &str) -> Result<String, Report> {
    if text.trim().is_empty() || text.contains('/') || matches!(text, "." | "..") {
        return Err(bad(kind, &format!("`{}` is not a name", clip(text))));
    }
    Ok(text.to_owned())
}

fn server_name(kind: &Kind, text: &str) -> Result<String, Report> {
    let is_name =
        !text.starts_with('-') && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
    let address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if is_name || address.parse::<Ipv6Addr>().is_ok() {
        name(kind, text)
    } else {
        Err(bad(kind, &format!("`{}` is not a server", clip(text))))
    }
}

/// A path on a node or server, with or without its first slash.
fn rooted(kind: &Kind, text: &str) -> Result<String, Report> {
    absolute(kind, &format!("/{}", text.trim_start_matches('/')))
}

fn absolute(kind: &Kind, text: &str) -> Result<String, Report> {
    normalise(text).map_err(|error| {
        Report::new(Code::BadPath, format!("`{}` {error}", clip(text))).hint(format!("write `{}`", kind.form))
    })
}

/// Reads the value of the kind's own key in the map form.
pub(super) fn read_map(reader: &mut Reader<'_, '_>, at: At<'_>, kind: &Kind, section: &str) -> Option<Thing> {
    let outcome = allowed(kind, section);
    reader.take(&at, outcome)?;
    if at.node.is_null() && kind.key == "artifact" {
        return Some(Thing::Output);
    }
    if at.node.text().is_some() && !at.node.is_null() && matches!(kind.key, "git" | "hf" | "volume") {
        return read_short(reader, &at, kind);
    }
    let form = format!("`{}: {{{}: …}}`", kind.key, kind.keys.known.first().unwrap_or(&"name"));
    let fields = reader.fields(at, kind.keys, &form)?;
    match kind.key {
        "git" => read_git(reader, &fields),
        "hf" => read_hf(reader, &fields),
        "dataset" => Some(Thing::Dataset(Dataset {
            organization_name: part(reader, &fields, kind, "organization_name")?,
            dataset_name: part(reader, &fields, kind, "dataset_name")?,
        })),
        "model" => read_model(reader, &fields, kind),
        "artifact" => read_artifact(reader, &fields, kind),
        "s3" | "gs" => read_bucket(reader, &fields, kind),
        "volume" => Some(Thing::Volume(Volume {
            storage_name: part(reader, &fields, kind, "storage_name")?,
            volume_name: optional_part(reader, &fields, kind, "volume_name"),
        })),
        "hostpath" => Some(Thing::Hostpath(Hostpath { path: read_path(reader, &fields, kind)? })),
        _ => {
            let server = reader.required(&fields, "server", "`server: 10.0.0.1`")?;
            let text = reader.word(&server, "`server: 10.0.0.1`")?;
            let server = reader.take(&server, server_name(kind, &text))?;
            Some(Thing::Nfs(Nfs { server, path: read_path(reader, &fields, kind)? }))
        }
    }
}

/// `git: url`, `hf: url` and `volume: storage/name`.
fn read_short(reader: &mut Reader<'_, '_>, at: &At<'_>, kind: &Kind) -> Option<Thing> {
    let text = reader.word(at, kind.form)?;
    if kind.key == "volume" {
        let outcome = names(kind, &text).and_then(|names| from_names(kind, &names));
        return reader.take(at, outcome);
    }
    let report =
        Report::new(Code::ShortForm, format!("`{}` has text instead of a map, read as its `url`", kind.key));
    reader.warn(at, report.hint(format!("write `{}: {{url: {}}}`", kind.key, clip(&text))));
    let outcome = if kind.key == "git" {
        url::git(&text, reader.base()).map(|url| Thing::Git(Git { url, ..Git::default() }))
    } else {
        url::hugging_face(&text).map(|url| Thing::Hf(Hf { url, ..Hf::default() }))
    };
    reader.take(at, outcome)
}

fn read_git(reader: &mut Reader<'_, '_>, fields: &Fields<'_>) -> Option<Thing> {
    let (reference, credential_name) = read_reference(reader, fields);
    let at = reader.required(fields, "url", "`url: github.com/owner/repository`")?;
    let text = reader.word(&at, "`url: github.com/owner/repository`")?;
    let url = reader.take(&at, url::git(&text, reader.base()))?;
    let mut flag = |key| fields.get(key).is_none_or(|at| reader.flag(&at).unwrap_or(true));
    let (submodules, lfs) = (flag("submodules"), flag("lfs"));
    Some(Thing::Git(Git { url, reference, credential_name, submodules, lfs }))
}

fn read_hf(reader: &mut Reader<'_, '_>, fields: &Fields<'_>) -> Option<Thing> {
    let (reference, credential_name) = read_reference(reader, fields);
    let at = reader.required(fields, "url", "`url: huggingface.co/owner/name`")?;
    let text = reader.word(&at, "`url: huggingface.co/owner/name`")?;
    let url = reader.take(&at, url::hugging_face(&text))?;
    Some(Thing::Hf(Hf { url, reference, credential_name }))
}

/// `ref` and `credential_name`.
fn read_reference(reader: &mut Reader<'_, '_>, fields: &Fields<'_>) -> (Option<String>, Option<String>) {
    let reference = fields.get("ref").and_then(|at| {
        let text = reader.word(&at, "`ref: main`")?;
        reader.take(&at, url::reference(&text))
    });
    (reference, reader.optional_word(fields, "credential_name", "the name of a stored credential"))
}

fn read_model(reader: &mut Reader<'_, '_>, fields: &Fields<'_>, kind: &Kind) -> Option<Thing> {
    let number = fields.get("model_number");
    let model_number = number.and_then(|at| reader.whole(&at, 1..=u64::MAX, "`model_number: 1`"));
    Some(Thing::Model(Model {
        organization_name: part(reader, fields, kind, "organization_name")?,
        model_repository_name: part(reader, fields, kind, "model_repository_name")?,
        model_number,
    }))
}

fn read_artifact(reader: &mut Reader<'_, '_>, fields: &Fields<'_>, kind: &Kind) -> Option<Thing> {
    let organization_name = optional_part(reader, fields, kind, "organization_name");
    let project_name = optional_part(reader, fields, kind, "project_name");
    let key = match (fields.get("name"), fields.get("artifact_name")) {
        (Some(_), Some(at)) => {
            let report = Report::new(Code::Conflict, "`name` and `artifact_name` are the same key");
            reader.error(&at, report.hint("keep `name`"));
            return None;
        }
        (None, Some(_)) => "artifact_name",
        (None, None) if organization_name.is_none() && project_name.is_none() => return Some(Thing::Output),
        _ => "name",
    };
    Some(Thing::Artifact(ArtifactRef {
        organization_name,
        project_name,
        name: part(reader, fields, kind, key)?,
    }))
}

fn read_bucket(reader: &mut Reader<'_, '_>, fields: &Fields<'_>, kind: &Kind) -> Option<Thing> {
    let prefix = reader.optional_word(fields, "prefix", "`prefix: some/path`");
    let prefix = prefix.map(|text| url::prefix(&text)).unwrap_or_default();
    let endpoint = reader.optional_word(fields, "endpoint", "`endpoint: https://store.example.com`");
    let region = reader.optional_word(fields, "region", "`region: ap-northeast-2`");
    let credential_name = reader.optional_word(fields, "credential_name", "the name of a stored credential");
    let bucket = part(reader, fields, kind, "bucket")?;
    Some(if kind.key == "s3" {
        Thing::S3(S3 { bucket, prefix, endpoint, region, credential_name })
    } else {
        Thing::Gs(Gs { bucket, prefix, endpoint, credential_name })
    })
}

fn read_path(reader: &mut Reader<'_, '_>, fields: &Fields<'_>, kind: &Kind) -> Option<String> {
    let at = reader.required(fields, "path", "`path: /data`")?;
    let text = reader.word(&at, "`path: /data`")?;
    reader.take(&at, absolute(kind, &text))
}

/// A required name of a map form.
fn part(reader: &mut Reader<'_, '_>, fields: &Fields<'_>, kind: &Kind, key: &str) -> Option<String> {
    let at = reader.required(fields, key, &format!("`{key}: …`"))?;
    let text = reader.word(&at, &format!("`{key}: …`"))?;
    reader.take(&at, name(kind, &text))
}

/// An optional name of a map form.
fn optional_part(reader: &mut Reader<'_, '_>, fields: &Fields<'_>, kind: &Kind, key: &str) -> Option<String> {
    let at = fields.get(key)?;
    let text = reader.word(&at, &format!("`{key}: …`"))?;
    reader.take(&at, name(kind, &text))
}
