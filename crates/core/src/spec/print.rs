//! Prints a [`Spec`] as canonical YAML, and takes literal secrets out of it. It reads nothing.
//!
//! The canonical form has one spelling for everything: map forms for data, names and types for ports, one order of keys.
//! Defaults are left out.
use super::types::{
    ArtifactRef, Dataset, EnvValue, Export, Gs, Image, Import, Interactive, Item, Model, Mount, MountSource,
    Port, PortKind, Requests, Resources, S3, Spec, Volume,
};
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
    section(&mut yaml, "import", spec.import.iter(), import);
    section(&mut yaml, "mount", spec.mount.iter(), mount);
    section(&mut yaml, "export", spec.export.iter(), export);
    yaml.maps("run", &spec.run, item);
    if let Some(interactive) = &spec.interactive {
        yaml.map("interactive", |yaml| limits(yaml, interactive));
    }
    yaml.maps("ports", &spec.ports, port);
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
    write: fn(&mut Yaml, &str, &T),
) {
    if entries.len() > 0 {
        yaml.map(name, |yaml| entries.for_each(|(path, value)| write(yaml, path.as_str(), value)));
    }
}

fn import(yaml: &mut Yaml, path: &str, import: &Import) {
    if *import == Import::Injected {
        return yaml.text(path, Some("vessl-artifact://"));
    }
    yaml.map(path, |yaml| match import {
        Import::Git(git) => yaml.map("git", |yaml| {
            yaml.text("url", Some(&git.url));
            yaml.text("ref", git.reference.as_deref());
            yaml.text("credential_name", git.credential_name.as_deref());
        }),
        Import::Hf(hf) => yaml.map("hf", |yaml| {
            yaml.text("url", Some(&hf.url));
            yaml.text("ref", hf.reference.as_deref());
            yaml.text("credential_name", hf.credential_name.as_deref());
        }),
        Import::Dataset(it) => dataset(yaml, it),
        Import::Model(it) => model(yaml, it),
        Import::Artifact(it) => artifact(yaml, it),
        Import::S3(it) => s3(yaml, it),
        Import::Gs(it) => gs(yaml, it),
        Import::Volume(it) => volume(yaml, it),
        Import::Injected => {}
    });
}

fn mount(yaml: &mut Yaml, path: &str, mount: &Mount) {
    yaml.map(path, |yaml| {
        match &mount.source {
            MountSource::Dataset(it) => dataset(yaml, it),
            MountSource::Hostpath(it) => yaml.map("hostpath", |yaml| yaml.text("path", Some(&it.path))),
            MountSource::Nfs(it) => yaml.map("nfs", |yaml| {
                yaml.text("server", Some(&it.server));
                yaml.text("path", Some(&it.path));
            }),
            MountSource::Volume(it) => volume(yaml, it),
        }
        if !mount.readonly {
            yaml.bare("readonly", false);
        }
    });
}

fn export(yaml: &mut Yaml, path: &str, export: &Export) {
    if *export == Export::Output {
        return yaml.text(path, Some("vessl-artifact://"));
    }
    yaml.map(path, |yaml| match export {
        Export::Artifact(it) => artifact(yaml, it),
        Export::Dataset(it) => dataset(yaml, it),
        Export::Model(it) => model(yaml, it),
        Export::S3(it) => s3(yaml, it),
        Export::Gs(it) => gs(yaml, it),
        Export::Volume(it) => volume(yaml, it),
        Export::Output => {}
    });
}

fn dataset(yaml: &mut Yaml, it: &Dataset) {
    yaml.map("dataset", |yaml| {
        yaml.text("organization_name", Some(&it.organization_name));
        yaml.text("dataset_name", Some(&it.dataset_name));
    });
}

fn model(yaml: &mut Yaml, it: &Model) {
    yaml.map("model", |yaml| {
        yaml.text("organization_name", Some(&it.organization_name));
        yaml.text("model_repository_name", Some(&it.model_repository_name));
        if let Some(number) = it.model_number {
            yaml.bare("model_number", number);
        }
    });
}

fn artifact(yaml: &mut Yaml, it: &ArtifactRef) {
    yaml.map("artifact", |yaml| {
        yaml.text("organization_name", it.organization_name.as_deref());
        yaml.text("project_name", it.project_name.as_deref());
        yaml.text("name", Some(&it.name));
    });
}

fn s3(yaml: &mut Yaml, it: &S3) {
    yaml.map("s3", |yaml| {
        yaml.text("bucket", Some(&it.bucket));
        yaml.text("prefix", Some(&it.prefix).filter(|prefix| !prefix.is_empty()).map(String::as_str));
        yaml.text("endpoint", it.endpoint.as_deref());
        yaml.text("region", it.region.as_deref());
        yaml.text("credential_name", it.credential_name.as_deref());
    });
}

fn gs(yaml: &mut Yaml, it: &Gs) {
    yaml.map("gs", |yaml| {
        yaml.text("bucket", Some(&it.bucket));
        yaml.text("prefix", Some(&it.prefix).filter(|prefix| !prefix.is_empty()).map(String::as_str));
        yaml.text("endpoint", it.endpoint.as_deref());
        yaml.text("credential_name", it.credential_name.as_deref());
    });
}

fn volume(yaml: &mut Yaml, it: &Volume) {
    yaml.map("volume", |yaml| {
        yaml.text("storage_name", Some(&it.storage_name));
        yaml.text("volume_name", it.volume_name.as_deref());
    });
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

fn port(yaml: &mut Yaml, port: &Port) {
    let kind = match port.kind {
        PortKind::Http => "http",
        PortKind::Tcp => "tcp",
        PortKind::Udp => "udp",
    };
    yaml.text("name", Some(&port.name));
    yaml.bare("type", kind);
    yaml.bare("port", port.port);
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
