//! Small images as OCI layouts, made in the test.
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What an image holds and says.
pub(crate) struct Image<'a> {
    /// Path, mode and content; a content that starts with `->` is a link, `|` is a pipe.
    pub(crate) files: Vec<(&'a str, u32, Vec<u8>)>,
    /// The `config` object of the image.
    pub(crate) config: Value,
}

impl Image<'_> {
    /// Writes the layout to `dir`.
    pub(crate) fn write(&self, dir: &Path) {
        std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        let layer = self.layer();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        });
        let config = blob(dir, config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
        let layer = blob(dir, &layer, "application/vnd.oci.image.layer.v1.tar");
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] });
        let manifest = blob(dir, manifest.to_string().as_bytes(), kind);
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }

    fn layer(&self) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, mode, content) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(*mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            if let Some(target) = content.strip_prefix(b"->") {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                tar.append_link(&mut header, path, std::str::from_utf8(target).unwrap()).unwrap();
            } else if content == b"|" {
                header.set_entry_type(tar::EntryType::Fifo);
                header.set_size(0);
                tar.append_data(&mut header, path, &[][..]).unwrap();
            } else if path.ends_with('/') {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                tar.append_data(&mut header, path, &[][..]).unwrap();
            } else {
                header.set_size(content.len() as u64);
                tar.append_data(&mut header, path, content.as_slice()).unwrap();
            }
        }
        tar.into_inner().unwrap()
    }
}

/// busybox with a shell, and a user.
pub(crate) fn busybox(config: Value) -> Image<'static> {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut files = vec![
        ("bin/", 0o755, Vec::new()),
        ("bin/busybox", 0o755, busybox),
        ("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nml:x:1000:1001::/home/ml:/bin/sh\n".to_vec()),
        ("etc/group", 0o644, b"root:x:0:\nml:x:1001:\nvideo:x:44:ml\n".to_vec()),
        ("tmp/", 0o1777, Vec::new()),
    ];
    for name in ["bin/sh", "bin/echo", "bin/cat", "bin/id", "bin/sleep", "bin/ls", "bin/env", "bin/pwd"] {
        files.push((name, 0o777, b"->busybox".to_vec()));
    }
    Image { files, config }
}

/// One static program and nothing else.
pub(crate) fn lone_program() -> Image<'static> {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    Image {
        files: vec![("echo", 0o755, busybox)],
        config: json!({ "Entrypoint": ["/echo"], "Cmd": ["alone", "at last"] }),
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

fn blob(dir: &Path, bytes: &[u8], kind: &str) -> Value {
    let digest = digest(bytes);
    let path = dir.join("blobs").join(digest.replace(':', "/"));
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
    json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
}
