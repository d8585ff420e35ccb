//! Repositories of Hugging Face.
use vessl_core::plan::HfPlan;
use vessl_data::staging::Staged;

use super::{Moved, TransferContext, TransferError};

pub(super) fn stage(hf: &HfPlan, _cx: &TransferContext<'_>) -> Result<(Moved, Staged), TransferError> {
    Err(TransferError::Plan(format!("`{}` cannot be read yet", hf.label)))
}
