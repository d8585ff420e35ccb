//! Prints a [`Spec`] as canonical YAML, and takes literal secrets out of it. It reads nothing.
//!
//! The canonical form has one spelling for everything: map forms for data, names and types for ports, one order of keys.
//! Defaults are left out.
use serde::Serialize;
use serde_json::Value;

use super::types::{EnvValue, Image, Interactive, Item, Mount, Requests, Resources, Spec};
use super::yaml::Yaml;
use crate::secret::Secret;

/// The canonical text of a run. [`read`](super::read) gives the same run back.
///
/// A literal secret stands in it in clear; [`hide`] first for anything that is stored or shown.
pub fn print(spec: &Spec) -> String {
    let mut yaml = Yaml::default();
    yaml.text("name", Some(&spec.name));
    yaml.text("description", spec.description.as_deref());
    yaml.texts("tags", &spec.tags);
    if spec.resources != Resources::default() {
        yaml.map("resources", |yaml| resources(yaml, &spec.resources));
    }
    image(&mut yaml, &spec.image);
    section(&mut yaml, "import", spec.import.iter(), kind);
    section(&mut yaml, "mount", spec.mount.iter(), mount);
    section(&mut yaml, "export", spec.export.iter(), kind);
    yaml.maps("run", &spec.run, item);
    if let Some(interactive) = &spec.interactive {
        yaml.map("interactive", |yaml| limits(yaml, interactive));
    }
    if !spec.ports.is_empty() {
        yaml.value("ports", serde_json::to_value(&spec.ports).unwrap_or_default());
    }
    if !spec.env.is_empty() {
        yaml.map("env", |yaml| spec.env.iter().for_each(|(key, value)| env(yaml, key, value)));
    }
    yaml.text("service_account_name", spec.service_account_name.as_deref());
    if spec.termination_protection {
        yaml.bare("termination_protection", true);
    }
    yaml.finish()
}

/// Takes the literal secrets (`value` with `secret: true`) out of a run and returns them by name of the variable.
///
/// Each becomes [`EnvValue::InjectSecret`], printed as `{source: inject, secret: true}`: a run that is submitted again
/// from the printed text has to be given the values again (`-e NAME=VALUE`), and they stay secrets.
pub fn hide(spec: &mut Spec) -> Vec<(String, Secret)> {
    let mut taken = Vec::new();
    for (key, value) in &mut spec.env {
        if let EnvValue::Masked(text) = value {
            taken.push((key.clone(), std::mem::take(text)));
            *value = EnvValue::InjectSecret;
        }
    }
    taken
}

fn resources(yaml: &mut Yaml, resources: &Resources) {
    yaml.text("cluster", resources.cluster.as_deref());
    yaml.texts("node_names", &resources.node_names);
    yaml.text("preset", resources.preset.as_deref());
    if let Some(requests) = &resources.requests {
        if *requests == Requests::default() {
            yaml.bare("requests", "{}");
        } else {
            yaml.map("requests", |yaml| self::requests(yaml, requests));
        }
    }
    if resources.spot {
        yaml.bare("spot", true);
    }
}

fn requests(yaml: &mut Yaml, requests: &Requests) {
    if let Some(cpu) = requests.cpu {
        yaml.bare("cpu", cpu);
    }
    if let Some(memory) = requests.memory {
        yaml.bare("memory", memory);
    }
    if let Some(disk) = requests.disk {
        yaml.bare("disk", disk);
    }
    for (key, request) in [("nvidia.com/gpu", &requests.gpu), ("nvidia.com/mig", &requests.mig)] {
        let Some(request) = request else { continue };
        yaml.map(key, |yaml| {
            yaml.text("device_type", request.device_type.as_deref());
            yaml.bare("quantity", request.quantity);
            yaml.text("mig_resource_type", request.mig_resource_type.as_deref());
        });
    }
}

fn image(yaml: &mut Yaml, image: &Image) {
    match &image.credential_name {
        None => yaml.text("image", Some(&image.url)),
        Some(name) => yaml.map("image", |yaml| {
            yaml.text("url", Some(&image.url));
            yaml.text("credential_name", Some(name));
        }),
    }
}

fn section<'s, T: 's>(
    yaml: &mut Yaml,
    name: &str,
    entries: impl ExactSizeIterator<Item = (&'s super::ContainerPath, &'s T)>,
    form: fn(&T) -> Value,
) {
    if entries.len() > 0 {
        yaml.map(name, |yaml| entries.for_each(|(path, value)| yaml.value(path.as_str(), form(value))));
    }
}

/// A source or target as the map of its kind, without what it leaves out. A kind that has no map is the run's own files.
fn kind(thing: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(thing).unwrap_or_default();
    for fields in value.as_object_mut().into_iter().flat_map(|kind| kind.values_mut()) {
        if let Some(fields) = fields.as_object_mut() {
            fields.retain(|key, value| !(value.is_null() || key == "prefix" && value == ""));
        }
    }
    if value.is_string() { "vessl-artifact://".into() } else { value }
}

fn mount(mount: &Mount) -> Value {
    let mut source = kind(&mount.source);
    if !mount.readonly {
        source["readonly"] = false.into();
    }
    source
}

fn item(yaml: &mut Yaml, item: &Item) {
    yaml.text("workdir", item.workdir.as_deref());
    yaml.text("command", item.command.as_deref());
    if let Some(wait) = item.wait {
        yaml.bare("wait", wait);
    }
}

fn limits(yaml: &mut Yaml, interactive: &Interactive) {
    let bare =
        |span: Option<crate::units::Span>| span.map_or_else(|| "0".to_owned(), |span| span.to_string());
    yaml.bare("max_runtime", bare(interactive.max_runtime));
    yaml.map("jupyter", |yaml| yaml.bare("idle_timeout", bare(interactive.idle_timeout)));
}

fn env(yaml: &mut Yaml, key: &str, value: &EnvValue) {
    match value {
        EnvValue::Text(text) => yaml.text(key, Some(text)),
        EnvValue::Secret(name) => yaml.map(key, |yaml| yaml.text("secret", Some(name))),
        EnvValue::Masked(text) => yaml.map(key, |yaml| {
            yaml.text("value", Some(text.expose()));
            yaml.bare("secret", true);
        }),
        EnvValue::Inject => yaml.map(key, |yaml| yaml.bare("source", "inject")),
        EnvValue::InjectSecret => yaml.map(key, |yaml| {
            yaml.bare("source", "inject");
            yaml.bare("secret", true);
        }),
    }
}
