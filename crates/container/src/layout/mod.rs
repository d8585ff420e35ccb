//! Images on this machine: an OCI layout directory, or an archive as `docker save` writes it (both its forms), plain or compressed.
//!
//! It reads and finds; digests are verified by whoever uses the content.
mod archive;
mod confinement;
mod plain;

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::StoreError;
use crate::manifest::{self, Descriptor, MAX_CONFIG, MAX_MANIFEST, Manifest};
use archive::{Archive, Extent};
use confinement::Confinement;
pub(crate) use plain::Scratch;
use vessl_core::reference::Digest;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

/// An opened layout.
pub(crate) struct Layout {
    /// As in the reference, for errors.
    image: String,
    path: PathBuf,
    confinement: Confinement,
    tag: Option<String>,
    /// `None`: a directory.
    archive: Option<Archive>,
}

/// What an old archive without an index says of its image.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Where to start: the descriptor of a manifest, or the configuration and layers themselves.
pub(crate) enum Entry {
    Index(Vec<Descriptor>),
    Saved { config: Vec<u8>, layers: Vec<Piece> },
}

/// Content that is somewhere in a file.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    file: PathBuf,
    confinement: Confinement,
    extent: Extent,
}

impl Piece {
    pub(crate) fn size(&self) -> u64 {
        self.extent.size
    }

    pub(crate) fn open(&self) -> io::Result<impl Read + Send + use<>> {
        Ok(PieceReader {
            file: self.confinement.open(&self.file)?,
            at: self.extent.offset,
            left: self.extent.size,
        })
    }
}

struct PieceReader {
    file: File,
    at: u64,
    left: u64,
}

impl Read for PieceReader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(to.len());
        let n = self.file.read_at(&mut to[..most], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

impl Layout {
    /// Opens what lies at `path`; where there are `roots`, below one of them alone.
    pub(crate) fn open(
        image: &str,
        path: &Path,
        tag: Option<&str>,
        roots: Option<&[PathBuf]>,
        scratch: Scratch<'_>,
    ) -> Result<Self, StoreError> {
        let unknown = |reason: String| StoreError::Unknown { image: image.to_owned(), reason };
        let (mut confinement, path) = way(image, path, roots)?;
        let meta = path.metadata().map_err(|e| unknown(format!("`{}`: {e}", path.display())))?;
        let archive = if meta.is_dir() {
            None
        } else if !meta.is_file() {
            // To open a pipe would wait for its writer for ever.
            return Err(unknown(format!("`{}` is neither a directory nor a file", path.display())));
        } else {
            let no_archive =
                |e: String| unknown(format!("`{}` is not an image archive: {e}", path.display()));
            let mut file = confinement.open(&path).map_err(|e| no_archive(e.to_string()))?;
            if plain::is_compressed(&file).map_err(|e| no_archive(e.to_string()))? {
                file = plain::unpack(&file, &path, scratch)?;
                confinement =
                    Confinement::Opened(Arc::new(file.try_clone().map_err(|e| no_archive(e.to_string()))?));
            }
            Some(Archive::index(file).map_err(no_archive)?)
        };
        Ok(Self { image: image.to_owned(), path, confinement, tag: tag.map(str::to_owned), archive })
    }

    /// The image or images that the reference means.
    pub(crate) fn entry(&self) -> Result<Entry, StoreError> {
        if let Some(index) = self.read("index.json", MAX_MANIFEST)? {
            let Manifest::Index(entries) = Manifest::parse(&index, &self.image)? else {
                return Err(self.damaged("index.json", "it is not an index".into()));
            };
            return self.pick_indexed(entries).map(Entry::Index);
        }
        if let Some(saved) = self.read("manifest.json", MAX_MANIFEST)? {
            let saved =
                serde_json::from_slice(&saved).map_err(|e| self.damaged("manifest.json", e.to_string()))?;
            return self.saved(&self.pick_saved(saved)?);
        }
        Err(self.unknown(format!("`{}` holds neither an OCI layout nor a saved image", self.path.display())))
    }

    /// Content by digest, at most `most` bytes, not verified.
    pub(crate) fn content(&self, digest: &Digest, most: u64) -> Result<Vec<u8>, StoreError> {
        let name = blob_name(digest);
        self.read(&name, most)?
            .ok_or_else(|| self.unknown(format!("`{}` lacks `{name}`", self.path.display())))
    }

    /// Where a blob is; its size must be the one that the manifest says.
    pub(crate) fn blob(&self, blob: &Descriptor) -> Result<Piece, StoreError> {
        let name = blob_name(&blob.digest);
        let piece = self.piece(&name)?;
        let piece = piece.ok_or_else(|| self.unknown(format!("`{}` lacks `{name}`", self.path.display())))?;
        if piece.size() != blob.size {
            let reason = format!("it has {} bytes, the manifest says {}", piece.size(), blob.size);
            return Err(self.damaged(&name, reason));
        }
        Ok(piece)
    }

    fn saved(&self, saved: &Saved) -> Result<Entry, StoreError> {
        let lacks = |name: &str| self.unknown(format!("`{}` lacks `{name}`", self.path.display()));
        let config = self.read(&saved.config, MAX_CONFIG)?.ok_or_else(|| lacks(&saved.config))?;
        let piece = |name: &String| self.piece(name)?.ok_or_else(|| lacks(name));
        Ok(Entry::Saved { config, layers: saved.layers.iter().map(piece).collect::<Result<_, _>>()? })
    }

    /// The entries that the tag names; all if there is no tag and they are one image for several platforms.
    fn pick_indexed(&self, mut entries: Vec<Descriptor>) -> Result<Vec<Descriptor>, StoreError> {
        let names: Vec<String> = entries.iter().filter_map(ref_name).map(str::to_owned).collect();
        if let Some(tag) = &self.tag {
            entries.retain(|entry| names_of(entry).any(|name| is_named(name, tag)));
        }
        if entries.is_empty() || (self.tag.is_none() && entries.len() > 1 && !names.is_empty()) {
            return Err(self.which(&names));
        }
        Ok(entries)
    }

    fn pick_saved(&self, all: Vec<Saved>) -> Result<Saved, StoreError> {
        let names: Vec<String> =
            all.iter().flat_map(|saved| saved.repo_tags.clone().unwrap_or_default()).collect();
        let wanted = |saved: &Saved| match (&self.tag, &saved.repo_tags) {
            (None, _) => true,
            (Some(tag), Some(names)) => names.iter().any(|name| is_named(name, tag)),
            (Some(_), None) => false,
        };
        let mut fitting = all.into_iter().filter(wanted);
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(self.which(&names)),
        }
    }

    fn which(&self, names: &[String]) -> StoreError {
        let has =
            if names.is_empty() { "no named image".to_owned() } else { format!("`{}`", names.join("`, `")) };
        let reason = match &self.tag {
            Some(tag) => format!("`{}` has no single image `{tag}`; it has {has}", self.path.display()),
            None => {
                format!("`{}` has several images, name one with `:tag`; it has {has}", self.path.display())
            }
        };
        self.unknown(reason)
    }

    fn piece(&self, name: &str) -> Result<Option<Piece>, StoreError> {
        if let Some(archive) = &self.archive {
            let extent = archive.find(name);
            return Ok(extent.map(|extent| self.extract(self.path.clone(), extent)));
        }
        if Path::new(name).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
            return Err(self.damaged("manifest.json", format!("`{name}` leads out of the layout")));
        }
        let file = self.path.join(name);
        match self.metadata(&file) {
            Ok(meta) if !meta.is_file() => Err(self.damaged(name, "it is no file".into())),
            Ok(meta) => Ok(Some(self.extract(file, Extent { offset: 0, size: meta.len() }))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", &file, error)),
        }
    }

    fn metadata(&self, file: &Path) -> io::Result<Metadata> {
        match &self.confinement {
            Confinement::Anywhere => file.metadata(),
            other => other.open(file)?.metadata(),
        }
    }

    fn extract(&self, file: PathBuf, extent: Extent) -> Piece {
        Piece { file, confinement: self.confinement.clone(), extent }
    }

    fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(piece) = self.piece(name)? else { return Ok(None) };
        if piece.size() > most {
            return Err(self.damaged(name, format!("it is larger than {most} bytes")));
        }
        let mut bytes = Vec::new();
        let read = piece.open().and_then(|mut reader| reader.read_to_end(&mut bytes));
        read.map_err(|e| StoreError::io("read", &piece.file, e))?;
        Ok(Some(bytes))
    }

    fn unknown(&self, reason: String) -> StoreError {
        StoreError::Unknown { image: self.image.clone(), reason }
    }

    fn damaged(&self, name: &str, reason: String) -> StoreError {
        StoreError::Corrupt { what: format!("`{name}` of `{}`", self.path.display()), reason }
    }
}

/// The way to a layout and where it is: anywhere, or below one of `roots`.
fn way(image: &str, path: &Path, roots: Option<&[PathBuf]>) -> Result<(Confinement, PathBuf), StoreError> {
    let Some(roots) = roots else { return Ok((Confinement::Anywhere, path.to_owned())) };
    let unknown = |e: io::Error| StoreError::Unknown {
        image: image.to_owned(),
        reason: format!("`{}`: {e}", path.display()),
    };
    let inside = Confinement::to(path, roots).map_err(unknown)?;
    let outside = |outside: confinement::Outside| StoreError::Unsupported {
        image: image.to_owned(),
        what: outside.explain(roots),
    };
    inside.map_err(outside)
}

/// Whether the archive at `path` is compressed and too large to look at all of it; an error if its begin shows that it is none.
pub(crate) fn is_large_archive(
    image: &str,
    path: &Path,
    roots: Option<&[PathBuf]>,
) -> Result<bool, StoreError> {
    let (confinement, path) = way(image, path, roots)?;
    if !path.is_file() {
        return Ok(false);
    }
    let look = || {
        let file = confinement.open(&path).map_err(|e| e.to_string())?;
        Ok(plain::is_compressed(&file).map_err(|e| e.to_string())? && plain::is_large_and_begins_well(&file)?)
    };
    look().map_err(|e: String| StoreError::Unknown {
        image: image.to_owned(),
        reason: format!("`{}` is not an image archive: {e}", path.display()),
    })
}

/// Refuses a layout that does not lie below one of `roots`.
pub(crate) fn check(image: &str, path: &Path, roots: &[PathBuf]) -> Result<(), StoreError> {
    way(image, path, Some(roots)).map(drop)
}

/// The digest that stands for an old archive's image: that of its configuration.
pub(crate) fn image_id(config: &[u8]) -> Digest {
    manifest::digest_of(config)
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn ref_name(entry: &Descriptor) -> Option<&str> {
    names_of(entry).next()
}

fn names_of(entry: &Descriptor) -> impl Iterator<Item = &str> {
    let annotations = entry.annotations.as_ref();
    [REF_NAME, FULL_NAME].into_iter().filter_map(move |key| Some(annotations?.get(key)?.as_str()))
}

/// `tag` is the whole name or what stands behind its last colon.
fn is_named(name: &str, tag: &str) -> bool {
    name == tag || name.rsplit_once(':').is_some_and(|(_, last)| last == tag)
}
