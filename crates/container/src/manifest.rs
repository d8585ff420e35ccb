//! Manifests, indexes and image configurations as registries and layouts hold them, and the choice of a platform.
//!
//! Pure: bytes in, types out. It does not fetch, and it trusts nothing it reads.
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::StoreError;
use crate::image::ImageConfig;
use vessl_core::reference::Digest;

/// Most bytes of a manifest or index (registries must accept 4 MiB).
pub(crate) const MAX_MANIFEST: u64 = 4 << 20;
/// Most bytes of an image configuration.
pub(crate) const MAX_CONFIG: u64 = 8 << 20;
/// Most layers of an image: what overlayfs can stack.
const MAX_LAYERS: usize = 500;

/// Media types asked for, in the order of preference.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// A pointer to content, with what is known of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    #[serde(deserialize_with = "digest")]
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: Option<std::collections::HashMap<String, String>>,
}

fn digest<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(from)?;
    Digest::parse(&text).map_err(serde::de::Error::custom)
}

/// What a program needs to run: operating system, architecture and its variant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) variant: Option<String>,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

impl Platform {
    /// This machine's, in the words of images.
    pub(crate) fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: None }
    }

    fn runs(&self, other: &Self) -> bool {
        self.os == other.os && self.architecture == other.architecture
    }

    /// Lower is better; variants of one architecture are ordered so that the plainest that every machine runs wins.
    fn rank(&self) -> u8 {
        match (self.architecture.as_str(), self.variant.as_deref().unwrap_or("")) {
            (_, "") | ("amd64", "v1") | ("arm64", "v8") | ("arm", "v7") => 0,
            ("arm", "v6") => 1,
            ("arm", "v5") => 2,
            _ => 3,
        }
    }
}

/// What a manifest document is.
#[derive(Debug)]
pub(crate) enum Manifest {
    /// One image.
    Image { config: Descriptor, layers: Vec<Descriptor> },
    /// Images for several platforms.
    Index(Vec<Descriptor>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Versioned {
    schema_version: Option<u32>,
}

impl Manifest {
    /// Reads a manifest or index; `from` names it in errors.
    pub(crate) fn parse(bytes: &[u8], from: &str) -> Result<Self, StoreError> {
        if serde_json::from_slice::<Versioned>(bytes).is_ok_and(|v| v.schema_version == Some(1)) {
            let what = "its manifest has the old schema version 1; build or push the image again".to_owned();
            return Err(StoreError::Unsupported { image: from.into(), what });
        }
        let bad =
            |what: String| StoreError::Corrupt { what: format!("the manifest of `{from}`"), reason: what };
        let document: Document = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        if document.schema_version != 2 {
            return Err(bad(format!("unknown schema version {}", document.schema_version)));
        }
        match document {
            Document { manifests: Some(manifests), config: None, layers: None, .. } => {
                Ok(Self::Index(manifests))
            }
            Document { config: Some(config), layers: Some(layers), manifests: None, .. } => {
                check_image(&config, &layers, from)?;
                Ok(Self::Image { config, layers })
            }
            _ => Err(bad("it is neither one image nor an index of images".into())),
        }
    }
}

fn check_image(config: &Descriptor, layers: &[Descriptor], from: &str) -> Result<(), StoreError> {
    let unsupported = |what: String| Err(StoreError::Unsupported { image: from.into(), what });
    match config.media_type.as_str() {
        "application/vnd.oci.image.config.v1+json"
        | "application/vnd.docker.container.image.v1+json"
        | "application/octet-stream"
        | "" => {}
        other => return unsupported(format!("it is not a container image but `{other}`")),
    }
    if layers.len() > MAX_LAYERS {
        return unsupported(format!("it has {} layers, more than {MAX_LAYERS}", layers.len()));
    }
    match layers.iter().find_map(|layer| layer_problem(&layer.media_type)) {
        Some(problem) => unsupported(problem),
        None => Ok(()),
    }
}

/// What stands against a layer of this media type. How it is compressed is seen from its first bytes.
fn layer_problem(media_type: &str) -> Option<String> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => None,
        foreign if foreign.contains("nondistributable") || foreign.contains(".foreign.") => Some(format!(
            "a layer of type `{foreign}` is not kept in registries but fetched from elsewhere, which is not supported"
        )),
        locked if locked.contains("+encrypted") => Some(format!("a layer is encrypted (`{locked}`)")),
        other => Some(format!("a layer has the unknown type `{other}`")),
    }
}

/// The entry of an index for `here`, or an error that says what there is.
pub(crate) fn choose<'a>(
    entries: &'a [Descriptor],
    here: &Platform,
    image: &str,
) -> Result<&'a Descriptor, StoreError> {
    let fits = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|p| p.runs(here));
    if let Some(best) =
        entries.iter().filter(fits).min_by_key(|e| e.platform.as_ref().map_or(0, Platform::rank))
    {
        return Ok(best);
    }
    if let [only] = entries
        && only.platform.is_none()
    {
        return Ok(only);
    }
    Err(wrong_platform(image, here, entries.iter().filter_map(|e| e.platform.as_ref())))
}

fn wrong_platform<'a>(image: &str, here: &Platform, there: impl Iterator<Item = &'a Platform>) -> StoreError {
    let mut has: Vec<String> = there.filter(|p| p.os != "unknown").map(ToString::to_string).collect();
    has.dedup();
    let has = if has.is_empty() { "no platform that it names".to_owned() } else { has.join(", ") };
    StoreError::Platform { image: image.into(), wanted: here.to_string(), has }
}

/// What an image configuration says: the process and the digests of the unpacked layers, lowest first.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) process: ImageConfig,
    pub(crate) diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct ConfigDocument {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
    config: Option<ProcessDocument>,
    rootfs: Option<RootfsDocument>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProcessDocument {
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RootfsDocument {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

impl Config {
    /// Reads the configuration of an image with `layers` layers that is to run on `here`.
    pub(crate) fn parse(
        bytes: &[u8],
        layers: usize,
        here: &Platform,
        image: &str,
    ) -> Result<Self, StoreError> {
        let bad =
            |reason: String| StoreError::Corrupt { what: format!("the configuration of `{image}`"), reason };
        let document: ConfigDocument = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        let built =
            Platform { os: document.os, architecture: document.architecture, variant: document.variant };
        if !built.architecture.is_empty() && !built.runs(here) {
            return Err(wrong_platform(image, here, std::iter::once(&built)));
        }
        let ids = document.rootfs.and_then(|r| r.diff_ids).unwrap_or_default();
        let diff_ids: Vec<Digest> = ids
            .iter()
            .map(|id| Digest::parse(id))
            .collect::<Result<_, _>>()
            .map_err(|e| bad(e.to_string()))?;
        if diff_ids.len() != layers {
            return Err(bad(format!("it describes {} layers, the manifest has {layers}", diff_ids.len())));
        }
        Ok(Self { process: document.config.unwrap_or_default().into(), diff_ids })
    }
}

impl From<ProcessDocument> for ImageConfig {
    fn from(from: ProcessDocument) -> Self {
        Self {
            env: from.env.unwrap_or_default(),
            workdir: from.working_dir.unwrap_or_default(),
            user: from.user.unwrap_or_default(),
            entrypoint: from.entrypoint.unwrap_or_default(),
            cmd: from.cmd.unwrap_or_default(),
        }
    }
}

/// The digest of `bytes`.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_hash(&Sha256::digest(bytes))
}

/// Refuses `bytes` that do not have the digest they should have.
pub(crate) fn verify(bytes: &[u8], expected: &Digest, what: &str) -> Result<(), StoreError> {
    let got = digest_of(bytes);
    if got == *expected {
        return Ok(());
    }
    Err(StoreError::wrong_digest(what, expected, &got))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn amd64() -> Platform {
        Platform { os: "linux".into(), architecture: "amd64".into(), variant: None }
    }

    fn image(layer_type: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{A}","size":2}},
               "layers":[{{"mediaType":"{layer_type}","digest":"{A}","size":3}}]}}"#
        )
    }

    fn check(manifest: &str, expected: &str) {
        let said = match Manifest::parse(manifest.as_bytes(), "x") {
            Ok(Manifest::Image { layers, .. }) => format!("image of {}", layers.len()),
            Ok(Manifest::Index(entries)) => format!("index of {}", entries.len()),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(expected), "{manifest}\n→ {said}");
    }

    #[test]
    fn manifests_are_told_apart() {
        check(&image("application/vnd.oci.image.layer.v1.tar+gzip"), "image of 1");
        check(&image("application/vnd.docker.image.rootfs.diff.tar.gzip"), "image of 1");
        check(&image("application/vnd.oci.image.layer.v1.tar+xz"), "unknown type");
        check(&image("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), "fetched from elsewhere");
        check(&image("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), "encrypted");
        check(r#"{"schemaVersion":2,"manifests":[]}"#, "index of 0");
        check(r#"{"schemaVersion":1,"fsLayers":[]}"#, "old schema version 1");
        check(r#"{"schemaVersion":3}"#, "unknown schema version 3");
        check(r#"{"schemaVersion":2}"#, "neither one image nor an index");
        check(&image("x").replacen('{', r#"{"manifests":[],"#, 1), "neither one image nor an index");
        check(&image("x").replace("image.config.v1", "helm.config.v1"), "not a container image but");
        check(&image("x").replace(A, "sha256:../../../etc/passwd"), "hex digits");
        check(&image("x").replace("\"size\":3", "\"size\":-3"), "the manifest of `x`");
        check("[", "the manifest of `x`");
    }

    fn index(platforms: &[&str]) -> Vec<Descriptor> {
        let entry = |(at, platform): (usize, &&str)| {
            let mut parts = platform.split('/').map(str::to_owned);
            let platform = (!platform.is_empty()).then(|| Platform {
                os: parts.next().unwrap_or_default(),
                architecture: parts.next().unwrap_or_default(),
                variant: parts.next(),
            });
            let digest = Digest::parse(A).unwrap();
            Descriptor { media_type: String::new(), digest, size: at as u64, platform, annotations: None }
        };
        platforms.iter().enumerate().map(entry).collect()
    }

    fn chosen(platforms: &[&str], expected: Result<u64, &str>) {
        let entries = index(platforms);
        match (choose(&entries, &amd64(), "x"), expected) {
            (Ok(entry), Ok(at)) => assert_eq!(entry.size, at, "{platforms:?}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, _) => panic!("{platforms:?}: {got:?}"),
        }
    }

    #[test]
    fn the_platform_of_this_machine_is_chosen() {
        chosen(&["linux/arm64/v8", "linux/amd64"], Ok(1));
        chosen(&["linux/amd64/v3", "linux/amd64"], Ok(1));
        chosen(&["windows/amd64", "linux/amd64", "unknown/unknown"], Ok(1));
        chosen(&[""], Ok(0));
        chosen(&["linux/arm64/v8", "linux/s390x", "unknown/unknown"], Err("linux/arm64/v8, linux/s390x"));
        chosen(&[], Err("no platform"));
    }

    #[test]
    fn a_configuration_must_fit_manifest_and_machine() {
        let parse = |text: &str| Config::parse(text.as_bytes(), 1, &amd64(), "x");
        let fine = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"diff_ids":["{A}"]}},
            "config":{{"Env":["A=b"],"WorkingDir":"/w","User":"1:2","Entrypoint":null,"Cmd":["sh"]}}}}"#
        );
        let config = parse(&fine).unwrap();
        assert_eq!(config.process.env, ["A=b"]);
        assert_eq!((config.process.workdir.as_str(), config.process.user.as_str()), ("/w", "1:2"));
        assert_eq!((config.process.entrypoint.len(), config.process.cmd.len()), (0, 1));
        let other = parse(&fine.replace("amd64", "arm64")).unwrap_err().to_string();
        assert!(other.contains("linux/arm64") && other.contains("linux/amd64"), "{other}");
        let fewer = parse(&fine.replace(&format!("\"{A}\""), "")).unwrap_err().to_string();
        assert!(fewer.contains("0 layers"), "{fewer}");
    }

    proptest::proptest! {
        /// Whatever a registry sends is read, or refused in words.
        #[test]
        fn any_document_is_read_or_refused(
            key in "(schemaVersion|mediaType|config|layers|manifests|digest|size|platform|rootfs|[a-z]{1,4})",
            value in "(-?[0-9]{1,25}|null|true|\\[\\]|\\{\\}|\"[ -~]{0,20}\"|\\[null\\]|[ -~]{0,9})",
            at in proptest::prelude::any::<proptest::sample::Index>(),
        ) {
            let whole = image("application/vnd.oci.image.layer.v1.tar");
            let cut = &whole[..at.index(whole.len())];
            let changed = whole.replacen(&format!("\"{key}\":"), &format!("\"{key}\":{value},\"x\":"), 1);
            for text in [cut, &changed, &format!("{{\"{key}\":{value}}}")] {
                let _ = Manifest::parse(text.as_bytes(), "x");
                let _ = Config::parse(text.as_bytes(), 1, &amd64(), "x");
            }
        }
    }
}
