//! Failures as HTTP answers: one function maps each kind to its status and its stable word. It decides nothing.
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use vessl_core::access::Denied;
use vessl_core::wire::{ErrorBody, in_words};
use vessl_data::DataError;
use vessl_data::bucket::BucketError;

use crate::control::{ControlError, EngineError};
use crate::registry::RegistryError;
use crate::store::StoreError;

/// Any failure of a request.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    body: ErrorBody,
}

/// A result of a handler.
pub(super) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let body =
            ErrorBody { code: code.to_owned(), message: message.into(), hint: None, problems: Vec::new() };
        Self { status, body }
    }

    pub(super) fn hint(mut self, hint: Option<String>) -> Self {
        self.body.hint = hint;
        self
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    /// What is well-formed and still makes no sense.
    pub(super) fn unfit(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "malformed", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// A failure that is ours: the log has the causes, the answer has a number to find them by.
    pub(super) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut number = [0; 4];
        // Without random bytes the number is only less unique.
        let _ = getrandom::fill(&mut number);
        let id = crate::hex(&number);
        tracing::error!(id, error = %crate::chain(error), "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("internal error, id {id}"))
            .hint(Some("the server's log says more under this id".to_owned()))
    }

    /// What a client reads.
    /// The bucket of the blobs does not give what it has.
    fn away(message: String) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "away", message)
            .hint(Some("`vessl server status` says how the bucket stands".to_owned()))
    }

    pub(super) fn into_body(self) -> ErrorBody {
        self.body
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = http::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(http::header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::NotFound { message, hint } => Self::not_found(message).hint(hint),
            ControlError::Invalid(problems) => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                let mut failure = Self::new(status, "spec_invalid", in_words(&problems));
                failure.body.problems = problems;
                failure
            }
            ControlError::Unfit(message) => Self::unfit(message),
            ControlError::Malformed(message) => Self::malformed(message),
            ControlError::Refused { message, hint } => {
                Self::new(StatusCode::CONFLICT, "refused", message).hint(hint)
            }
            ControlError::Denied(denied) => denied.into(),
            ControlError::CleaningUp(_) => {
                let hint = "ask again: it takes as long as the files that the run left".to_owned();
                Self::new(StatusCode::CONFLICT, "cleaning_up", error.to_string()).hint(Some(hint))
            }
            ControlError::Store(error) => error.into(),
            ControlError::Engine(error) => error.into(),
            ControlError::Stopping => stopping(),
            error @ (ControlError::Coming(_) | ControlError::Away(_)) => Self::away(error.to_string()),
            ControlError::Data(error) => RegistryError::from(error).into(),
            error @ (ControlError::Secret(_)
            | ControlError::Attempt(_)
            | ControlError::Random(_)
            | ControlError::Ssh(_)) => Self::internal(&error),
        }
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", denied.to_string())
            .hint(Some("ask whoever looks after this server for the right to do it".to_owned()))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Stale(_) | StoreError::Moved(_) => {
                Self::new(StatusCode::CONFLICT, "conflict", error.to_string())
            }
            StoreError::Missing { .. } => Self::not_found(error.to_string()),
            StoreError::UnreadableRun(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "run_unreadable", error.to_string())
            }
            StoreError::Closed => stopping(),
            StoreError::Lost => Self::new(StatusCode::SERVICE_UNAVAILABLE, "try_again", error.to_string()),
            full if full.is_disk_full() => disk_full(),
            _ => Self::internal(&error),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Verb { why, .. } => Self::new(StatusCode::BAD_GATEWAY, "engine_failed", why),
            other => Self::internal(&other),
        }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Missing(message) => Self::not_found(message),
            RegistryError::Malformed(message) => Self::unfit(message),
            RegistryError::Refused { message, hint } => {
                Self::new(StatusCode::CONFLICT, "refused", message).hint(hint)
            }
            RegistryError::Wrong(message) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "wrong_content", message)
            }
            RegistryError::Storage(error @ BucketError::Unreachable { .. }) => {
                Self::new(StatusCode::BAD_GATEWAY, "storage_failed", error.to_string())
            }
            RegistryError::Storage(error) => {
                let hint = matches!(
                    error,
                    BucketError::Denied { .. } | BucketError::Credential { .. } | BucketError::Expired { .. }
                );
                let hint = hint.then(|| {
                    "`vessl storage list` names the credential of the storage, `vessl credential create` replaces it"
                        .to_owned()
                });
                Self::new(StatusCode::CONFLICT, "refused", error.to_string()).hint(hint)
            }
            RegistryError::Secret(error) => Self::new(StatusCode::CONFLICT, "refused", error.to_string()),
            RegistryError::Denied(denied) => denied.into(),
            RegistryError::Store(error) => error.into(),
            RegistryError::Stopping => stopping(),
            RegistryError::Data(error @ (DataError::Missing { .. } | DataError::Damaged { .. })) => {
                let words = format!("the files are lost: {error}");
                let hint = "bring the blob back from a backup of the data directory, or make the files again";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "lost", words).hint(Some(hint.to_owned()))
            }
            RegistryError::Data(error @ DataError::Away { .. }) => Self::away(error.to_string()),
            RegistryError::Bucket(error) => Self::away(error.to_string()),
            RegistryError::Data(DataError::DiskFull { .. }) => disk_full(),
            RegistryError::Data(error @ (DataError::Conflict { .. } | DataError::Changed { .. })) => {
                Self::new(StatusCode::CONFLICT, "refused", error.to_string())
            }
            RegistryError::Data(error @ (DataError::Limit { .. } | DataError::Manifest { .. })) => {
                Self::unfit(error.to_string())
            }
            RegistryError::Read(error) if vessl_data::is_full(&error) => disk_full(),
            other => Self::internal(&other),
        }
    }
}

fn disk_full() -> Failure {
    Failure::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", "the disk is full: nothing was stored")
        .hint(Some("make room on the file system of the data directory".to_owned()))
}

fn stopping() -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is stopping")
}
