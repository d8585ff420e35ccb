//! Failures of requests in words for people; addresses with query strings and credentials never appear.
use std::error::Error;

use reqwest::{Response, StatusCode};

use super::Registry;
use crate::error::StoreError;
use crate::options::{Auth, Options};

/// Most bytes of an error answer that are read.
const MAX_ANSWER: u64 = 16 << 10;

/// The innermost reason of an error.
pub(super) fn root_cause(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Failures that another try would not change.
pub(super) fn is_final(error: &reqwest::Error) -> bool {
    error.is_redirect() || error.is_builder() || root_cause(error).contains("certificate")
}

pub(super) fn failure(error: &reqwest::Error, options: &Options) -> String {
    let cause = root_cause(error);
    if error.is_timeout() && error.is_connect() {
        return format!("it cannot be reached: no connection within {} s", options.connect.as_secs_f32());
    }
    if error.is_timeout() {
        return format!("it stalled: nothing came for {} s", options.stall.as_secs_f32());
    }
    if cause.contains("InvalidContentType") || cause.contains("tls handshake eof") {
        return format!(
            "it does not speak https; if plain http is meant, list it in `{}`",
            Options::INSECURE
        );
    }
    if error.is_connect() {
        return format!("it cannot be reached: {cause}");
    }
    if error.is_body() || error.is_decode() {
        return format!("the connection was cut: {cause}");
    }
    cause
}

#[derive(Default, serde::Deserialize)]
struct Answer {
    #[serde(default)]
    errors: Vec<Said>,
    /// Token services answer with this form.
    details: Option<String>,
}

#[derive(Default, serde::Deserialize)]
struct Said {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Said {
    /// What was said, short and without control characters, to stand behind a status.
    fn quoted(&self) -> String {
        let text: String = self.message.chars().filter(|c| !c.is_control()).take(200).collect();
        if text.is_empty() { text } else { format!(": {text}") }
    }
}

impl Registry {
    /// What an answer that is not a success means.
    pub(super) async fn refusal(&self, path: &str, response: Response) -> StoreError {
        let status = response.status();
        let said = self.said(response).await;
        let text = said.quoted();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.no_login(status, &text),
            StatusCode::NOT_FOUND => {
                StoreError::Unknown { image: self.named.to_string(), reason: self.missing(path, &said) }
            }
            _ => self.unreachable(format!("it answers {status}{text}")),
        }
    }

    /// What an answer of the login service that is not a success means.
    pub(super) async fn login_refusal(&self, response: Response) -> StoreError {
        let status = response.status();
        let text = self.said(response).await.quoted();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.no_login(status, &text),
            _ => self.login_error(format!("its login service answers {status}{text}")),
        }
    }

    pub(super) fn no_login(&self, status: StatusCode, text: &str) -> StoreError {
        let code = status.as_u16();
        let (registry, repository) = self.place();
        let reason = match &self.auth {
            Auth::Anonymous => {
                let reason = format!("it does not exist or needs a login ({code}{text})");
                return StoreError::LoginNeeded { registry, repository, reason };
            }
            Auth::Basic { username, .. } if status == StatusCode::UNAUTHORIZED => {
                format!("the login of `{username}` failed ({code}{text})")
            }
            Auth::Basic { username, .. } => format!("`{username}` may not pull it ({code}{text})"),
        };
        StoreError::Login { registry, repository, reason }
    }

    fn missing(&self, path: &str, said: &Said) -> String {
        let (registry, repository) = self.place();
        match path.split_once('/') {
            Some(("manifests", _)) if said.code == "NAME_UNKNOWN" => {
                format!("registry `{registry}` has no repository `{repository}`")
            }
            Some(("manifests", version)) => {
                let kind = if version.starts_with("sha256:") { "digest" } else { "tag" };
                format!("repository `{repository}` of registry `{registry}` has no {kind} `{version}`")
            }
            _ => format!(
                "registry `{registry}`, repository `{repository}` lacks `{path}`, which its manifest names"
            ),
        }
    }

    async fn said(&self, response: Response) -> Said {
        let body = self.body(response, MAX_ANSWER, "the answer").await.unwrap_or_default();
        let answer: Answer = serde_json::from_slice(&body).unwrap_or_default();
        let details = Said { code: String::new(), message: answer.details.unwrap_or_default() };
        answer.errors.into_iter().next().unwrap_or(details)
    }
}
