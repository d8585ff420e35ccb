//! The dialect of 2023: `volumes`, flat resources, `interactive.runtime`. Each rewrite warns with the modern spelling.
use super::data::{self, Data};
use super::fields::{At, Fields, Reader};
use super::keys;
use super::kinds::KINDS;
use super::problem::{Code, Report};
use super::run;
use super::syntax::clip;
use super::types::{Export, GpuRequest, Import, Requests};

/// Reads `volumes` into `import`, `mount` and `export`.
pub(super) fn read_volumes<'n>(reader: &mut Reader<'_, '_>, at: &At<'n>, data: &mut Data<'n>) {
    for (key, value) in data::entries(reader, at, "`import` and `export` instead of `volumes`") {
        if value.node.text().is_some() && !value.node.is_null() {
            read_text(reader, key, value, data);
        } else {
            read_map(reader, key, value, data);
        }
    }
}

fn renamed(key: &At<'_>, section: &str, value: &str) -> Report {
    let report = Report::new(Code::OldVolumes, format!("`volumes` is an old spelling, read as `{section}`"));
    report.hint(format!("write `{section}: {{{}: {}}}`", key.name(), clip(value)))
}

fn read_text<'n>(reader: &mut Reader<'_, '_>, key: At<'n>, value: At<'n>, data: &mut Data<'n>) {
    let text = value.node.text().unwrap_or_default();
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    let only_mounted = KINDS.iter().any(|kind| kind.scheme() == scheme && kind.sections == ["mount"]);
    let path = data::read_path(reader, &key);
    if only_mounted {
        reader.warn(&key, renamed(&key, "mount", text));
        if let (Some(mount), Some(path)) = (data::read_mount(reader, value), path) {
            data::insert(reader, &mut data.mount, path, (mount, key));
        }
    } else {
        reader.warn(&key, renamed(&key, "import", text));
        if let (Some(import), Some(path)) = (data::read_import(reader, value), path) {
            data::insert(reader, &mut data.import, path, (import, key));
        }
    }
}

/// `{artifact: true}`, `{import: …, ref: …}`, `{export: …}` or a kind as in `import` or `mount`.
fn read_map<'n>(reader: &mut Reader<'_, '_>, key: At<'n>, value: At<'n>, data: &mut Data<'n>) {
    let Some(fields) = reader.fields(value, &keys::OLD_VOLUME, "`import` and `export` instead of `volumes`")
    else {
        return;
    };
    let Some(path) = data::read_path(reader, &key) else { return };
    let artifact = fields.get("artifact").filter(|at| at.node.text().is_some());
    if let Some(at) = artifact {
        if reader.flag(&at) == Some(true) {
            reader.warn(&key, renamed(&key, "export", "vessl-artifact://"));
            data::insert(reader, &mut data.export, path, (Export::Output, key));
        }
    } else if let Some(at) = fields.get("export") {
        reader.warn(&key, renamed(&key, "export", at.node.text().unwrap_or("…")));
        if let Some(export) = data::read_export(reader, at) {
            data::insert(reader, &mut data.export, path, (export, key));
        }
    } else if let Some(at) = fields.get("import") {
        reader.warn(&key, old_import(&key, &at, &fields));
        if let Some(import) = data::read_import(reader, at) {
            let import = with_reference(reader, import, &fields);
            data::insert(reader, &mut data.import, path, (import, key));
        }
    } else if fields.get("hostpath").or(fields.get("nfs")).is_some() {
        reader.warn(&key, renamed(&key, "mount", "{…}"));
        if let Some(mount) = data::read_mount(reader, fields.at) {
            data::insert(reader, &mut data.mount, path, (mount, key));
        }
    } else {
        reader.warn(&key, renamed(&key, "import", "{…}"));
        if let Some(import) = data::read_import(reader, fields.at) {
            data::insert(reader, &mut data.import, path, (import, key));
        }
    }
}

fn old_import(key: &At<'_>, at: &At<'_>, fields: &Fields<'_>) -> Report {
    let url = at.node.text().unwrap_or("…");
    match fields.get("ref").and_then(|at| at.node.text()) {
        Some(reference) => renamed(key, "import", &format!("{{git: {{url: {url}, ref: {reference}}}}}")),
        None => renamed(key, "import", url),
    }
}

fn with_reference(reader: &mut Reader<'_, '_>, import: Import, fields: &Fields<'_>) -> Import {
    let Some(at) = fields.get("ref") else { return import };
    let reference =
        reader.word(&at, "`ref: main`").and_then(|text| reader.take(&at, super::url::reference(&text)));
    match import {
        Import::Git(mut git) => {
            git.reference = reference;
            Import::Git(git)
        }
        other => {
            reader.error(
                &at,
                Report::new(Code::Conflict, "`ref` belongs to a git repository").hint("remove it"),
            );
            other
        }
    }
}

/// Reads flat `accelerators`, `cpu`, `memory` and `disk` into `requests`.
pub(super) fn read_resources(
    reader: &mut Reader<'_, '_>,
    fields: &Fields<'_>,
    requests: &mut Option<Requests>,
) {
    for key in ["cpu", "memory", "disk", "accelerators"] {
        let (Some(at), Some(name)) = (fields.get(key), fields.key(key)) else { continue };
        let request = requests.get_or_insert_default();
        let twice = match key {
            "cpu" => request.cpu.is_some(),
            "memory" => request.memory.is_some(),
            "disk" => request.disk.is_some(),
            _ => request.gpu.is_some(),
        };
        if twice {
            let report = Report::new(Code::Conflict, format!("`{key}` is said under `requests` as well"));
            reader.error(&name, report.hint("keep the one under `requests`"));
            continue;
        }
        let Some(modern) = read_request(reader, &at, key, request) else { continue };
        let report =
            Report::new(Code::OldResources, format!("`{key}` is an old spelling, read as `requests`"));
        reader.warn(&name, report.hint(format!("write `resources: {{requests: {{{modern}}}}}`")));
    }
}

/// Reads one flat key into `request`; its modern spelling, unless it could not be read.
fn read_request(
    reader: &mut Reader<'_, '_>,
    at: &At<'_>,
    key: &str,
    request: &mut Requests,
) -> Option<String> {
    match key {
        "cpu" => request.cpu = Some(run::cores(reader, at)?),
        "memory" => request.memory = Some(run::bytes(reader, at)?),
        "disk" => request.disk = Some(run::bytes(reader, at)?),
        _ => {
            let gpu = read_accelerators(reader, at)?;
            let modern = modern_gpu(&gpu);
            request.gpu = Some(gpu);
            return Some(modern);
        }
    }
    Some(format!("{key}: {}", clip(at.node.text().unwrap_or_default())))
}

fn modern_gpu(gpu: &GpuRequest) -> String {
    let product = gpu.device_type.as_deref().unwrap_or("any");
    format!("nvidia.com/gpu: {{device_type: {product}, quantity: {}}}", gpu.quantity)
}

/// `T4:1`, or `T4` for one.
fn read_accelerators(reader: &mut Reader<'_, '_>, at: &At<'_>) -> Option<GpuRequest> {
    let text = reader.word(at, "`accelerators: T4:1`")?;
    let (product, quantity) = text.rsplit_once(':').unwrap_or((&text, "1"));
    let outcome = quantity.trim().parse().ok().filter(|n| *n >= 1).ok_or_else(|| {
        Report::new(Code::BadAmount, format!("`{}` does not say how many GPUs", clip(&text)))
            .hint("write the product, a colon and a number, such as `T4:1`")
    });
    let quantity = reader.take(at, outcome)?;
    Some(GpuRequest { device_type: product_name(product), quantity, mig_resource_type: None })
}

/// A GPU product; `any` and nothing mean any.
pub(super) fn product_name(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty() && !text.eq_ignore_ascii_case("any")).then(|| text.to_owned())
}
