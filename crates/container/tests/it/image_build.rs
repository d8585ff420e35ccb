//! Images made in memory: tar entries of any kind, also ones no tool would write, layers, manifests, layouts, pushes.
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

pub(crate) fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// This machine's architecture in the words of images, and one that it is not.
pub(crate) fn here() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend_from_slice(&next());
    }
    bytes.truncate(size);
    bytes
}

/// A tar that is written entry by entry, without checks.
#[derive(Clone, Default)]
pub(crate) struct Tar(Vec<u8>);

/// Header fields that most entries do not set.
#[derive(Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: u64,
}

pub(crate) const META: Meta = Meta { mode: 0o644, uid: 0, gid: 0, mtime: 1_600_000_000 };

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn entry(self, kind: u8, path: &str, link: &str, content: &[u8]) -> Self {
        self.entry_with(kind, path, (link, content), META)
    }

    pub(crate) fn entry_with(
        mut self,
        kind: u8,
        path: &str,
        (link, content): (&str, &[u8]),
        meta: Meta,
    ) -> Self {
        let mut header = tar::Header::new_gnu();
        let raw = header.as_mut_bytes();
        raw[..path.len().min(100)].copy_from_slice(&path.as_bytes()[..path.len().min(100)]);
        raw[157..157 + link.len().min(100)].copy_from_slice(&link.as_bytes()[..link.len().min(100)]);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(content.len() as u64);
        header.set_mode(meta.mode);
        header.set_uid(meta.uid);
        header.set_gid(meta.gid);
        header.set_mtime(meta.mtime);
        if matches!(kind, b'3' | b'4') {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(b'0', path, "", content)
    }

    pub(crate) fn dir(self, path: &str, mode: u32) -> Self {
        self.entry_with(b'5', path, ("", b""), Meta { mode, ..META })
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(b'2', path, target, b"")
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(b'1', path, target, b"")
    }

    /// PAX records for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut all = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length.to_string().len() + rest != length {
                length += 1;
            }
            write!(all, "{length} {key}=").unwrap();
            all.extend_from_slice(value);
            all.push(b'\n');
        }
        self.entry(b'x', "pax", "", &all)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }
}

/// One layer of an image.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) blob: Vec<u8>,
    pub(crate) diff: String,
    pub(crate) media_type: String,
}

pub(crate) fn plain(tar: &Tar) -> Layer {
    let blob = tar.bytes();
    Layer { diff: digest(&blob), blob, media_type: LAYER.into() }
}

pub(crate) fn gzip(tar: &Tar) -> Layer {
    let plain = tar.bytes();
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    to.write_all(&plain).unwrap();
    Layer { blob: to.finish().unwrap(), diff: digest(&plain), media_type: format!("{LAYER}+gzip") }
}

pub(crate) fn zstd(tar: &Tar) -> Layer {
    let plain = tar.bytes();
    let blob = zstd::encode_all(plain.as_slice(), 1).unwrap();
    Layer { blob, diff: digest(&plain), media_type: format!("{LAYER}+zstd") }
}

/// An image: its manifest, and every blob by digest.
#[derive(Clone)]
pub(crate) struct Built {
    pub(crate) manifest: Vec<u8>,
    pub(crate) media_type: &'static str,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
}

pub(crate) fn image(layers: &[Layer]) -> Built {
    image_for(here(), layers)
}

pub(crate) fn image_for(architecture: &str, layers: &[Layer]) -> Built {
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": ["PATH=/bin", "A=b c"], "WorkingDir": "/work", "User": "1000:1000",
                   "Entrypoint": ["/entry"], "Cmd": ["one", "two"]},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|l| l.diff.clone()).collect::<Vec<_>>()},
    });
    let config = config.to_string().into_bytes();
    let descriptors: Vec<Value> = layers.iter().map(|l| descriptor(&l.media_type, &l.blob)).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": descriptors,
    });
    let mut blobs: BTreeMap<String, Vec<u8>> =
        layers.iter().map(|l| (digest(&l.blob), l.blob.clone())).collect();
    blobs.insert(digest(&config), config);
    Built { manifest: manifest.to_string().into_bytes(), media_type: MANIFEST, blobs }
}

/// An index of images for several architectures; the images are among its blobs.
pub(crate) fn index(images: &[(&str, &Built)]) -> Built {
    let mut blobs = BTreeMap::new();
    let mut entries = Vec::new();
    for (architecture, image) in images {
        blobs.extend(image.blobs.clone());
        blobs.insert(digest(&image.manifest), image.manifest.clone());
        let mut entry = descriptor(image.media_type, &image.manifest);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entries.push(entry);
    }
    let manifest = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    Built { manifest: manifest.to_string().into_bytes(), media_type: INDEX, blobs }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

impl Built {
    /// Compressed bytes of the layers.
    pub(crate) fn compressed(&self) -> u64 {
        let manifest: Value = serde_json::from_slice(&self.manifest).unwrap();
        manifest["layers"].as_array().unwrap().iter().map(|l| l["size"].as_u64().unwrap()).sum()
    }

    /// Writes an OCI layout with this image under `tag`.
    pub(crate) fn write_layout(&self, dir: &Path, tag: &str) {
        let blobs = dir.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        for (digest, bytes) in self.blobs.iter().chain([(&digest(&self.manifest), &self.manifest)]) {
            std::fs::write(blobs.join(digest.strip_prefix("sha256:").unwrap()), bytes).unwrap();
        }
        let mut entry = descriptor(self.media_type, &self.manifest);
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    }

    /// Pushes to a registry on this machine.
    pub(crate) fn push(&self, registry: &str, repository: &str, tag: &str, login: Option<(&str, &str)>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let base = format!("http://{registry}/v2/{repository}");
        let with_login = |request: reqwest::RequestBuilder| match login {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        };
        runtime.block_on(async {
            for (digest, bytes) in &self.blobs {
                let begun = with_login(http.post(format!("{base}/blobs/uploads/"))).send().await.unwrap();
                let begun = begun.error_for_status().unwrap();
                let to = begun.headers()["location"].to_str().unwrap();
                let end = if to.contains('?') { '&' } else { '?' };
                let put = http.put(format!("{to}{end}digest={digest}")).body(bytes.clone());
                with_login(put).send().await.unwrap().error_for_status().unwrap();
            }
            let is_manifest = |blob: &&Vec<u8>| blob.windows(15).any(|w| w == b"\"schemaVersion\"");
            let nested = self.blobs.values().filter(is_manifest);
            for manifest in nested.filter(|_| self.media_type == INDEX) {
                let put = http.put(format!("{base}/manifests/{}", digest(manifest)));
                let put = put.header("content-type", MANIFEST).body(manifest.clone());
                with_login(put).send().await.unwrap().error_for_status().unwrap();
            }
            let put = http.put(format!("{base}/manifests/{tag}")).header("content-type", self.media_type);
            with_login(put.body(self.manifest.clone())).send().await.unwrap().error_for_status().unwrap();
        });
    }
}
