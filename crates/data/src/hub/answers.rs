//! The requests that an import makes, and what answers mean that are no success.
//!
//! The token goes with requests to the endpoint alone: every address is made here from the endpoint, and the redirects that files
//! get lose it (see `fetch`).
use reqwest::header::{HeaderMap, RANGE};
use reqwest::{RequestBuilder, Response, StatusCode};

use super::error::shown;
use super::repository::authority;
use super::{HubError, Login, Repository, Request};
use crate::fetch::{Client, FetchError, Proxy};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked<'a> {
    /// The commit of the revision.
    Revision,
    /// The list of files of a commit.
    Listing(&'a str),
    /// A file by its path.
    File(&'a str),
}

/// One repository of one server.
pub(super) struct Hub<'a> {
    http: Client,
    pub(super) repository: &'a Repository,
    login: Option<Login<'a>>,
}

impl<'a> Hub<'a> {
    pub(super) fn new(request: &Request<'a>) -> Result<Self, HubError> {
        let Request { repository, login, .. } = *request;
        if let Some(Login { credential, token }) = login
            && !token.expose().trim().bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(HubError::BadToken { credential: credential.to_owned() });
        }
        let proxy = if repository.is_local() { Proxy::None } else { Proxy::Environment };
        let http = Client::new(request.retry, proxy).map_err(|error| HubError::Unreachable {
            repository: repository.to_string(),
            said: error.to_string(),
        })?;
        Ok(Self { http, repository, login })
    }

    /// Asks for `url`, from byte `from` on, with all patience there is; what answers is a success.
    pub(super) async fn get(
        &self,
        url: &str,
        asked: Asked<'_>,
        from: Option<u64>,
    ) -> Result<Response, HubError> {
        let answer = self.http.ask(|| self.request(url, from)).await;
        let response = answer.map_err(|error| self.explain(error, asked))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(&response, asked)) }
    }

    fn request(&self, url: &str, from: Option<u64>) -> RequestBuilder {
        let mut request = self.http.get(url);
        if let Some(Login { token, .. }) = self.login {
            request = request.bearer_auth(token.expose().trim());
        }
        match from {
            Some(from) => request.header(RANGE, format!("bytes={from}-")),
            None => request,
        }
    }

    /// The text of an answer, of at most `most` bytes.
    pub(super) async fn body(
        &self,
        response: Response,
        most: u64,
        asked: Asked<'_>,
    ) -> Result<Vec<u8>, HubError> {
        self.http.body(response, most).await.map_err(|error| self.explain(error, asked))
    }

    /// Downloads what is missing of a file of `size` bytes.
    pub(super) async fn download(
        &self,
        (url, path, size): (&str, &str, u64),
        sink: &mut impl crate::fetch::Sink,
    ) -> Result<(), HubError> {
        let asked = Asked::File(path);
        let ask = async |from| self.get(url, asked, from).await;
        self.http.download(size, sink, ask, |error| self.explain(error, asked)).await
    }

    /// A failure on the way to an answer, or in it.
    fn explain(&self, error: FetchError, asked: Asked<'_>) -> HubError {
        let (repository, said) = (self.repository.to_string(), error.to_string());
        match (error, asked) {
            (FetchError::Busy(_), _) => HubError::Busy { repository, said },
            (FetchError::TooLong(_), Asked::File(path)) => HubError::Damaged {
                repository,
                path: shown(path),
                why: format!("{said}, as its listing says"),
            },
            (FetchError::TooLong(_), _) => {
                HubError::Answer { repository, asked: words(asked), said: format!("too much, {said},") }
            }
            (FetchError::Write(error), Asked::File(path)) => HubError::write(self.repository, path, error),
            _ => HubError::Unreachable { repository, said: format!("{said} (asked for {})", words(asked)) },
        }
    }

    /// What an answer means that is not a success.
    fn refusal(&self, response: &Response, asked: Asked<'_>) -> HubError {
        let (status, headers) = (response.status(), response.headers());
        let repository = self.repository.to_string();
        let said = self.said(status, headers);
        let host = authority(response.url());
        if host != self.repository.host() {
            let said = format!("{said} at `{}`, where it sends,", shown(&host));
            return HubError::Answer { repository, asked: words(asked), said };
        }
        match (status, header(headers, "x-error-code"), asked) {
            (_, "GatedRepo", _) => HubError::Gated { repository, hint: self.gated() },
            (StatusCode::NOT_FOUND, "RevisionNotFound", Asked::Revision) => {
                HubError::NoRevision { repository, revision: self.repository.revision().to_owned() }
            }
            (StatusCode::NOT_FOUND, "RevisionNotFound", Asked::Listing(commit)) => {
                HubError::NoRevision { repository, revision: commit.to_owned() }
            }
            (StatusCode::NOT_FOUND, code, Asked::File(path)) if code != "RepoNotFound" => {
                HubError::NoFile { repository, path: shown(path) }
            }
            (StatusCode::UNAUTHORIZED, _, _) if self.login.is_none() => self.unknown(said),
            (StatusCode::NOT_FOUND, _, _) | (_, "RepoNotFound", _) => self.unknown(said),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _, _) => {
                HubError::Login { repository, said, hint: self.refused() }
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, _, Asked::File(path)) => HubError::Damaged {
                repository,
                path: shown(path),
                why: "it is shorter than its listing says".to_owned(),
            },
            _ => HubError::Answer { repository, asked: words(asked), said },
        }
    }

    fn unknown(&self, said: String) -> HubError {
        HubError::NoRepository { repository: self.repository.to_string(), said, hint: self.refused() }
    }

    /// What to do about a refusal.
    fn refused(&self) -> String {
        match self.login {
            None => format!("a private one needs a token: {STORE}"),
            Some(Login { credential, .. }) => {
                format!("check the token of the credential `{credential}` and what it may read")
            }
        }
    }

    /// What to do about conditions.
    fn gated(&self) -> String {
        let page = self.repository.page();
        match self.login {
            None => format!("accept its conditions at `{page}`, and use a token of that account: {STORE}"),
            Some(Login { credential, .. }) => format!(
                "the account of the credential `{credential}` has no access: accept its conditions at `{page}`, or wait until its owner lets you in"
            ),
        }
    }

    /// Status and words of an answer; a server that repeats the token is not quoted.
    fn said(&self, status: StatusCode, headers: &HeaderMap) -> String {
        let code = status.as_u16();
        let message = header(headers, "x-error-message");
        let has_token = self.login.is_some_and(|login| message.contains(login.token.expose().trim()));
        if message.is_empty() || has_token { code.to_string() } else { format!("{code}: {}", shown(message)) }
    }
}

/// How to give a token.
const STORE: &str = "store it with `vessl credential create NAME --kind hf` and name it in `credential_name`";

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn words(asked: Asked<'_>) -> String {
    match asked {
        Asked::Revision => "its revision".to_owned(),
        Asked::Listing(_) => "the list of its files".to_owned(),
        Asked::File(path) => format!("`{}`", shown(path)),
    }
}
