//! Planning of stores: datasets, models, buckets, Hugging Face, volumes.
use std::collections::{BTreeMap, BTreeSet};

use vessl_core::ids::StorageName;
use vessl_core::object::{ObjectName, StorageKind, VolumeRef};
use vessl_core::plan::{
    BucketPlan, ExportTarget, HfPlan, ImportSource, MountFrom, Provider, Storage, VolumePlace, VolumePlan,
};

use crate::plan_cases::{catalogue, check, check_on, planned};

fn storage(name: &str, kind: StorageKind, path: &str) -> (StorageName, Storage) {
    let storage = Storage { kind, path: path.to_owned(), endpoint: None, region: None, credential: None };
    (name.into(), storage)
}

fn bulk() -> (StorageName, Storage) {
    let (name, storage) = storage("bulk", StorageKind::S3, "s3://ml/base/");
    let endpoint = Some("https://minio:9000".to_owned());
    (name, Storage { endpoint, credential: Some("keys".into()), ..storage })
}

/// Storages of every kind.
pub(crate) fn storages() -> BTreeMap<StorageName, Storage> {
    [
        storage("vessl-storage", StorageKind::BuiltIn, "/var/vessl/volumes/acme"),
        storage("lab", StorageKind::HostPath, "/data/lab"),
        storage("filer", StorageKind::Nfs, "filer:/export/ml"),
        bulk(),
    ]
    .into()
}

/// A volume on each of them.
pub(crate) fn volumes() -> BTreeSet<VolumeRef> {
    [("vessl-storage", "home"), ("lab", "home"), ("filer", "home"), ("bulk", "home")]
        .map(|(storage, volume)| VolumeRef {
            organization: "acme".into(),
            storage: storage.into(),
            volume: volume.into(),
        })
        .into()
}

const BODY: &str = "import:\n  /d: vessl-dataset://acme/mnist\n  /m: vessl-model://acme/llama/7\n  /s: {s3: {bucket: b, prefix: /p/, region: eu-1, credential_name: keys}}\n  \
         /g: gs://b\n  /h: {hf: {url: huggingface.co/datasets/o/n, ref: v1, credential_name: face}}\n  /v: volume://bulk/home\n\
         mount: {/md: vessl-dataset://acme/mnist, /mv: {volume: vessl-storage/home, readonly: false}, /mn: volume://filer/home, /n: nfs://h/p}\n\
         export: {/ed: vessl-dataset://acme/hollow, /em: vessl-model://acme/llama, /es: s3://b/out, /ev: volume://lab/home, /new: volume://lab}";

fn bucket(label: &str, provider: Provider, bucket: &str, prefix: &str) -> BucketPlan {
    BucketPlan {
        label: label.to_owned(),
        provider,
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: None,
        region: None,
        credential: None,
        machine_identity: false,
    }
}

fn tree(label: &str, manifest: &str) -> (String, String) {
    (label.to_owned(), manifest.to_owned())
}

#[test]
fn stores_are_resolved() {
    let got = planned(BODY);
    let text = serde_json::to_string(&got.plan).unwrap();
    assert_eq!(
        serde_json::from_str::<vessl_core::plan::Plan>(&text).unwrap(),
        got.plan,
        "as plan.json has it"
    );
    let imported = |(label, manifest)| ImportSource::Tree { label, manifest };
    let s3 = BucketPlan {
        region: Some("eu-1".to_owned()),
        credential: Some("keys".into()),
        ..bucket("s3://b/p", Provider::S3, "b", "p")
    };
    let volume = BucketPlan {
        endpoint: Some("https://minio:9000".to_owned()),
        credential: Some("keys".into()),
        ..bucket("volume://bulk/home", Provider::S3, "ml", "base/home")
    };
    let hf = HfPlan {
        label: "hf://huggingface.co/datasets/o/n".to_owned(),
        dataset: true,
        repository: "o/n".to_owned(),
        revision: Some("v1".to_owned()),
        endpoint: "https://huggingface.co".to_owned(),
        credential: Some("face".into()),
    };
    let sources: Vec<_> = got.plan.imports.into_iter().map(|import| import.source).collect();
    let expected = [
        imported(tree("vessl-dataset://acme/mnist", "cd34")),
        ImportSource::Bucket(bucket("gs://b", Provider::Gs, "b", "")),
        ImportSource::Hf(hf),
        imported(tree("vessl-model://acme/llama/7", "ef56")),
        ImportSource::Bucket(s3),
        ImportSource::Bucket(volume),
    ];
    assert_eq!(sources, expected);
    let needed: Vec<_> = got.needs.credentials.into_iter().map(String::from).collect();
    assert_eq!(needed, ["s3/keys", "hf/face"]);
}

#[test]
fn mounts_and_targets_are_resolved() {
    let got = planned(BODY);
    let path = |storage: &str, root: &str, volume: &str| {
        let roots = (storage == "lab").then(|| ["/data", "/mnt/shared"].map(str::to_owned).to_vec());
        let (root, label) = (root.to_owned(), format!("volume://{storage}/{volume}"));
        VolumePlan { label, place: VolumePlace::Path { root, volume: volume.to_owned(), roots } }
    };
    let nfs = VolumePlan {
        label: "volume://filer/home".to_owned(),
        place: VolumePlace::Nfs {
            server: "filer".to_owned(),
            path: "/export/ml".to_owned(),
            volume: "home".to_owned(),
        },
    };
    let mounts: Vec<_> = got.plan.mounts.into_iter().map(|mount| (mount.source, mount.readonly)).collect();
    let (label, manifest) = tree("vessl-dataset://acme/mnist", "cd34");
    let expected = [
        (MountFrom::Tree { label, manifest }, true),
        (MountFrom::Volume(nfs), true),
        (MountFrom::Volume(path("vessl-storage", "/var/vessl/volumes/acme", "home")), false),
        (MountFrom::Nfs { server: "h".to_owned(), path: "/p".to_owned() }, true),
    ];
    assert_eq!(mounts, expected);
    let targets: Vec<_> = got.plan.exports.into_iter().map(|export| export.target).collect();
    let expected = [
        ExportTarget::Object { name: ObjectName::dataset("acme", "hollow") },
        ExportTarget::Object { name: ObjectName::model_repository("acme", "llama") },
        ExportTarget::Bucket(bucket("s3://b/out", Provider::S3, "b", "out")),
        ExportTarget::Volume(path("lab", "/data/lab", "home")),
        ExportTarget::Volume(path("lab", "/data/lab", "run-123")),
    ];
    assert_eq!(targets, expected);
    let made: Vec<_> = got.needs.volumes.iter().map(ToString::to_string).collect();
    assert_eq!(made, ["volume://lab/run-123"]);
}

#[test]
fn stores_that_are_not_there_are_refused() {
    let check_one = |body: &str, expected: &str| check(body, &[expected]);
    check_one(
        "import: {/x: vessl-dataset://acme/mnits}",
        "unknown-dataset import./x: there is no dataset `acme/mnits` | did you mean `acme/mnist`? there is \
         `acme/hollow`, `acme/mnist`; `vessl dataset create mnits` makes it",
    );
    check_one(
        "mount: {/x: vessl-dataset://acme/hollow}",
        "no-version mount./x: `vessl-dataset://acme/hollow` has no files yet | \
         `vessl dataset upload hollow SOURCE /` brings some",
    );
    check_one(
        "import: {/x: vessl-model://acme/llama/8}",
        "no-version import./x: the model repository `vessl-model://acme/llama` has no model 8 | \
         `vessl model list llama` shows those there are",
    );
    check_one(
        "export: {/x: vessl-model://acme/none}",
        "unknown-model export./x: there is no model repository `acme/none` | there is `acme/llama`; \
         `vessl model-repository create none` makes it",
    );
    check_one(
        "import: {/x: volume://lap/home}",
        "unknown-storage import./x: there is no storage `lap` | did you mean `lab`? there is `bulk`, `filer`, `lab`, `vessl-storage`",
    );
    check_one(
        "mount: {/x: volume://lab/hone}",
        "unknown-volume mount./x: the storage `lab` has no volume `hone` | did you mean `home`? there is `home`; \
         `vessl storage create-volume hone --storage-name lab` makes it",
    );
    check_one(
        "mount: {/x: volume://bulk/home}",
        "unsupported mount./x: `volume://bulk/home` lies in a bucket and cannot be mounted | \
         import it, or use a volume of a storage of the kind `host-path` or `nfs`",
    );
    check_one(
        "import: {/x: {s3: {bucket: b, prefix: p, credential_name: gh}}}",
        "wrong-credential import./x.s3.credential_name: credential `gh` is a git credential; a s3 credential is needed here | \
         store one under another name: `vessl credential create NAME --kind s3 --username KEY_ID`",
    );
    let mut moved = catalogue();
    moved.storages.get_mut("lab").unwrap().path = "/srv/lab".to_owned();
    check_on(
        &moved,
        "import: {/x: volume://lab/home}",
        &[
            "not-allowed import./x: the path `/srv/lab` of the machine may not be mounted | only what is below `/data`, `/mnt/shared` may; \
           to allow this one, write `hostpath_roots = [\"/data\", \"/mnt/shared\", \"/srv/lab\"]` into the server's settings file: \
           it counts from the next start of the server (`vessl server stop`)",
        ],
    );
    check_one(
        "export: {/a: s3://b/p, /b: {s3: {bucket: b, prefix: p/}}}",
        "same-target export./b: `/a` is exported to `s3://b/p` as well | give each path its own target",
    );
}
