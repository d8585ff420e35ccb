//! What a cluster's machine keeps for its runs: images, and what imports brought. Runs fetch their own; this is for people, and for runs that
//! wait.
use std::path::PathBuf;

use vessl_core::ahead::{FetchOrder, FetchStep};
use vessl_core::record::Login;
use vessl_core::wire::{CacheEntry, CachePruned, ImageView, Progress, Pruned};

use super::EngineError;
#[cfg(feature = "testing")]
use super::fake;
use super::local::Program;

/// One line of a pull.
#[derive(Debug)]
pub enum PullStep {
    /// On the way.
    Progress(Progress),
    /// The image is here.
    Done(ImageView),
}

/// Where the images of a machine are.
#[derive(Debug)]
pub(crate) enum Images {
    /// This machine, with the data directory that holds them.
    Local(PathBuf, Program),
    /// A scripted one.
    #[cfg(feature = "testing")]
    Fake,
}

impl Images {
    /// Images that are here.
    pub(crate) async fn list(&self) -> Result<Vec<ImageView>, EngineError> {
        match self {
            Self::Local(root, program) => program.images(root).await,
            #[cfg(feature = "testing")]
            Self::Fake => Ok(fake::Fake::images()),
        }
    }

    /// Why an image layout or archive of the machine cannot be used, if that is so; where there are roots it must lie below one.
    pub(crate) async fn check(
        &self,
        reference: &str,
        roots: &[String],
    ) -> Result<Option<String>, EngineError> {
        match self {
            Self::Local(root, program) => program.check_image(root, reference, roots).await,
            #[cfg(feature = "testing")]
            Self::Fake => Ok(None),
        }
    }

    /// Removes images and layers that no run uses.
    pub(crate) async fn prune(&self) -> Result<Pruned, EngineError> {
        match self {
            Self::Local(root, program) => program.prune(root).await,
            #[cfg(feature = "testing")]
            Self::Fake => Ok(Pruned::default()),
        }
    }

    /// What imports brought to the machine.
    pub(crate) async fn cache(&self) -> Result<Vec<CacheEntry>, EngineError> {
        match self {
            Self::Local(root, program) => program.cache(root).await,
            #[cfg(feature = "testing")]
            Self::Fake => Ok(Vec::new()),
        }
    }

    /// Removes what no run uses of it until at most `keep` bytes are left.
    pub(crate) async fn prune_cache(&self, keep: u64) -> Result<CachePruned, EngineError> {
        match self {
            Self::Local(root, program) => program.prune_cache(root, keep).await,
            #[cfg(feature = "testing")]
            Self::Fake => Ok(CachePruned::default()),
        }
    }

    /// Fetches what a run that waits imports; the steps arrive on the receiver. Dropping it ends that.
    pub(crate) async fn fetch(
        &self,
        order: &FetchOrder,
    ) -> Result<tokio::sync::mpsc::Receiver<Result<FetchStep, EngineError>>, EngineError> {
        match self {
            Self::Local(root, program) => program.fetch(root, order).await,
            #[cfg(feature = "testing")]
            Self::Fake => Ok(tokio::sync::mpsc::channel(1).1),
        }
    }

    /// Pulls an image; the steps arrive on the receiver, the last one is [`PullStep::Done`] or an error.
    pub(crate) async fn pull(
        &self,
        reference: String,
        login: Option<Login>,
    ) -> Result<tokio::sync::mpsc::Receiver<Result<PullStep, EngineError>>, EngineError> {
        match self {
            Self::Local(root, program) => program.pull(root, reference, login).await,
            #[cfg(feature = "testing")]
            Self::Fake => Ok(fake::Fake::pull(&reference)),
        }
    }
}
