//! `import`, `mount` and `export`: maps of a container path to a source or target.
use std::collections::BTreeMap;

use super::fields::{At, Fields, Reader};
use super::keys::{self, Keys};
use super::kinds::{self, KINDS, Thing};
use super::path::ContainerPath;
use super::problem::{Code, Report};
use super::tree::Kind as NodeKind;
use super::types::{Export, Import, Model, Mount, MountSource};

/// A section's entries with the place of each path.
pub(super) type Section<'n, T> = BTreeMap<ContainerPath, (T, At<'n>)>;

/// The three sections, as far as they could be read.
#[derive(Default)]
pub(super) struct Data<'n> {
    pub(super) import: Section<'n, Import>,
    pub(super) mount: Section<'n, Mount>,
    pub(super) export: Section<'n, Export>,
}

/// Reads the three sections.
pub(super) fn read<'n>(reader: &mut Reader<'_, '_>, fields: &Fields<'n>) -> Data<'n> {
    let data = Data {
        import: section(reader, fields, "import", read_import),
        mount: section(reader, fields, "mount", read_mount),
        export: section(reader, fields, "export", read_export),
    };
    for (path, (_, at)) in &data.mount {
        if let Some((_, first)) = data.import.get(path) {
            duplicate(reader, at, first, "; a path is either imported or mounted");
        }
    }
    data
}

/// The entries without their places.
pub(super) fn without_places<T>(section: Section<'_, T>) -> BTreeMap<ContainerPath, T> {
    section.into_iter().map(|(path, (value, _))| (path, value)).collect()
}

/// Most paths of one section.
const MOST_PATHS: usize = 10_000;

/// The entries of a section, unless there are too many.
pub(super) fn entries<'n>(reader: &mut Reader<'_, '_>, at: &At<'n>, form: &str) -> Vec<(At<'n>, At<'n>)> {
    let entries = reader.map(at, form).unwrap_or_default();
    if entries.len() > MOST_PATHS {
        let message = format!("`{}` has {} paths; at most {MOST_PATHS} are read", at.name(), entries.len());
        let report = Report::new(Code::TooManyNodes, message);
        reader.error(at, report.hint("use one directory instead of its files"));
        return Vec::new();
    }
    at.entries(entries)
}

type ReadEntry<T> = fn(&mut Reader<'_, '_>, At<'_>) -> Option<T>;

fn section<'n, T>(
    reader: &mut Reader<'_, '_>,
    fields: &Fields<'n>,
    name: &str,
    read: ReadEntry<T>,
) -> Section<'n, T> {
    let mut section = Section::new();
    let Some(at) = fields.get(name) else { return section };
    for (key, value) in entries(reader, &at, form(name)) {
        let path = read_path(reader, &key);
        let value = read(reader, value);
        if let (Some(path), Some(value)) = (path, value) {
            insert(reader, &mut section, path, (value, key));
        }
    }
    section
}

/// The form of a section, for messages.
fn form(section: &str) -> &'static str {
    match section {
        "import" => "a map of container path to source, such as `/code: git://github.com/owner/repository`",
        "mount" => "a map of container path to source, such as `/data: hostpath:///data`",
        _ => "a map of container path to target, such as `/output: vessl-artifact://`",
    }
}

/// Adds an entry, or refuses its path because it is there already.
pub(super) fn insert<'n, T>(
    reader: &mut Reader<'_, '_>,
    section: &mut Section<'n, T>,
    path: ContainerPath,
    entry: (T, At<'n>),
) {
    if let Some((_, first)) = section.get(&path) {
        duplicate(reader, &entry.1, first, "");
    } else {
        section.insert(path, entry);
    }
}

fn duplicate(reader: &mut Reader<'_, '_>, at: &At<'_>, first: &At<'_>, why: &str) {
    let place = first.node.place;
    let message =
        format!("the path `{}` is used on line {}:{} already{why}", at.name(), place.line, place.column);
    reader.error(at, Report::new(Code::DuplicatePath, message).hint("keep one of them, or use another path"));
}

/// Reads a key of a section as a path.
pub(super) fn read_path(reader: &mut Reader<'_, '_>, key: &At<'_>) -> Option<ContainerPath> {
    let text = reader.word(key, "an absolute path")?;
    let outcome = ContainerPath::parse(&text).map_err(|error| {
        Report::new(Code::BadPath, format!("the container path `{}` {error}", key.name()))
            .hint("use an absolute path of your own, such as `/data`")
    });
    reader.take(key, outcome)
}

/// Reads a source or target in either form. The second part is the map form, for what stands beside the kind.
fn thing<'n>(
    reader: &mut Reader<'_, '_>,
    at: At<'n>,
    section: (&'static str, &Keys),
) -> Option<(Thing, Option<Fields<'n>>)> {
    let (name, keys) = section;
    if at.node.text().is_some() && !at.node.is_null() {
        return kinds::read_text(reader, &at, name).map(|thing| (thing, None));
    }
    let fields = reader.fields(at, keys, kinds::prefixes(name))?;
    let mut found = KINDS.iter().filter_map(|kind| fields.raw(kind.key).map(|at| (kind, at)));
    match (found.next(), found.next()) {
        (Some((kind, at)), None) => Some((kinds::read_map(reader, at, kind, name)?, Some(fields))),
        (Some((first, _)), Some((second, at))) => {
            let message = format!("`{}` and `{}` cannot stand in one entry", first.key, second.key);
            reader.error(&at, Report::new(Code::Conflict, message).hint("keep one of them"));
            None
        }
        (None, _) => {
            let kinds: Vec<_> =
                KINDS.iter().filter(|kind| kind.sections.contains(&name)).map(|kind| kind.key).collect();
            let report =
                Report::new(Code::MissingKey, format!("`{}` does not say what kind it is", fields.at.name()));
            reader.error(&fields.at, report.hint(format!("add one of {}", keys::list(&kinds))));
            None
        }
    }
}

/// `readonly` has a meaning for mounts only.
fn refuse_readonly(reader: &mut Reader<'_, '_>, fields: Option<&Fields<'_>>, section: &str) {
    let inside = fields.and_then(inner_readonly);
    if let Some((key, _)) = inside {
        let report = Report::new(Code::UnknownKey, format!("`readonly` has no meaning under `{section}`"));
        reader.error(&key, report.hint("remove it"));
    }
}

/// `readonly` inside the kind's own map: its key and its value.
fn inner_readonly<'n>(fields: &Fields<'n>) -> Option<(At<'n>, At<'n>)> {
    let at = KINDS.iter().find_map(|kind| fields.get(kind.key))?;
    let NodeKind::Map(entries) = &at.node.kind else { return None };
    at.entries(entries).into_iter().find(|(key, _)| key.name() == "readonly")
}

/// Reads one import.
pub(super) fn read_import(reader: &mut Reader<'_, '_>, at: At<'_>) -> Option<Import> {
    let place = at.clone();
    let (thing, fields) = thing(reader, at, ("import", &keys::IMPORT))?;
    refuse_readonly(reader, fields.as_ref(), "import");
    if matches!(thing, Thing::Output) {
        let report =
            Report::new(Code::NoName, "an import of an artifact without its name is filled in by a pipeline");
        reader.warn(&place, report.hint("write `vessl-artifact://organization/project/name`"));
    }
    let outcome = import_of(thing);
    reader.take(&place, outcome)
}

fn import_of(thing: Thing) -> Result<Import, Report> {
    Ok(match thing {
        Thing::Git(git) => Import::Git(git),
        Thing::Dataset(dataset) => Import::Dataset(dataset),
        Thing::Model(Model { model_number: None, .. }) => {
            let report = Report::new(Code::MissingKey, "an imported model needs its number");
            return Err(
                report.hint("write `vessl-model://organization/repository/number`, or add `model_number`")
            );
        }
        Thing::Model(model) => Import::Model(model),
        Thing::Artifact(artifact) => Import::Artifact(artifact),
        Thing::S3(s3) => Import::S3(s3),
        Thing::Gs(gs) => Import::Gs(gs),
        Thing::Hf(hf) => Import::Hf(hf),
        Thing::Volume(volume) => Import::Volume(volume),
        Thing::Output => Import::Injected,
        Thing::Hostpath(_) | Thing::Nfs(_) => return Err(not_here("import")),
    })
}

/// Reads one mount.
pub(super) fn read_mount(reader: &mut Reader<'_, '_>, at: At<'_>) -> Option<Mount> {
    let place = at.clone();
    let (thing, fields) = thing(reader, at, ("mount", &keys::MOUNT))?;
    let readonly = fields.as_ref().and_then(|fields| read_readonly(reader, fields));
    let source = match thing {
        Thing::Dataset(dataset) => {
            if let Some((_, at)) = readonly.as_ref().filter(|(readonly, _)| !readonly) {
                let report = Report::new(Code::DatasetReadonly, "a mounted dataset is always read-only");
                reader.warn(at, report.hint("import it to get a copy that can be written"));
            }
            return Some(Mount { source: MountSource::Dataset(dataset), readonly: true });
        }
        Thing::Hostpath(hostpath) => MountSource::Hostpath(hostpath),
        Thing::Nfs(nfs) => MountSource::Nfs(nfs),
        Thing::Volume(volume) => MountSource::Volume(volume),
        _ => {
            reader.error(&place, not_here("mount"));
            return None;
        }
    };
    Some(Mount { source, readonly: readonly.is_none_or(|(readonly, _)| readonly) })
}

/// `readonly` beside the kind, inside it or under `options`.
fn read_readonly<'n>(reader: &mut Reader<'_, '_>, fields: &Fields<'n>) -> Option<(bool, At<'n>)> {
    let inside = inner_readonly(fields).map(|(_, value)| value);
    let options =
        fields.get("options").and_then(|at| reader.fields(at, &keys::OPTIONS, "`options: {readonly: true}`"));
    let all = [fields.get("readonly"), inside, options.and_then(|fields| fields.get("readonly"))];
    let mut found: Option<(bool, At<'n>)> = None;
    for at in all.into_iter().flatten() {
        let Some(flag) = reader.flag(&at) else { continue };
        match &found {
            Some((first, _)) if *first != flag => {
                let report = Report::new(Code::Conflict, "`readonly` is said twice, with different values");
                reader.error(&at, report.hint("keep the one beside the kind"));
            }
            Some(_) => {}
            None => found = Some((flag, at)),
        }
    }
    found
}

/// Reads one export.
pub(super) fn read_export(reader: &mut Reader<'_, '_>, at: At<'_>) -> Option<Export> {
    let place = at.clone();
    let (thing, fields) = thing(reader, at, ("export", &keys::EXPORT))?;
    refuse_readonly(reader, fields.as_ref(), "export");
    let outcome = export_of(thing);
    reader.take(&place, outcome)
}

fn export_of(thing: Thing) -> Result<Export, Report> {
    Ok(match thing {
        Thing::Output => Export::Output,
        Thing::Artifact(artifact) => Export::Artifact(artifact),
        Thing::Dataset(dataset) => Export::Dataset(dataset),
        Thing::Model(Model { model_number: Some(number), .. }) => {
            let message =
                format!("an export makes the next number of a model and cannot name number {number}");
            return Err(
                Report::new(Code::BadSource, message).hint("write `vessl-model://organization/repository`")
            );
        }
        Thing::Model(model) => Export::Model(model),
        Thing::S3(s3) => Export::S3(s3),
        Thing::Gs(gs) => Export::Gs(gs),
        Thing::Volume(volume) => Export::Volume(volume),
        Thing::Git(_) | Thing::Hf(_) | Thing::Hostpath(_) | Thing::Nfs(_) => return Err(not_here("export")),
    })
}

fn not_here(section: &str) -> Report {
    let report = Report::new(Code::WrongSection, format!("this cannot be used under `{section}`"));
    report.hint(format!("`{section}` takes {}", kinds::prefixes(section)))
}
