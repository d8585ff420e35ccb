//! Planning, case by case: what a file comes to on a given site, and every reason why it cannot be carried out.
use std::collections::BTreeSet;

use vessl_core::credential::CredentialKind;
use vessl_core::ids::{Nonce, PresetName, ProjectRef, RunId};
use vessl_core::object::ObjectName;
use vessl_core::plan::{
    Amounts, Catalogue, Cluster, EnvFrom, ExportTarget, GitParts, Gpu, ImagePlan, ImportSource, MountFrom,
    Node, Planned, Preset, Stamp, codes, machine_paths, plan, refused_everywhere,
};
use vessl_core::secret::Secret;
use vessl_core::spec::{self, ReadOptions, Spec};
use vessl_core::units::Span;
use vessl_core::wire::{Level, Problem};

use crate::plan_stores::{storages, volumes};
use crate::support::plan_spec;

pub(crate) const GIB: u64 = 1 << 30;

pub(crate) fn node(name: &str, cores: u64, gpus: u32) -> Node {
    let gpu = |index| Gpu {
        index,
        uuid: format!("GPU-{index}"),
        product: "NVIDIA A100-SXM4-80GB".to_owned(),
        memory: 80 * GIB,
    };
    Node { name: name.into(), cpu_milli: cores * 1000, memory: 64 * GIB, gpus: (0..gpus).map(gpu).collect() }
}

pub(crate) fn preset(name: &str, cores: u64, gpus: u32) -> Preset {
    let amounts = Amounts { cpu_milli: cores * 1000, memory: cores * 4 * GIB, gpus, gpu_type: None };
    Preset { name: name.into(), amounts }
}

pub(crate) fn local() -> Cluster {
    Cluster {
        nodes: vec![node("box", 8, 2)],
        presets: vec![
            preset("cpu-small", 2, 0),
            preset("cpu-large", 8, 0),
            preset("gpu-1", 4, 1),
            preset("gpu-2", 8, 2),
        ],
        default_preset: Some("cpu-small".into()),
        allow_host_image: true,
        local: true,
        hostpath_roots: vec!["/data".to_owned(), "/mnt/shared".to_owned()],
        ..Cluster::default()
    }
}

fn far() -> Cluster {
    Cluster { nodes: vec![node("w1", 16, 0), node("w2", 4, 1)], ..Cluster::default() }
}

pub(crate) fn catalogue() -> Catalogue {
    Catalogue {
        project: ProjectRef::new("acme", "vision"),
        clusters: [("local".into(), local()), ("far".into(), far())].into(),
        default_cluster: "local".into(),
        secrets: vec!["db-password".to_owned(), "HF_TOKEN".to_owned()],
        credentials: [
            ("hub".into(), CredentialKind::Registry),
            ("gh".into(), CredentialKind::Git),
            ("keys".into(), CredentialKind::S3),
            ("robot".into(), CredentialKind::Gcs),
            ("face".into(), CredentialKind::Hf),
        ]
        .into(),
        objects: [
            (ProjectRef::new("acme", "vision").artifact("weights").into(), [(1, "ab12".to_owned())].into()),
            (ObjectName::dataset("acme", "mnist"), [(3, "cd34".to_owned())].into()),
            (ObjectName::dataset("acme", "hollow"), [].into()),
            (ObjectName::model_repository("acme", "llama"), [(7, "ef56".to_owned())].into()),
        ]
        .into(),
        storages: storages(),
        volumes: volumes(),
        projects: ["shared", "vision"].map(|project| ProjectRef::new("acme", project)).into(),
        missing: BTreeSet::new(),
    }
}

pub(crate) fn spec_of(body: &str) -> Spec {
    let image = if body.contains("image:") { "" } else { "image: busybox\n" };
    let text = format!("name: test\n{image}{body}\n");
    let read = spec::read(text.as_bytes(), ReadOptions::default());
    read.spec.unwrap_or_else(|| panic!("{text}\n{:?}", read.problems))
}

fn try_plan(body: &str, inject: &[(&str, &str)], catalogue: &Catalogue) -> Result<Planned, Vec<Problem>> {
    let inject: Vec<_> = inject.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    plan_spec(&spec_of(body), &inject, catalogue)
}

pub(crate) fn planned(body: &str) -> Planned {
    try_plan(body, &[], &catalogue()).unwrap_or_else(|problems| panic!("{body}\n{problems:#?}"))
}

pub(crate) fn lines(problems: &[Problem], level: Level) -> Vec<String> {
    let of_level = problems.iter().filter(|problem| problem.level == level);
    of_level
        .map(|problem| {
            assert_eq!((problem.line, problem.column), (0, 0), "planning knows no places");
            let hint = problem.hint.as_ref().map(|hint| format!(" | {hint}")).unwrap_or_default();
            format!("{} {}: {}{hint}", problem.code, problem.path, problem.message)
        })
        .collect()
}

/// Every error of `body`, in order.
pub(crate) fn check_on(catalogue: &Catalogue, body: &str, expected: &[&str]) {
    let problems = try_plan(body, &[], catalogue).err().unwrap_or_default();
    assert_eq!(lines(&problems, Level::Error), expected, "{body}");
}

pub(crate) fn check(body: &str, expected: &[&str]) {
    check_on(&catalogue(), body, expected);
}

/// The same, of a file that this version refuses on every server: the same is said without one.
fn check_everywhere(body: &str, expected: &[&str]) {
    check(body, expected);
    assert_eq!(lines(&refused_everywhere(&spec_of(body)), Level::Error), expected, "{body}");
}

/// Preset and amounts that `resources` come to, and the notes.
fn check_size(resources: &str, expected: (Option<&str>, u64, u32), notes: &[&str]) {
    let got = planned(&format!("resources: {resources}"));
    let amounts = &got.plan.resources;
    assert_eq!(
        (got.plan.preset.as_ref().map(PresetName::as_str), amounts.cpu_milli, amounts.gpus),
        expected,
        "{resources}"
    );
    let told = [lines(&got.notes, Level::Note), lines(&got.notes, Level::Warning)].concat();
    assert_eq!(told, notes, "{resources}");
}

#[test]
fn sizes_come_from_presets() {
    check_size("{}", (Some("cpu-small"), 2000, 0), &[]);
    check_size("{preset: gpu-2}", (Some("gpu-2"), 8000, 2), &[]);
    check_size(
        "{preset: gpu-1, requests: {cpu: 3, nvidia.com/gpu: {quantity: 1}}}",
        (Some("gpu-1"), 4000, 1),
        &[],
    );
    let hint = "requests get the smallest preset that holds them; the presets of cluster `local` stand in the server's settings file: \
                change them there (`presets`), or ask for a preset as it is";
    let chosen = |asked, preset| {
        format!(
            "preset-chosen resources.requests: the requests ({asked}) were rounded up to preset {preset} | {hint}"
        )
    };
    let large = chosen("2.5 cores", "`cpu-large`: 8 cores, 32.0 GiB of memory");
    check_size("{requests: {cpu: 2500m}}", (Some("cpu-large"), 8000, 0), &[&large]);
    let one = chosen("1 GPU of type `A100`", "`gpu-1`: 4 cores, 16.0 GiB of memory, 1 GPU of type `A100`");
    check_size(
        "{requests: {nvidia.com/gpu: {device_type: A100, quantity: 1}}}",
        (Some("gpu-1"), 4000, 1),
        &[&one],
    );
    let small = chosen("8.0 GiB of memory", "`cpu-small`: 2 cores, 8.0 GiB of memory");
    check_size("{requests: {memory: 8Gi}}", (Some("cpu-small"), 2000, 0), &[&small]);
    // Exactly a preset is not rounded.
    check_size("{requests: {cpu: 2, memory: 8Gi}}", (Some("cpu-small"), 2000, 0), &[]);
}

#[test]
fn a_cluster_without_presets_gives_the_request() {
    check_size("{cluster: far, requests: {cpu: 6, memory: 10Gi}}", (None, 6000, 0), &[]);
    check(
        "resources: {cluster: far}",
        &[
            "no-default-preset resources: neither `preset` nor `requests` is given, and cluster `far` has no default preset | \
           add `requests: {cpu: 2, memory: 4Gi}`",
        ],
    );
    let mut none = catalogue();
    none.clusters.get_mut("local").unwrap().default_preset = None;
    check_on(
        &none,
        "description: no resources at all",
        &[
            "no-default-preset resources: neither `preset` nor `requests` is given, and cluster `local` has no default preset | \
           add `preset:` with one of `cpu-small`, `cpu-large`, `gpu-1`, `gpu-2`",
        ],
    );
}

#[test]
fn unknown_names_list_the_candidates() {
    check(
        "resources: {cluster: lokal}",
        &[
            "unknown-cluster resources.cluster: there is no cluster `lokal` | did you mean `local`? there is `far`, `local`",
        ],
    );
    check(
        "resources: {preset: gpu-8}",
        &["unknown-preset resources.preset: cluster `local` has no preset `gpu-8` | \
           did you mean `gpu-1`? there is `cpu-small`, `cpu-large`, `gpu-1`, `gpu-2`"],
    );
    check(
        "resources: {cluster: far, node_names: [w1, zz, yy], requests: {cpu: 1}}",
        &[
            "unknown-node resources.node_names[1]: cluster `far` has no node `zz` | there is `w1`, `w2`",
            "unknown-node resources.node_names[2]: cluster `far` has no node `yy` | there is `w1`, `w2`",
        ],
    );
    let empty = Catalogue { default_cluster: "local".into(), ..Catalogue::default() };
    check_on(
        &empty,
        "description: x",
        &[
            "unknown-cluster resources.cluster: no cluster is named, and there is no default cluster | there is no cluster yet",
        ],
    );
}

#[test]
fn what_can_never_be_placed_is_refused() {
    check(
        "resources: {cluster: far, requests: {cpu: 99}}",
        &["no-node-fits resources.requests: no node of cluster `far` has 99 cores | \
           the largest node, `w2`, has 4 cores, 64.0 GiB of memory and 1 GPU (NVIDIA A100-SXM4-80GB)"],
    );
    check(
        "resources: {cluster: far, node_names: [w2], requests: {cpu: 8}}",
        &["no-node-fits resources.requests: no node of cluster `far` has 8 cores | \
           the largest node, `w2`, has 4 cores, 64.0 GiB of memory and 1 GPU (NVIDIA A100-SXM4-80GB)"],
    );
    check(
        "resources: {requests: {nvidia.com/gpu: {device_type: H100, quantity: 1}}}",
        &["no-node-fits resources.requests: no node of cluster `local` has 1 GPU of type `H100` | \
           the largest node, `box`, has 8 cores, 64.0 GiB of memory and 2 GPUs (NVIDIA A100-SXM4-80GB)"],
    );
    check(
        "resources: {requests: {cpu: 1, memory: 60Gi}}",
        &[
            "no-preset-fits resources.requests: no preset of cluster `local` holds 1 core, 60.0 GiB of memory | \
           lower the requests to one of `cpu-small` (2 cores, 8.0 GiB of memory), `cpu-large` (8 cores, 32.0 GiB of memory), \
           `gpu-1` (4 cores, 16.0 GiB of memory, 1 GPU), `gpu-2` (8 cores, 32.0 GiB of memory, 2 GPUs)",
        ],
    );
    check(
        "resources: {preset: cpu-small, requests: {cpu: 4}}",
        &[
            "request-over-preset resources.requests: the requests (4 cores) do not fit into preset `cpu-small` (2 cores, 8.0 GiB of memory) | \
           lower the requests, or remove `preset` to let the smallest one that fits be chosen",
        ],
    );
    let mut shrunk = catalogue();
    shrunk.clusters.get_mut("local").unwrap().nodes[0].gpus.truncate(1);
    check_on(
        &shrunk,
        "resources: {preset: gpu-2}",
        &[
            "no-node-fits resources.preset: no node of cluster `local` has 8 cores, 32.0 GiB of memory, 2 GPUs | \
           the largest node, `box`, has 8 cores, 64.0 GiB of memory and 1 GPU (NVIDIA A100-SXM4-80GB)",
        ],
    );
    let got = try_plan("resources: {requests: {nvidia.com/gpu: {quantity: 1}}}", &[], &shrunk).unwrap();
    assert_eq!(got.plan.preset, Some("gpu-1".into()), "a preset that no node holds is not chosen");
}

fn image_of(image: &str) -> (ImagePlan, Vec<String>) {
    let got = planned(&format!("image: {image}\nrun: ['true']"));
    (got.plan.image, got.needs.credentials.into_iter().map(String::from).collect())
}

#[test]
fn images_are_resolved() {
    let registry = |reference: &str, credential: Option<&str>| ImagePlan::Registry {
        reference: reference.to_owned(),
        credential: credential.map(Into::into),
    };
    assert_eq!(image_of("ubuntu:24.04"), (registry("ubuntu:24.04", None), vec![]));
    let private = "{url: 'r.io/x/y:1', credential_name: hub}";
    assert_eq!(image_of(private), (registry("r.io/x/y:1", Some("hub")), vec!["registry/hub".to_owned()]));
    assert_eq!(image_of("host://").0, ImagePlan::Host);
    let layout = |path: &str, tag: Option<&str>| ImagePlan::Layout {
        path: path.to_owned(),
        tag: tag.map(str::to_owned),
    };
    assert_eq!(image_of("oci:///srv/img").0, layout("/srv/img", None));
    assert_eq!(image_of("oci:///srv/img:v1").0, layout("/srv/img", Some("v1")));
    assert_eq!(image_of("oci:///a:b/img").0, layout("/a:b/img", None));
    let got = planned("image: {url: 'host://', credential_name: hub}\nrun: ['true']");
    assert_eq!(
        lines(&got.notes, Level::Warning),
        [
            "no-effect image.credential_name: the credential is not used: the machine's own file system needs none"
        ]
    );
}

#[test]
fn credentials_must_exist_and_be_of_the_kind() {
    check(
        "image: {url: x, credential_name: hbu}",
        &[
            "unknown-credential image.credential_name: there is no credential `hbu` | did you mean `hub`? there is `hub`; \
             or store it: `vessl credential create hbu --kind registry --username USER`",
        ],
    );
    check(
        "image: {url: x, credential_name: gh}",
        &[
            "wrong-credential image.credential_name: credential `gh` is a git credential; a registry credential is needed here | \
           store one under another name: `vessl credential create NAME --kind registry --username USER`",
        ],
    );
    let none = Catalogue { credentials: [].into(), ..catalogue() };
    check_on(
        &none,
        "import: {/code: {git: {url: h.com/x/y, credential_name: gh}}}",
        &["unknown-credential import./code.git.credential_name: there is no credential `gh` | \
           store it: `vessl credential create gh --kind git`"],
    );
    check_on(
        &none,
        "image: {url: x, credential_name: '$(id)'}",
        &["unknown-credential image.credential_name: there is no credential `$(id)` | \
           store it: `vessl credential create NAME --kind registry --username USER`"],
    );
}

#[test]
fn paths_of_the_machine_mean_something_on_it_alone() {
    let hint = "use it on the cluster `local`";
    let means = "is a path of the server's machine and means nothing on this cluster";
    let on_far = "resources: {cluster: far, requests: {cpu: 1}}\nrun: ['true']\n";
    check(&format!("{on_far}image: 'host://'"), &[&format!("local-only image: `host://` {means} | {hint}")]);
    check(&format!("{on_far}image: 'oci:///x'"), &[&format!("local-only image: `oci://` {means} | {hint}")]);
    let git = format!("{on_far}import: {{/code: {{git: {{url: 'file:///srv/repo'}}}}}}");
    check(&git, &[&format!("local-only import./code: `file:///srv/repo` {means} | {hint}")]);
    let mut strict = catalogue();
    strict.clusters.get_mut("local").unwrap().allow_host_image = false;
    check_on(
        &strict,
        "image: 'host://'\nrun: ['true']",
        &["not-allowed image: the machine's own file system (`host://`) is not allowed as an image here | \
           use an image of a registry, or set `allow_host_image = true` in the server's configuration"],
    );
}

#[test]
fn data_is_resolved() {
    let got = planned(
        "import:\n  /code: git://github.com/x/y\n  /code/sub: {git: {url: github.com/x/z, ref: v1, credential_name: gh}}\n  \
         /w: vessl-artifact://acme/vision/weights\nmount: {/shared: 'hostpath:///mnt/shared/set', /rw: {hostpath: {path: /data}, \
         readonly: false}}\nexport: {/out: vessl-artifact://, /model: {artifact: {name: model}}, /s: vessl-artifact://acme/shared/m}",
    );
    let git = |url: &str, reference: Option<&str>, credential: Option<&str>| ImportSource::Git {
        url: url.to_owned(),
        reference: reference.map(str::to_owned),
        credential: credential.map(Into::into),
        parts: GitParts::default(),
    };
    let imports: Vec<_> =
        got.plan.imports.iter().map(|import| (import.path.as_str(), &import.source)).collect();
    let tree = ImportSource::Tree {
        label: "vessl-artifact://acme/vision/weights".to_owned(),
        manifest: "ab12".to_owned(),
    };
    let sub = git("https://github.com/x/z", Some("v1"), Some("gh"));
    let code = git("https://github.com/x/y", None, None);
    assert_eq!(imports, [("/code", &code), ("/code/sub", &sub), ("/w", &tree)]);
    assert_eq!(got.needs.credentials.into_iter().map(String::from).collect::<Vec<_>>(), ["git/gh"]);
    let roots = vec!["/data".to_owned(), "/mnt/shared".to_owned()];
    let from = |path: &str| MountFrom::Hostpath { path: path.to_owned(), roots: roots.clone() };
    let mounts: Vec<_> =
        got.plan.mounts.iter().map(|mount| (mount.path.as_str(), &mount.source, mount.readonly)).collect();
    assert_eq!(mounts, [("/rw", &from("/data"), false), ("/shared", &from("/mnt/shared/set"), true)]);
    let artifact =
        |project: &str, name: &str| ExportTarget::Artifact(ProjectRef::new("acme", project).artifact(name));
    let exports: Vec<_> =
        got.plan.exports.iter().map(|export| (export.path.as_str(), &export.target)).collect();
    let (model, shared) = (artifact("vision", "model"), artifact("shared", "m"));
    assert_eq!(exports, [("/model", &model), ("/out", &ExportTarget::Output), ("/s", &shared)]);
}

#[test]
fn data_that_is_not_there_or_not_allowed_is_refused() {
    check(
        "import: {/w: vessl-artifact://acme/vision/weight}",
        &["unknown-artifact import./w: there is no artifact `acme/vision/weight` | \
           did you mean `acme/vision/weights`? there is `acme/vision/weights`"],
    );
    check(
        "import: {/w: vessl-artifact://acme/vision/eights-2}",
        &[
            "unknown-artifact import./w: there is no artifact `acme/vision/eights-2` | there is `acme/vision/weights`",
        ],
    );
    check(
        "mount: {/etc2: 'hostpath:///etc', /d: 'hostpath:///database'}",
        &[
            "not-allowed mount./d: the path `/database` of the machine may not be mounted | only what is below `/data`, \
             `/mnt/shared` may; to allow this one, write `hostpath_roots = [\"/data\", \"/mnt/shared\", \"/database\"]` into \
             the server's settings file: it counts from the next start of the server (`vessl server stop`)",
            "not-allowed mount./etc2: the path `/etc` of the machine may not be mounted | only what is below `/data`, \
             `/mnt/shared` may; to allow this one, write `hostpath_roots = [\"/data\", \"/mnt/shared\", \"/etc\"]` into \
             the server's settings file: it counts from the next start of the server (`vessl server stop`)",
        ],
    );
    let mut none = catalogue();
    let local = none.clusters.get_mut("local").unwrap();
    local.hostpath_roots.clear();
    local.settings = Some("/etc/vessl.toml".to_owned());
    check_on(
        &none,
        "mount: {/d: 'hostpath:///data'}",
        &["not-allowed mount./d: the path `/data` of the machine may not be mounted | \
           nothing of the machine may be mounted yet; to allow this one, write `hostpath_roots = [\"/data\"]` into \
           `/etc/vessl.toml`: it counts from the next start of the server (`vessl server stop`)"],
    );
    let body = "image: oci:///no/layout:1\nimport: {/c: {git: {url: 'file:///no/code'}}, /e: {git: {url: 'file:///no%20code'}}}\n\
                mount: {/d: 'hostpath:///data/no', /x: 'hostpath:///data/x'}";
    let missing = machine_paths(&spec_of(body));
    assert_eq!(
        missing,
        ["/data/no", "/data/x", "/no code", "/no/code", "/no/layout"].map(str::to_owned).into()
    );
    let missing = missing.into_iter().filter(|path| path != "/data/x").collect();
    let hint = "correct the path, or make what should be there";
    check_on(
        &Catalogue { missing, ..catalogue() },
        body,
        &[
            &format!("unknown-path image: the machine has no `/no/layout` | {hint}"),
            &format!("unknown-path import./c: the machine has no `/no/code` | {hint}"),
            &format!("unknown-path import./e: the machine has no `/no code` | {hint}"),
            &format!("unknown-path mount./d: the machine has no `/data/no` | {hint}"),
        ],
    );
    check(
        "export: {/a: vessl-artifact://acme/vision/m, /b: {artifact: {name: m}}, /c: vessl-artifact://other/p/m}",
        &[
            "same-target export./b: `/a` is exported to `vessl-artifact://acme/vision/m` as well | give each path its own target",
            "unknown-project export./c: there is no project `other/p` to write to | there is `acme/vision`, `acme/shared`",
        ],
    );
}

/// The local cluster where runs see of the machine only what lies below `roots`.
fn fenced(roots: &[&str]) -> Catalogue {
    let mut fenced = catalogue();
    let local = fenced.clusters.get_mut("local").expect("it is the local one");
    local.allow_host_image = false;
    local.hostpath_roots = roots.iter().map(|root| (*root).to_owned()).collect();
    fenced
}

#[test]
fn sources_of_the_machine_lie_below_the_roots_where_it_may_not_be_seen() {
    let fence = fenced(&["/data", "/srv/sets"]);
    let refusal = |at: &str, path: &str| {
        format!(
            "not-allowed {at}: the path `{path}` of the machine may not be used | only what is below `/data`, `/srv/sets` may; \
             to allow this one, write `hostpath_roots = [\"/data\", \"/srv/sets\", \"{path}\"]` into the server's settings \
             file: it counts from the next start of the server (`vessl server stop`)"
        )
    };
    let git = |url: &str| format!("import: {{/c: {{git: {{url: '{url}'}}}}}}");
    for (url, path) in [
        ("file:///etc/code", "/etc/code"),
        ("file:///database", "/database"),
        ("file:///etc%2fa%20b", "/etc/a b"),
        ("file:///data%ff", "/data%FF"),
    ] {
        check_on(&fence, &git(url), &[&refusal("import./c", path)]);
    }
    for url in [
        "file:///data/code",
        "file:///data",
        "file:///srv/sets/a%20b",
        "https://host/etc/code",
        "git@host:etc/x",
    ] {
        check_on(&fence, &git(url), &[]);
    }
    for (image, path) in [("oci:///images/a:1", "/images/a"), ("oci:///database/x.tar", "/database/x.tar")] {
        check_on(&fence, &format!("image: {image}"), &[&refusal("image", path)]);
    }
    for image in ["oci:///data/a:1", "oci:///srv/sets", "busybox", "host:5000/data"] {
        check_on(&fence, &format!("image: {image}"), &[]);
    }
    // Nothing is said of what is there.
    let missing = ["/etc/code", "/images/a"].map(str::to_owned).into();
    let both = format!("image: oci:///images/a\n{}", git("file:///etc/code"));
    let told = [refusal("image", "/images/a"), refusal("import./c", "/etc/code")];
    check_on(&Catalogue { missing, ..fence }, &both, &[&told[0], &told[1]]);
    let nothing = "not-allowed image: the path `/data/a` of the machine may not be used | nothing of the machine may be used yet; \
                   to allow this one, write `hostpath_roots = [\"/data/a\"]` into the server's settings file: it counts from the \
                   next start of the server (`vessl server stop`)";
    check_on(&fenced(&[]), "image: oci:///data/a", &[nothing]);
    // Relative addresses are paths too.
    let options = ReadOptions { base: Some("/home/me"), ..ReadOptions::default() };
    let text = "name: test\nimage: busybox\nimport: {/c: {git: {url: ../you}}}\n";
    let spec = spec::read(text.as_bytes(), options).spec.unwrap();
    let stamp = Stamp {
        run: RunId(1),
        attempt: 1,
        nonce: Nonce(9),
        instance: "0a1b2c3d",
        inject: &[],
        max_runtime: None,
    };
    let problems = plan(&spec, &fenced(&["/home/me"]), &stamp).unwrap_err();
    assert!(
        lines(&problems, Level::Error)[0].contains("`/home/you` of the machine may not be used"),
        "{problems:?}"
    );
}

#[test]
fn a_plan_says_where_its_sources_must_lie() {
    let fence = |catalogue: &Catalogue, body: &str| try_plan(body, &[], catalogue).unwrap().plan.fence;
    assert_eq!(fence(&catalogue(), "image: oci:///anywhere"), None);
    assert_eq!(fence(&fenced(&["/data"]), ""), Some(vec!["/data".to_owned()]));
    assert_eq!(fence(&fenced(&[]), ""), Some(Vec::new()));
    // A plan of before this was there.
    let mut plan = serde_json::to_value(try_plan("", &[], &fenced(&["/data"])).unwrap().plan).unwrap();
    plan.as_object_mut().unwrap().remove("fence");
    assert_eq!(serde_json::from_value::<vessl_core::plan::Plan>(plan).unwrap().fence, None);
}

#[test]
fn what_this_version_cannot_do_is_said() {
    check_everywhere(
        "resources: {spot: true}",
        &[
            "unsupported resources.spot: capacity that can be taken away (`spot`) is not offered in this version | \
           remove `spot` to run on ordinary capacity",
        ],
    );
    check_everywhere(
        "resources: {requests: {nvidia.com/mig: {mig_resource_type: 1g.10gb, quantity: 1}}}",
        &[
            "unsupported resources.requests.nvidia.com/mig: slices of a GPU (MIG) are not offered in this version | \
           ask for whole GPUs: `nvidia.com/gpu: {quantity: 1}`",
        ],
    );
    check_everywhere(
        "image: 'host://'",
        &[
            "no-command image: there is nothing to run: `host://` has no program of its own | add `run: [{command: …}]`",
        ],
    );
}

/// Every reason why a file can be refused, and whether each server has it.
#[test]
fn what_depends_on_no_server_is_refused_without_one() {
    let long = "x".repeat(140_000);
    let git = "import: {/c: {git: {url: h.com/x/y, credential_name: hub}}}";
    let (here, everywhere) = (false, true);
    let cases = [
        ("unsupported", "resources: {preset: none, spot: true}".to_owned(), everywhere),
        ("no-command", "image: host://".to_owned(), everywhere),
        (
            "same-target",
            "export: {/a: vessl-artifact://o/p/x, /b: vessl-artifact://o/p/x}".to_owned(),
            everywhere,
        ),
        (
            "same-target",
            "export: {/a: {artifact: {name: x}}, /b: {artifact: {name: x}}}".to_owned(),
            everywhere,
        ),
        // Only in the project `vision` are these the same.
        (
            "same-target",
            "export: {/a: {artifact: {name: x}}, /b: vessl-artifact://acme/vision/x}".to_owned(),
            here,
        ),
        ("env-too-long", format!("env: {{A: {long}}}"), everywhere),
        ("env-too-long", format!("env: {{A: {{value: {long}, secret: true}}}}"), everywhere),
        // One name is one login, and not of both kinds.
        ("wrong-credential", format!("image: {{url: x, credential_name: hub}}\n{git}"), everywhere),
        ("wrong-credential", git.to_owned(), here),
        ("wrong-credential", format!("image: {{url: 'oci:///x', credential_name: hub}}\n{git}"), here),
        // These names cannot be given to anything.
        ("unknown-secret", "env: {A: {secret: not a name}}".to_owned(), everywhere),
        ("unknown-secret", "env: {A: {secret: none}}".to_owned(), here),
        ("unknown-credential", "image: {url: x, credential_name: not a name}".to_owned(), everywhere),
        ("unknown-credential", "image: {url: x, credential_name: none}".to_owned(), here),
        ("unknown-project", "export: {/a: vessl-artifact://o/not a name/x}".to_owned(), everywhere),
        ("unknown-project", "export: {/a: vessl-artifact://o/none/x}".to_owned(), here),
        ("unknown-artifact", "import: {/a: vessl-artifact://o/not a name/x}".to_owned(), everywhere),
        ("unknown-artifact", "import: {/a: vessl-artifact://o/p/x}".to_owned(), here),
        ("unknown-dataset", "import: {/a: vessl-dataset://o/x}".to_owned(), here),
        ("unknown-model", "export: {/a: vessl-model://o/x}".to_owned(), here),
        ("no-version", "import: {/a: vessl-model://acme/llama/8}".to_owned(), here),
        ("unknown-storage", "export: {/a: volume://none}".to_owned(), here),
        ("unknown-volume", "mount: {/a: volume://lab/none}".to_owned(), here),
        ("unknown-cluster", "resources: {cluster: none}".to_owned(), here),
        ("unknown-node", "resources: {node_names: [none]}".to_owned(), here),
        ("unknown-preset", "resources: {preset: none}".to_owned(), here),
        ("no-default-preset", "resources: {cluster: far}".to_owned(), here),
        ("request-over-preset", "resources: {preset: cpu-small, requests: {cpu: 4}}".to_owned(), here),
        ("no-preset-fits", "resources: {requests: {cpu: 1, memory: 50Gi}}".to_owned(), here),
        ("no-node-fits", "resources: {requests: {cpu: 1000}}".to_owned(), here),
        ("not-allowed", "mount: {/a: hostpath:///etc}".to_owned(), here),
        (
            "local-only",
            "resources: {cluster: far, requests: {cpu: 1}}\nimage: host://\nrun: a".to_owned(),
            here,
        ),
        ("unknown-path", "import: {/a: {git: {url: 'file:///gone'}}}".to_owned(), here),
        ("over-time-limit", "interactive: {max_runtime: 2h}".to_owned(), here),
        ("missing-inject", "env: {A: {source: inject}, B: {source: inject, secret: true}}".to_owned(), here),
    ];
    let mut site = Catalogue { missing: ["/gone".to_owned()].into(), ..catalogue() };
    site.clusters.get_mut("local").unwrap().max_runtime_limit = Some(Span(3_600_000));
    for (code, body, is_everywhere) in &cases {
        let codes = |problems: &[Problem]| {
            let errors = problems.iter().filter(|problem| problem.level == Level::Error);
            errors.map(|problem| problem.code.clone()).collect::<BTreeSet<_>>()
        };
        let submitted = codes(&try_plan(body, &[], &site).err().unwrap_or_default());
        assert!(submitted.contains(*code), "{body}: {submitted:?}");
        let alone = codes(&refused_everywhere(&spec_of(body)));
        assert!(alone.is_subset(&submitted), "{body}: {alone:?} is not in {submitted:?}");
        assert_eq!(alone.contains(*code), *is_everywhere, "{body}: {alone:?}");
    }
    // The rest is only said of what is accepted, of `-e`, or of what the server finds on its machine.
    let rest = ["bad-inject", "bad-image", "preset-chosen", "secret-use", "no-effect", "host-ports"];
    let seen: BTreeSet<&str> = cases.iter().map(|(code, ..)| *code).chain(rest).collect();
    assert_eq!(seen, codes().iter().map(|info| info.code).collect::<BTreeSet<_>>());
}

#[test]
fn every_problem_is_reported_at_once() {
    let body = "image: {url: x, credential_name: nope}\nimport: {/a: vessl-dataset://a/b, /b: vessl-artifact://a/b/c}\n\
                mount: {/m: volume://s/v}\nenv: {A: {secret: NOPE}, B: {source: inject}}\nresources: {cluster: nope, spot: true}";
    let problems = try_plan(body, &[], &catalogue()).unwrap_err();
    let codes: Vec<_> = problems.iter().map(|problem| problem.code.as_str()).collect();
    let expected = [
        "unsupported",
        "unknown-cluster",
        "unknown-credential",
        "unknown-dataset",
        "unknown-artifact",
        "unknown-storage",
        "unknown-secret",
        "missing-inject",
    ];
    assert_eq!(codes, expected);
}

/// The environment as `KEY=value` or `KEY<secret`.
fn env_of(body: &str, inject: &[(&str, &str)]) -> (Vec<String>, Planned) {
    let got = try_plan(body, inject, &catalogue()).unwrap_or_else(|problems| panic!("{body}\n{problems:#?}"));
    let shown = got.plan.env.iter().map(|env| match &env.value {
        EnvFrom::Text(text) => format!("{}={text}", env.key),
        EnvFrom::Secret(key) => format!("{}<{key}", env.key),
    });
    (shown.collect(), got)
}

#[test]
fn the_environment_is_in_order() {
    let (env, got) =
        env_of("env: {B: '1e-4', A: {value: x}, C: ''}", &[("A", "over"), ("D", "new"), ("D", "last")]);
    assert_eq!(
        env,
        [
            "VESSL_RUN_ID=123",
            "VESSL_RUN_NAME=test",
            "VESSL_CLUSTER=local",
            "B=1e-4",
            "A=over",
            "C=",
            "D=last"
        ]
    );
    assert!(got.notes.is_empty(), "{:?}", got.notes);
    let (env, got) = env_of("env: {VESSL_RUN_ID: mine}", &[("VESSL_CLUSTER", "x")]);
    assert_eq!(env, ["VESSL_RUN_ID=123", "VESSL_RUN_NAME=test", "VESSL_CLUSTER=local"]);
    assert_eq!(
        lines(&got.notes, Level::Warning),
        [
            "no-effect env.VESSL_RUN_ID: `VESSL_RUN_ID` is set by vessl; the given value is not used",
            "no-effect env.VESSL_CLUSTER: `VESSL_CLUSTER` is set by vessl; the given value is not used",
        ]
    );
}

#[test]
fn secrets_are_named_or_kept_apart() {
    let body = "env:\n  STORED: {secret: db-password}\n  HF_TOKEN: {secret: true}\n  NAMED: {value: db-password, secret: true}\n  \
                LITERAL: {value: hunter2, secret: true}\n  EMPTY: {value: '', secret: true}";
    let (env, got) = env_of(body, &[]);
    assert_eq!(env[3..], ["STORED<STORED", "HF_TOKEN<HF_TOKEN", "NAMED<NAMED", "LITERAL<LITERAL", "EMPTY="]);
    let stored: Vec<_> = got.needs.stored.iter().map(|(key, name)| format!("{key}={name}")).collect();
    assert_eq!(stored, ["HF_TOKEN=HF_TOKEN", "NAMED=db-password", "STORED=db-password"]);
    assert_eq!(got.needs.literal.get("LITERAL").map(Secret::expose), Some("hunter2"));
    assert_eq!(got.needs.literal.len(), 1);
    let all = format!("{got:?} {}", serde_json::to_string(&got.plan).unwrap());
    assert!(!all.contains("hunter2"), "a secret can be printed: {all}");
    let notes = lines(&got.notes, Level::Warning);
    assert_eq!(notes[0], "secret-use env.NAMED: `NAMED` gets the value of the stored secret `db-password`");
    assert!(
        notes[1]
            .starts_with("secret-use env.LITERAL: no stored secret is called like the value of `LITERAL`"),
        "{notes:?}"
    );
}

#[test]
fn what_is_given_at_submit_stays_as_secret_as_the_file_says() {
    let body =
        "env:\n  TOKEN: {secret: NOT_STORED}\n  MASK: {value: a, secret: true}\n  OPEN: {source: inject}";
    let (env, got) = env_of(body, &[("TOKEN", "t0ken"), ("MASK", "m4sk"), ("OPEN", "plain")]);
    assert_eq!(env[3..], ["TOKEN<TOKEN", "MASK<MASK", "OPEN=plain"]);
    let literal: Vec<_> =
        got.needs.literal.iter().map(|(key, value)| format!("{key}={}", value.expose())).collect();
    assert_eq!(literal, ["MASK=m4sk", "TOKEN=t0ken"]);
}

#[test]
fn variables_that_cannot_be_are_refused() {
    let long = "x".repeat(131_070);
    let body = "env: {A: {secret: db-pasword}, B: {source: inject}}";
    let inject = [("", "x"), ("K=V", "x"), ("N", "a\0b"), ("L", long.as_str())];
    let problems = try_plan(body, &inject, &catalogue()).unwrap_err();
    assert_eq!(
        lines(&problems, Level::Error),
        [
            "bad-inject env: `-e` has the name ``, which no variable can have | write `-e KEY=VALUE`",
            "bad-inject env: `-e` has the name `K=V`, which no variable can have | write `-e KEY=VALUE`",
            "bad-inject env.N: the value of `-e N` contains NUL",
            "unknown-secret env.A: there is no secret `db-pasword` | did you mean `db-password`? there is `db-password`, `HF_TOKEN`; or store it: `vessl secret create db-pasword`",
            "missing-inject env.B: `B` has no value; it is to be given at submit | add `-e B=VALUE`",
            "env-too-long env.L: `L` and its value have 131072 bytes; a program can be given 131071 | put the data into a file and import it",
        ]
    );
    let none = Catalogue { secrets: Vec::new(), ..catalogue() };
    check_on(
        &none,
        "env: {A: {secret: X}}",
        &["unknown-secret env.A: there is no secret `X` | store it: `vessl secret create X`"],
    );
}

#[test]
fn what_has_no_effect_is_noted() {
    let got = planned(
        "ports: [8080, {name: u, type: udp, port: 53}]\nservice_account_name: sa\nresources: {preset: gpu-1, requests: {disk: 10Gi}}",
    );
    assert_eq!(
        lines(&got.notes, Level::Warning),
        [
            "no-effect resources.requests.disk: disk is neither reserved nor limited: the run may use what is free on the node",
            "no-effect ports: `udp` ports are not reached from outside in this version: only what runs in the same run finds them",
            "no-effect service_account_name: `service_account_name` means something on Kubernetes alone",
        ]
    );
    assert!(planned("service_account_name: ''").notes.is_empty());
    assert!(planned("ports: [8080]").notes.is_empty());
    let mut site = catalogue();
    site.clusters.get_mut("local").unwrap().host_network = true;
    let got = try_plan("ports: [8080]", &[], &site).unwrap();
    assert_eq!(
        lines(&got.notes, Level::Warning),
        [
            "host-ports ports: runs of this cluster have the network of the machine: two of them cannot use the same port at the same time"
        ]
    );
}

/// `plan.json` outlives the server that wrote it.
#[test]
fn the_stored_form_does_not_change() {
    let got = planned(
        "image: {url: 'r.io/x:1', credential_name: hub}\nimport: {/c: {git: {url: h.com/x/y, ref: v1, credential_name: gh}}, /w: \
         vessl-artifact://acme/vision/weights}\nmount: {/d: 'hostpath:///data/set'}\nexport: {/o: vessl-artifact://, /m: {artifact: \
         {name: m}}}\nrun:\n  - {command: a, workdir: /c, wait: 5s}\n  - wait: 1m\nports: [80]\nenv: {K: v, S: {secret: HF_TOKEN}}\n\
         termination_protection: true",
    );
    insta::assert_json_snapshot!(got.plan);
    let text = serde_json::to_string(&got.plan).unwrap();
    assert_eq!(serde_json::from_str::<vessl_core::plan::Plan>(&text).unwrap(), got.plan);
}
