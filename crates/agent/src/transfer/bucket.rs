//! Objects of buckets: staged by what was seen of them, and exported to their keys.
use vessl_core::plan::{BucketPlan, Provider};
use vessl_core::wire::ProgressKind;
use vessl_data::blob::Digest;
use vessl_data::bucket::{
    self, Empty, Export, Identity, Import, Location, ManifestUse, Outgoing, Picture, Previous, Session,
};
use vessl_data::dir::Dir;
use vessl_data::staging::{About, Looked, Staged};
use vessl_data::tree::Bounds;

use super::export::Exported;
use super::progress::follow;
use super::{Moved, TransferContext, TransferError};

/// Brings what a bucket holds onto the machine; what it held last time is not fetched again.
pub(super) fn stage(plan: &BucketPlan, cx: &TransferContext<'_>) -> Result<(Moved, Staged), TransferError> {
    let session = session(plan, cx)?;
    let staging = cx.sink.staging()?;
    let is_volume = plan.label.starts_with("volume://");
    let (staged, moved) = follow(cx, ProgressKind::Import, &plan.label, |watch| {
        staging.current(source(plan, cx), &watch, |into, before| {
            let noted = before.and_then(Staged::about);
            let picture = noted.as_ref().and_then(|(_, rest)| Picture::parse(rest));
            let dir = before.and_then(|before| Dir::open(&before.path).ok());
            let previous = picture.as_ref().zip(dir.as_ref()).map(|(picture, dir)| Previous { picture, dir });
            let manifest = ManifestUse::Follow;
            // A volume is there although nothing was written to it yet.
            let empty = if is_volume { Empty::IsFine } else { Empty::IsError };
            let done =
                session.import(&Import { into, previous, owner: None, manifest, empty, watch: &watch })?;
            Ok::<_, TransferError>(looked(plan, cx, done))
        })
    })?;
    Ok((moved, staged))
}

fn looked(plan: &BucketPlan, cx: &TransferContext<'_>, done: bucket::Imported) -> Looked<Moved> {
    let version = done.picture.digest().to_string();
    let about = About { label: plan.label.clone(), version, bytes: done.bytes, files: done.files };
    let moved = Moved { missing: done.left_out, top: done.top, ..Moved::from(about.clone()) };
    if done.unchanged {
        return Looked::Same(moved);
    }
    let key = Digest::of(format!("{} {}", source(plan, cx), about.version).as_bytes());
    Looked::New { key, about, rest: done.picture.text(), result: moved }
}

/// What stands for a place of a bucket on this machine: nobody of another organization gets at what was fetched for this one.
fn source(plan: &BucketPlan, cx: &TransferContext<'_>) -> Digest {
    let endpoint = plan.endpoint.as_deref().unwrap_or_default();
    let parts = [
        cx.plan.project.organization.as_str(),
        match plan.provider {
            Provider::S3 => "s3",
            Provider::Gs => "gs",
        },
        endpoint,
        &plan.bucket,
        &plan.prefix,
    ];
    Digest::of(serde_json::to_string(&parts).unwrap_or_default().as_bytes())
}

/// Sends a directory or file to a bucket; the same export that is repeated goes on, or finds that it is done.
pub(super) fn export(
    plan: &BucketPlan,
    what: Outgoing<'_>,
    bounds: Bounds,
    cx: &TransferContext<'_>,
) -> Result<Exported, TransferError> {
    let session = session(plan, cx)?;
    let name = Digest::of(plan.label.as_bytes()).to_string();
    let journal = cx.sink.dir().path().join(format!("export-{}", &name[..16]));
    let who = format!("run {}, attempt {}-{}", cx.plan.run.0, cx.plan.attempt, cx.plan.nonce);
    let done = follow(cx, ProgressKind::Export, &plan.label, |watch| {
        session.export(&Export { what, bounds, journal: &journal, who: &who, watch: &watch })
    });
    let done = match done {
        Ok(done) => done,
        Err(error) => {
            // What is left of it in the bucket costs its owner money.
            if let Err(left) = session.abort(&journal) {
                cx.log(format!("unfinished uploads may be left at `{}`: {left}", plan.label));
            }
            return Err(error.into());
        }
    };
    if done.last_writer_wins {
        cx.log(format!(
            "`{}` knows no conditional writes: of two exports to it at once the last one wins",
            plan.label
        ));
    }
    let bucket::Exported { bytes, files, version, warnings, followed, .. } = done;
    Ok(Exported { version, bytes, files, empty: files == 0, followed, warnings })
}

fn session(plan: &BucketPlan, cx: &TransferContext<'_>) -> Result<Session, TransferError> {
    let provider = match plan.provider {
        Provider::S3 => bucket::Provider::S3,
        Provider::Gs => bucket::Provider::Gs,
    };
    let BucketPlan { bucket, prefix, endpoint, region, .. } = plan.clone();
    Ok(Session::open(Location { provider, bucket, prefix, endpoint, region }, identity(plan, cx)?)?)
}

fn identity(plan: &BucketPlan, cx: &TransferContext<'_>) -> Result<Identity, TransferError> {
    let Some(name) = &plan.credential else {
        return Ok(if plan.machine_identity { Identity::Machine } else { Identity::Anonymous });
    };
    let kind = plan.provider.credential();
    let login = cx.secrets.login(kind, name);
    let login = login
        .ok_or_else(|| TransferError::Plan(format!("the credential `{name}` did not reach the agent")))?;
    Ok(match plan.provider {
        Provider::S3 => Identity::Keys {
            id: login.username.clone(),
            secret: login.password.clone(),
            session_token: login.session_token.clone(),
        },
        Provider::Gs => Identity::ServiceAccount(login.password.clone()),
    })
}
