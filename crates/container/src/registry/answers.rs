//! What a registry's answers mean, in words for people.
use reqwest::{Response, StatusCode};

use super::Registry;
use crate::error::StoreError;
use crate::options::Auth;

/// Most bytes of an error answer that are read.
const MAX_ANSWER: u64 = 16 << 10;

#[derive(Default, serde::Deserialize)]
struct Answer {
    #[serde(default)]
    errors: Vec<RegistryMessage>,
    /// Token services answer with this form.
    details: Option<String>,
}

#[derive(Default, serde::Deserialize)]
struct RegistryMessage {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl RegistryMessage {
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
        let message = self.message(response).await;
        let text = message.quoted();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.no_login(status, &text),
            StatusCode::NOT_FOUND => {
                StoreError::Unknown { image: self.named.to_string(), reason: self.missing(path, &message) }
            }
            _ => self.failed(format!("it answers {status}{text}")),
        }
    }

    /// What an answer of the login service that is not a success means.
    pub(super) async fn login_refusal(&self, response: Response) -> StoreError {
        let status = response.status();
        let text = self.message(response).await.quoted();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.no_login(status, &text),
            _ => self.failed(format!("its login service answers {status}{text}")),
        }
    }

    pub(super) fn no_login(&self, status: StatusCode, text: &str) -> StoreError {
        let code = status.as_u16();
        self.failed(match &self.auth {
            Auth::Anonymous => {
                let (registry, repository) = self.place();
                let reason = format!("it does not exist or needs a login ({code}{text})");
                return StoreError::LoginNeeded { registry, repository, reason };
            }
            Auth::Basic { username, .. } if status == StatusCode::UNAUTHORIZED => {
                format!("the login of `{username}` failed ({code}{text})")
            }
            Auth::Basic { username, .. } => format!("`{username}` may not pull it ({code}{text})"),
        })
    }

    fn missing(&self, path: &str, message: &RegistryMessage) -> String {
        let (registry, repository) = self.place();
        match path.split_once('/') {
            Some(("manifests", _)) if message.code == "NAME_UNKNOWN" => {
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

    async fn message(&self, response: Response) -> RegistryMessage {
        let body = self.body(response, MAX_ANSWER, "the answer").await.unwrap_or_default();
        let answer: Answer = serde_json::from_slice(&body).unwrap_or_default();
        let details = RegistryMessage { code: String::new(), message: answer.details.unwrap_or_default() };
        answer.errors.into_iter().next().unwrap_or(details)
    }
}
