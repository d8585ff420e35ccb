//! Why nothing was moved from or to a bucket, in words for people. No secret is ever in them.
use crate::DataError;

/// Why an import from or an export to a bucket failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketError {
    /// What was asked for cannot be an address of a bucket.
    #[error("`{location}` cannot be used: {why}")]
    Address {
        /// The address.
        location: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such bucket.
    #[error(
        "there is no bucket `{bucket}`{place}; check its name, and `endpoint` if it is not at the cloud itself"
    )]
    NoBucket {
        /// Its name.
        bucket: String,
        /// ` at ENDPOINT`, if one was given.
        place: String,
    },
    /// There is neither an object of that name nor anything below it.
    #[error("there is nothing at `{0}`: no object has this key, and none lies below it")]
    Missing(String),
    /// The credential may not do that.
    #[error("`{location}`: no permission, asked {who}; give the credential the right to {right}{hint}")]
    Denied {
        /// What was asked for.
        location: String,
        /// `anonymously`, `with the key …`.
        who: String,
        /// `list and read the bucket`, `write to it`.
        right: &'static str,
        /// Another cause that looks the same.
        hint: &'static str,
    },
    /// The other end does not know the credential, or its signature is wrong.
    #[error("`{location}`: the credential was not accepted, asked {who}: {why}")]
    Credential {
        /// What was asked for.
        location: String,
        /// `with the key …`.
        who: String,
        /// The reason.
        why: String,
    },
    /// A temporary credential has ended.
    #[error("`{location}`: the credential has expired, asked {who}; make a new one")]
    Expired {
        /// What was asked for.
        location: String,
        /// `with the key …`.
        who: String,
    },
    /// The bucket is in another region.
    #[error("the bucket `{bucket}` is not in the region `{given}`{}", elsewhere(right.as_deref()))]
    Region {
        /// The bucket.
        bucket: String,
        /// Where it was looked for.
        given: String,
        /// Where it is, if the other end tells.
        right: Option<String>,
    },
    /// The clock of this machine is wrong.
    #[error("`{location}` does not take requests of this machine because its clock is wrong{}; set the clock", there(theirs.as_deref()))]
    Clock {
        /// What was asked for.
        location: String,
        /// What time it is at the other end, if it tells.
        theirs: Option<String>,
    },
    /// The other end cannot be reached, stalled, or kept failing.
    #[error("`{location}`: {why}")]
    Unreachable {
        /// What was asked for.
        location: String,
        /// The reason.
        why: String,
    },
    /// The other end says no for a reason of its own.
    #[error("`{location}`: refused with status {status}{}", text(code, message))]
    Refused {
        /// What was asked for.
        location: String,
        /// HTTP status.
        status: u16,
        /// Its word for the reason; may be empty.
        code: String,
        /// Its sentence; may be empty.
        message: String,
    },
    /// An answer that is not what the interface says.
    #[error("`{location}` answers in a way that is not understood: {why}")]
    Answer {
        /// What was asked for.
        location: String,
        /// What is wrong.
        why: String,
    },
    /// An object became another one, or went away, on the way.
    #[error("`{key}` changed while it was imported; nothing was imported, so import it again")]
    Changed {
        /// Its key.
        key: String,
    },
    /// The bytes that came are not those that the other end says it has.
    #[error("`{key}` came damaged several times: {why}")]
    Damaged {
        /// Its key.
        key: String,
        /// What does not fit.
        why: &'static str,
    },
    /// Keys that cannot be files of a directory.
    #[error("`{location}` holds {count} that cannot be files here: {}; rename them or import a prefix without them", first.join(", "))]
    Keys {
        /// What was asked for.
        location: String,
        /// `1 key`, `2000 keys`.
        count: String,
        /// The first ones, each with the reason.
        first: Vec<String>,
    },
    /// Another export to the same place was finished meanwhile.
    #[error(
        "another export to `{location}` was finished meanwhile, that of {who}; its files and these may be mixed there: export to another prefix"
    )]
    Taken {
        /// Where to.
        location: String,
        /// Whose it was.
        who: String,
    },
    /// What an export left is not as it left it.
    #[error(
        "`{key}` {what}, and not what {who} exported there: another export may be under way, else somebody has changed it; export there \
         again, or remove `.vessl-manifest.json` there to import what is there now"
    )]
    Stale {
        /// Its key.
        key: String,
        /// What became of it.
        what: &'static str,
        /// Whose export it was.
        who: String,
    },
    /// The list of files that an export left beside them is not one.
    #[error("`{key}` is not the list of an export: {why}; remove it, or import with `manifest: ignore`")]
    Manifest {
        /// Its key.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// This machine: files, the disk, or the caller who wanted no more.
    #[error(transparent)]
    Local(#[from] DataError),
}

impl BucketError {
    /// Whether the same call may succeed later without anybody doing anything.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Changed { .. } | Self::Damaged { .. })
    }
}

fn text(code: &str, message: &str) -> String {
    let code = if code.is_empty() { String::new() } else { format!(" ({code})") };
    if message.is_empty() { code } else { format!("{code}: {message}") }
}

fn elsewhere(right: Option<&str>) -> String {
    right.map_or_else(
        || "; set `region` to where it is".to_owned(),
        |right| format!(" but in `{right}`; set `region: {right}`"),
    )
}

fn there(time: Option<&str>) -> String {
    time.map_or_else(String::new, |time| format!(" (there it is {time})"))
}
