//! Objects of buckets.
use vessl_core::plan::BucketPlan;
use vessl_data::staging::Staged;
use vessl_data::tree::{Bounds, Source};

use super::export::Exported;
use super::{Moved, TransferContext, TransferError};

pub(super) fn stage(
    bucket: &BucketPlan,
    _cx: &TransferContext<'_>,
) -> Result<(Moved, Staged), TransferError> {
    Err(TransferError::Plan(format!("`{}` cannot be read yet", bucket.label)))
}

pub(super) fn export(
    bucket: &BucketPlan,
    _source: Source<'_>,
    _bounds: Bounds,
    _cx: &TransferContext<'_>,
) -> Result<Exported, TransferError> {
    Err(TransferError::Plan(format!("`{}` cannot be written yet", bucket.label)))
}
