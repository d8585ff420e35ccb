//! Repositories of Hugging Face: staged by their commit.
use vessl_core::credential::CredentialKind;
use vessl_core::plan::HfPlan;
use vessl_core::wire::ProgressKind;
use vessl_data::blob::Digest;
use vessl_data::hub::{self, Kind, Login, Repository, Request};
use vessl_data::staging::{About, Made, Staged};

use super::progress::follow;
use super::{Moved, TransferContext, TransferError};

/// Brings the commit that the revision means now onto the machine, if it is not here.
pub(super) fn stage(plan: &HfPlan, cx: &TransferContext<'_>) -> Result<(Moved, Staged), TransferError> {
    let kind = if plan.dataset { Kind::Dataset } else { Kind::Model };
    let repository = &Repository::new(kind, &plan.repository, plan.revision.as_deref(), &plan.endpoint)?;
    let login = match &plan.credential {
        Some(name) => {
            let login = cx.secrets.login(CredentialKind::Hf, name);
            let missing = || TransferError::Plan(format!("the credential `{name}` did not reach the agent"));
            Some(Login { credential: name.as_str(), token: &login.ok_or_else(missing)?.password })
        }
        None => None,
    };
    let retry = &hub::patience();
    let staging = cx.sink.staging()?;
    let staged = follow(cx, ProgressKind::Import, &plan.label, |watch| {
        let request = Request { repository, login, watch, retry };
        let commit = hub::pin(&request)?.commit;
        staging.entry(key(plan, &commit, cx), &watch, |into| {
            let done = hub::import(&request, &commit, into, None)?;
            let (version, label) = (done.commit, plan.label.clone());
            let about = About { label, version, bytes: done.bytes, files: done.files };
            Ok::<_, TransferError>(Made::from(about))
        })
    })?;
    let (about, _) = staged.about().unwrap_or_default();
    Ok((about.into(), staged))
}

/// A commit may be open to one organization alone, and what is told of it to everybody.
fn key(plan: &HfPlan, commit: &str, cx: &TransferContext<'_>) -> Digest {
    let organization = cx.plan.project.organization.as_str();
    let kind = if plan.dataset { "hf-dataset" } else { "hf-model" };
    let parts = [organization, kind, &plan.endpoint, &plan.repository, commit];
    Digest::of(serde_json::to_string(&parts).unwrap_or_default().as_bytes())
}
