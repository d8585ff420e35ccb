//! Where the parts of one image come from, resolved to what is needed for this machine and verified on the way:
//! reference → (index →) manifest → configuration → layers.
use std::io::Read;

use crate::error::StoreError;
use crate::layout::{self, Layout, Piece, Scratch};
use crate::manifest::{self, Config, Descriptor, MAX_MANIFEST, Manifest, Platform};
use crate::options::{Auth, Options};
use crate::registry::Registry;
use vessl_core::reference::{Digest, Reference};

/// Indexes within indexes that are followed.
const MAX_DEPTH: usize = 4;

/// A place that has images.
pub(crate) enum ImageSource {
    Registry(Box<Registry>),
    Layout(Layout),
}

/// An image that was found for this machine.
pub(crate) struct Resolved {
    /// Of what the reference names, index or manifest.
    pub(crate) digest: Digest,
    pub(crate) config: Config,
    /// Lowest first, one for each diff id of the configuration.
    pub(crate) layers: Vec<Blob>,
}

/// The bytes of one layer, before they are fetched.
#[derive(Clone)]
pub(crate) enum Blob {
    /// In the registry, to be downloaded.
    Remote(Descriptor),
    /// In a file; the digest is known in layouts, not in old archives.
    Local(Piece, Option<Digest>),
}

impl Blob {
    /// Compressed bytes.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Remote(descriptor) => descriptor.size,
            Self::Local(piece, _) => piece.size(),
        }
    }

    pub(crate) fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Remote(descriptor) => Some(&descriptor.digest),
            Self::Local(_, digest) => digest.as_ref(),
        }
    }
}

impl ImageSource {
    pub(crate) fn open(
        reference: &Reference,
        auth: &Auth,
        options: &Options,
        scratch: Scratch<'_>,
    ) -> Result<Self, StoreError> {
        match reference {
            Reference::Registry(named) => Ok(Self::Registry(Box::new(Registry::new(named, auth, options)?))),
            Reference::Layout { path, tag } => {
                let (name, roots) = (reference.to_string(), options.roots.as_deref());
                Ok(Self::Layout(Layout::open(&name, path, tag.as_deref(), roots, scratch)?))
            }
            Reference::Host => Err(StoreError::Reference(
                "`host://` is this machine itself; there is nothing to pull".into(),
            )),
        }
    }

    /// Finds the image for this machine.
    pub(crate) async fn resolve(&self, reference: &Reference) -> Result<Resolved, StoreError> {
        let image = reference.to_string();
        let (mut digest, mut entries) = match (self, reference) {
            (Self::Registry(registry), Reference::Registry(named)) => {
                let bytes = registry.manifest(&named.version()).await?;
                if let Some(expected) = &named.digest {
                    manifest::verify(&bytes, expected, &format!("the manifest of `{image}`"))?;
                }
                let digest = manifest::digest_of(&bytes);
                match Manifest::parse(&bytes, &image)? {
                    Manifest::Index(entries) => (digest, entries),
                    Manifest::Image { config, layers } => {
                        return self.image(digest, &config, layers, &image).await;
                    }
                }
            }
            (Self::Layout(layout), _) => match layout.entry()? {
                layout::Entry::Index(entries) => {
                    (manifest::choose(&entries, &Platform::here(), &image)?.digest.clone(), entries)
                }
                layout::Entry::Saved { config, layers } => return saved(&config, layers, &image),
            },
            (Self::Registry(_), _) => {
                return Err(StoreError::Reference(format!("`{image}` is not in a registry")));
            }
        };
        let top = digest.clone();
        for _ in 0..MAX_DEPTH {
            digest = manifest::choose(&entries, &Platform::here(), &image)?.digest.clone();
            let bytes = self.manifest(&digest).await?;
            manifest::verify(&bytes, &digest, &format!("the manifest of `{image}`"))?;
            match Manifest::parse(&bytes, &image)? {
                Manifest::Index(deeper) => entries = deeper,
                Manifest::Image { config, layers } => return self.image(top, &config, layers, &image).await,
            }
        }
        Err(StoreError::Unsupported { image, what: "its index holds indexes that hold indexes".into() })
    }

    async fn image(
        &self,
        digest: Digest,
        config: &Descriptor,
        layers: Vec<Descriptor>,
        image: &str,
    ) -> Result<Resolved, StoreError> {
        let bytes = match self {
            Self::Registry(registry) => registry.small_blob(&config.digest).await?,
            Self::Layout(layout) => layout.content(&config.digest, manifest::MAX_CONFIG)?,
        };
        manifest::verify(&bytes, &config.digest, &format!("the configuration of `{image}`"))?;
        let config = Config::parse(&bytes, layers.len(), &Platform::here(), image)?;
        let blob = |layer: Descriptor| match self {
            Self::Registry(_) => Ok(Blob::Remote(layer)),
            Self::Layout(layout) => Ok(Blob::Local(layout.blob(&layer)?, Some(layer.digest))),
        };
        let layers = layers.into_iter().map(blob).collect::<Result<_, StoreError>>()?;
        Ok(Resolved { digest, config, layers })
    }

    async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        match self {
            Self::Registry(registry) => registry.manifest(&digest.to_string()).await,
            Self::Layout(layout) => layout.content(digest, MAX_MANIFEST),
        }
    }
}

fn saved(config: &[u8], layers: Vec<Piece>, image: &str) -> Result<Resolved, StoreError> {
    let digest = layout::image_id(config);
    let config = Config::parse(config, layers.len(), &Platform::here(), image)?;
    let layers = layers.into_iter().map(|piece| Blob::Local(piece, None)).collect();
    Ok(Resolved { digest, config, layers })
}

/// Opens a local blob; a remote one has no bytes here.
pub(crate) fn open_local(blob: &Blob) -> std::io::Result<Option<impl Read + Send + use<>>> {
    match blob {
        Blob::Remote(_) => Ok(None),
        Blob::Local(piece, _) => piece.open().map(Some),
    }
}
