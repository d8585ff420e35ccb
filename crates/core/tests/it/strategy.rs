//! Any run that a file can say, as a strategy for property tests.
use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use vessl_core::spec::*;
use vessl_core::units::{Cpu, Memory, Span};

/// Characters that have a meaning in YAML, in a shell or in an encoding, among ordinary ones.
fn character() -> impl Strategy<Value = char> {
    prop_oneof![
        4 => proptest::char::range(' ', '~'),
        2 => proptest::sample::select("\n\n\t\r :#-?{}[]&*!|>'\"%@`,\\~=<".chars().collect::<Vec<_>>()),
        1 => proptest::sample::select("\u{1}\u{1b}\u{7f}\u{85}\u{a0}\u{2028}\u{feff}\u{fffe}é한😀".chars().collect::<Vec<_>>()),
        1 => any::<char>().prop_filter("NUL cannot be said", |c| *c != '\0'),
    ]
}

/// Any text, with words among it that some reader of YAML takes for something else.
fn text() -> impl Strategy<Value = String> {
    let words = [
        "",
        "null",
        "~",
        "true",
        "On",
        "no",
        "1e-4",
        "0.10",
        "0777",
        "12:30:00",
        "2024-01-01",
        "<<",
        "*a",
        "- x",
        "a: b",
        "---",
        "...",
        ".inf",
        "=",
        "0x1F",
        "1_000",
    ];
    prop_oneof![
        6 => vec(character(), 0..40).prop_map(String::from_iter),
        2 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => vec("[ -~]{0,30}", 1..6).prop_map(|lines| lines.join("\n")),
        1 => "[a-z\n]{1,400}",
    ]
}

fn not_blank(what: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    what.prop_filter("must say something", |text| text.chars().any(|c| !c.is_whitespace() && !c.is_control()))
}

/// A name or a tag of a run.
fn label() -> impl Strategy<Value = String> {
    not_blank(text().prop_map(|text| text.chars().take(253).collect()))
}

/// Text that names something: one line without placeholders.
fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9_.-]{1,20}", "[a-zA-Z0-9:#*&!|@é한 .,'\"%~-]{1,30}"]
        .prop_filter("a name is more than dots and blanks", |text| {
            !text.trim().is_empty() && !matches!(text.as_str(), "." | "..")
        })
}

fn path() -> impl Strategy<Value = ContainerPath> {
    vec(word(), 1..4)
        .prop_filter_map("reserved", |parts| ContainerPath::parse(&format!("/{}", parts.join("/"))).ok())
}

fn node_path() -> impl Strategy<Value = String> {
    prop_oneof![Just("/".to_owned()), path().prop_map(|path| path.as_str().to_owned())]
}

fn requests() -> impl Strategy<Value = Requests> {
    let gpu = || {
        let product = word()
            .prop_map(|text| text.trim().to_owned())
            .prop_filter("any", |t| !t.eq_ignore_ascii_case("any"));
        (option::of(product), 1u32.., option::of(word())).prop_map(
            |(device_type, quantity, mig_resource_type)| GpuRequest {
                device_type,
                quantity,
                mig_resource_type,
            },
        )
    };
    let memory = || option::of((1u64..).prop_map(Memory));
    (option::of((1u64..).prop_map(Cpu)), memory(), memory(), option::of(gpu()), option::of(gpu()))
        .prop_map(|(cpu, memory, disk, gpu, mig)| Requests { cpu, memory, disk, gpu, mig })
}

fn resources() -> impl Strategy<Value = Resources> {
    (option::of(word()), vec(word(), 0..3), option::of(word()), option::of(requests()), any::<bool>())
        .prop_map(|(cluster, node_names, preset, requests, spot)| Resources {
            cluster,
            node_names,
            preset,
            requests,
            spot,
        })
}

fn image() -> impl Strategy<Value = Image> {
    let url = prop_oneof![
        "([a-z0-9]{1,8}(\\.[a-z0-9]{1,5}){0,2}(:[1-9][0-9]{0,3})?/)?([a-z0-9]{1,4}[._-])?[a-z0-9]{1,4}(/[a-z0-9]{1,4}){0,2}(:[a-zA-Z0-9_][a-zA-Z0-9._-]{0,9})?",
        "[a-z]{1,10}@sha256:[0-9a-f]{64}",
        Just("host://".to_owned()),
        "oci:///[a-z]{1,8}/[a-z]{1,8}(:[a-z0-9]{1,8})?",
    ];
    (url, option::of(word())).prop_map(|(url, credential_name)| Image { url, credential_name })
}

fn reference() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9][a-zA-Z0-9/_-]{0,20}(\\.[0-9]){0,2}"
}

fn git() -> impl Strategy<Value = Git> {
    let url = prop_oneof![
        "https://[a-z]{1,8}\\.[a-z]{2,3}(:[0-9]{1,4})?/[a-z]{1,8}/[a-z]{1,8}(\\.git)?",
        "ssh://git@[a-z]{1,8}/[a-z]{1,8}",
        "[a-z]{1,8}@[a-z][a-z.]{0,7}:/?[a-z][a-z/]{0,7}[a-z]",
        "file:///[a-z]{1,8}/[a-z]{1,8}",
    ];
    (url, option::of(reference()), option::of(word()), any::<bool>(), any::<bool>()).prop_map(
        |(url, reference, credential_name, submodules, lfs)| Git {
            url,
            reference,
            credential_name,
            submodules,
            lfs,
        },
    )
}

fn dataset() -> impl Strategy<Value = Dataset> {
    (word(), word()).prop_map(|(organization_name, dataset_name)| Dataset { organization_name, dataset_name })
}

fn model(number: impl Strategy<Value = Option<u64>>) -> impl Strategy<Value = Model> {
    (word(), word(), number).prop_map(|(organization_name, model_repository_name, model_number)| Model {
        organization_name,
        model_repository_name,
        model_number,
    })
}

fn artifact() -> impl Strategy<Value = ArtifactRef> {
    (option::of(word()), option::of(word()), word()).prop_map(|(organization_name, project_name, name)| {
        ArtifactRef { organization_name, project_name, name }
    })
}

fn prefix() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), vec(word(), 1..4).prop_map(|parts| parts.join("/"))]
}

fn s3() -> impl Strategy<Value = S3> {
    (word(), prefix(), option::of(word()), option::of(word()), option::of(word())).prop_map(
        |(bucket, prefix, endpoint, region, credential_name)| S3 {
            bucket,
            prefix,
            endpoint,
            region,
            credential_name,
        },
    )
}

fn gs() -> impl Strategy<Value = Gs> {
    (word(), prefix(), option::of(word()), option::of(word())).prop_map(
        |(bucket, prefix, endpoint, credential_name)| Gs { bucket, prefix, endpoint, credential_name },
    )
}

fn hf() -> impl Strategy<Value = Hf> {
    (
        "huggingface\\.co/(datasets/)?[a-z]{1,7}/[a-z0-9.-]{1,8}[a-z]",
        option::of(reference()),
        option::of(word()),
    )
        .prop_map(|(url, reference, credential_name)| Hf { url, reference, credential_name })
}

fn volume() -> impl Strategy<Value = Volume> {
    (word(), option::of(word())).prop_map(|(storage_name, volume_name)| Volume { storage_name, volume_name })
}

fn import() -> impl Strategy<Value = Import> {
    prop_oneof![
        git().prop_map(Import::Git),
        dataset().prop_map(Import::Dataset),
        model((1u64..).prop_map(Some)).prop_map(Import::Model),
        artifact().prop_map(Import::Artifact),
        s3().prop_map(Import::S3),
        gs().prop_map(Import::Gs),
        hf().prop_map(Import::Hf),
        volume().prop_map(Import::Volume),
        Just(Import::Injected),
    ]
}

fn mount() -> impl Strategy<Value = Mount> {
    let nfs = ("[a-z0-9.-]{0,8}[a-z]", node_path()).prop_map(|(server, path)| Nfs { server, path });
    let nfs = nfs.prop_filter("an option", |nfs| !nfs.server.starts_with('-'));
    let writable = prop_oneof![
        node_path().prop_map(|path| MountSource::Hostpath(Hostpath { path })),
        nfs.prop_map(MountSource::Nfs),
        volume().prop_map(MountSource::Volume),
    ];
    prop_oneof![
        dataset().prop_map(|it| Mount { source: MountSource::Dataset(it), readonly: true }),
        (writable, any::<bool>()).prop_map(|(source, readonly)| Mount { source, readonly }),
    ]
}

fn export() -> impl Strategy<Value = Export> {
    prop_oneof![
        Just(Export::Output),
        artifact().prop_map(Export::Artifact),
        dataset().prop_map(Export::Dataset),
        model(Just(None)).prop_map(Export::Model),
        s3().prop_map(Export::S3),
        gs().prop_map(Export::Gs),
        volume().prop_map(Export::Volume),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    let command = || not_blank(text());
    let span = || any::<u64>().prop_map(Span);
    prop_oneof![
        (command(), option::of(word()), option::of(span())).prop_map(|(command, workdir, wait)| Item {
            command: Some(command),
            workdir,
            wait
        }),
        (option::of(word()), span()).prop_map(|(workdir, wait)| Item {
            command: None,
            workdir,
            wait: Some(wait)
        }),
    ]
}

fn interactive() -> impl Strategy<Value = Interactive> {
    let span = || option::of((1u64..).prop_map(Span));
    (span(), span()).prop_map(|(max_runtime, idle_timeout)| Interactive { max_runtime, idle_timeout })
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let kind = prop_oneof![Just(PortKind::Http), Just(PortKind::Tcp), Just(PortKind::Udp)];
    btree_map(1u16.., (word(), kind), 0..4)
        .prop_map(|ports| ports.into_iter().map(|(port, (name, kind))| Port { name, kind, port }).collect())
}

fn env() -> impl Strategy<Value = BTreeMap<String, EnvValue>> {
    let key = prop_oneof!["[A-Z_]{1,12}", text(), "[a-z]{1000,1030}"];
    let key =
        key.prop_filter("a name has no `=` and is not empty", |key| !key.is_empty() && !key.contains('='));
    let value = prop_oneof![
        4 => text().prop_map(EnvValue::Text),
        1 => word().prop_map(EnvValue::Secret),
        1 => text().prop_map(|text| EnvValue::Masked(text.into())),
        1 => Just(EnvValue::Inject),
        1 => Just(EnvValue::InjectSecret),
    ];
    btree_map(key, value, 0..6)
}

fn data() -> impl Strategy<
    Value = (
        BTreeMap<ContainerPath, Import>,
        BTreeMap<ContainerPath, Mount>,
        BTreeMap<ContainerPath, Export>,
    ),
> {
    let maps = (
        btree_map(path(), import(), 0..4),
        btree_map(path(), mount(), 0..4),
        btree_map(path(), export(), 0..4),
    );
    maps.prop_map(|(import, mut mount, export)| {
        mount.retain(|path, _| !import.contains_key(path));
        (import, mount, export)
    })
}

/// Any run that a file can say.
pub(crate) fn spec() -> impl Strategy<Value = Spec> {
    let head = (label(), option::of(text()), vec(label(), 0..4), resources(), image());
    let tail = (
        vec(item(), 0..4),
        option::of(interactive()),
        ports(),
        env(),
        option::of(prop_oneof![Just(String::new()), word()]),
        any::<bool>(),
    );
    (head, data(), tail).prop_map(|(head, (import, mount, export), tail)| {
        let (name, description, tags, resources, image) = head;
        let (run, interactive, ports, env, service_account_name, termination_protection) = tail;
        Spec {
            name,
            description,
            tags,
            resources,
            image,
            import,
            mount,
            export,
            run,
            interactive,
            ports,
            env: env.into_iter().collect(),
            service_account_name,
            termination_protection,
        }
    })
}
