//! What an answer that is no says, and what it means. It must not know what was asked for.
use http::header::{DATE, RETRY_AFTER};
use reqwest::Response;
use serde::Deserialize;

use super::error::BucketError;
use super::login::Login;
use super::{Location, Provider};

/// Most bytes of a refusal that are read.
const MOST: usize = 64 << 10;
/// Most characters of its sentence that are shown.
const SHOWN: usize = 300;

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    Read,
    Write,
}

/// A no of the other end.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// `NoSuchKey` and the like; empty where there is no body, as with HEAD.
    pub(super) code: String,
    message: String,
    /// Where the bucket is, if it tells.
    pub(super) region: Option<String>,
    /// How long to wait.
    pub(super) wait: Option<String>,
    date: Option<String>,
}

/// The XML form.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Xml {
    code: String,
    #[serde(default)]
    message: String,
    region: Option<String>,
}

/// The JSON form.
#[derive(Deserialize)]
struct Json {
    error: JsonError,
}

#[derive(Deserialize)]
struct JsonError {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<JsonReason>,
}

#[derive(Deserialize)]
struct JsonReason {
    #[serde(default)]
    reason: String,
}

impl Refusal {
    pub(super) async fn read(mut response: Response) -> Self {
        let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let refusal = Self {
            status: response.status().as_u16(),
            region: header("x-amz-bucket-region"),
            wait: header(RETRY_AFTER.as_str()),
            date: header(DATE.as_str()),
            ..Self::default()
        };
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > MOST {
                break;
            }
        }
        refusal.with_body(&String::from_utf8_lossy(&body))
    }

    /// Of an answer that says no although its status is 200.
    pub(super) fn of_body(text: &str) -> Option<Self> {
        let refusal = Self { status: 200, ..Self::default() }.with_body(text);
        (!refusal.code.is_empty()).then_some(refusal)
    }

    fn with_body(mut self, text: &str) -> Self {
        if let Ok(Xml { code, message, region }) = quick_xml::de::from_str(text) {
            let told = message.split_once("expecting '").and_then(|(_, rest)| rest.split_once('\''));
            let told = told.map(|(region, _)| region.to_owned());
            (self.code, self.message) = (code, message);
            self.region = region.or(self.region).or(told);
        } else if let Ok(Json { error }) = serde_json::from_str(text) {
            self.code = error.errors.into_iter().next().map(|first| first.reason).unwrap_or_default();
            self.message = error.message;
        } else if self.status != 200 && !text.trim_start().starts_with('<') {
            text.clone_into(&mut self.message);
        }
        let clean = self.message.chars().map(|c| if c.is_control() { ' ' } else { c });
        clean.take(SHOWN).collect::<String>().trim().clone_into(&mut self.message);
        self
    }

    /// Whether another try may succeed.
    pub(super) fn passes(&self) -> bool {
        let codes = [
            "SlowDown",
            "InternalError",
            "RequestTimeout",
            "ServiceUnavailable",
            "OperationAborted",
            "BadDigest",
            "XAmzContentSHA256Mismatch",
            "IncompleteBody",
            "TooManyRequests",
            "backendError",
            "rateLimitExceeded",
        ];
        let is_busy = matches!(self.status, 408 | 429) || self.status >= 500 && self.status != 501;
        is_busy || codes.contains(&self.code.as_str())
    }

    /// Whether there is no such object or upload.
    pub(super) fn is_missing(&self) -> bool {
        self.status == 404 && self.code != "NoSuchBucket"
    }

    /// Whether a condition of the request was not met.
    pub(super) fn is_condition(&self) -> bool {
        // 409: two conditional writes at once.
        self.status == 412 || self.status == 409 && self.code.contains("Condition")
    }

    /// Whether the other end does not know conditions.
    pub(super) fn is_not_implemented(&self) -> bool {
        self.status == 501 || self.code == "NotImplemented"
    }

    /// The error.
    pub(super) fn explain(
        self,
        key: Option<&str>,
        aim: Aim,
        at: &Location,
        (login, given): (&Login, &str),
    ) -> BucketError {
        let location = key.map_or_else(|| at.to_string(), |key| at.of_key(key));
        let (bucket, who) = (at.bucket.clone(), login.to_string());
        match (self.code.as_str(), self.status) {
            ("NoSuchBucket", _) => no_bucket(at),
            ("", 404) if key.is_none() => no_bucket(at),
            ("notFound", _) if key.is_none() || self.message.contains("bucket") => no_bucket(at),
            ("NoSuchKey", _) | (_, 404) => BucketError::Missing(location),
            ("ExpiredToken" | "TokenRefreshRequired", _) => BucketError::Expired { location, who },
            ("RequestTimeTooSkewed", _) => BucketError::Clock { location, theirs: self.date },
            ("InvalidAccessKeyId" | "InvalidToken" | "authError", _) => {
                let why = "it is not known there".to_owned();
                BucketError::Credential { location, who, why }
            }
            ("SignatureDoesNotMatch", _) => {
                let why = "the secret key does not belong to the key id".to_owned();
                BucketError::Credential { location, who, why }
            }
            ("PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed", _)
            | (_, 301 | 307)
                if at.provider == Provider::S3 =>
            {
                BucketError::Region { bucket, given: given.to_owned(), right: self.region }
            }
            (_, 400) if self.region.as_ref().is_some_and(|region| region != given) => {
                BucketError::Region { bucket, given: given.to_owned(), right: self.region }
            }
            (_, 401 | 403) => denied(location, who, aim),
            _ => {
                let Self { status, code, message, .. } = self;
                BucketError::Refused { location, status, code, message }
            }
        }
    }
}

fn no_bucket(at: &Location) -> BucketError {
    let place = at.endpoint.as_ref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
    BucketError::NoBucket { bucket: at.bucket.clone(), place }
}

fn denied(location: String, who: String, aim: Aim) -> BucketError {
    let (right, hint) = match aim {
        Aim::Read => ("list and read it", "; the name may also be wrong"),
        Aim::Write => ("write to it", ""),
    };
    BucketError::Denied { location, who, right, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> Refusal {
        Refusal { status, ..Refusal::default() }.with_body(body)
    }

    #[test]
    fn refusals_have_clear_words() {
        let at = Location {
            provider: Provider::S3,
            bucket: "b".into(),
            prefix: "p".into(),
            endpoint: None,
            region: None,
        };
        let xml = |code: &str| {
            format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>")
        };
        let check = |refusal: Refusal, key: Option<&str>, expected: &str| {
            let words = refusal.explain(key, Aim::Read, &at, (&Login::Nobody, "us-east-1")).to_string();
            assert!(words.contains(expected), "{words}");
        };
        check(refusal(404, &xml("NoSuchBucket")), None, "there is no bucket `b`;");
        check(refusal(404, &xml("NoSuchKey")), Some("k"), "nothing at `s3://b/k`");
        check(refusal(403, &xml("AccessDenied")), None, "no permission, asked anonymously");
        check(refusal(403, ""), Some("k"), "no permission, asked anonymously");
        check(refusal(403, &xml("RequestTimeTooSkewed")), None, "clock is wrong");
        check(refusal(400, &xml("ExpiredToken")), None, "has expired");
        check(refusal(403, &xml("InvalidAccessKeyId")), None, "not known there");
        check(refusal(403, &xml("SignatureDoesNotMatch")), None, "does not belong to the key id");
        check(refusal(418, &xml("Teapot")), None, "status 418 (Teapot): m");
        let told = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region 'us-east-1' is wrong; \
                    expecting 'eu-west-1'</Message></Error>";
        check(
            refusal(400, told),
            None,
            "not in the region `us-east-1` but in `eu-west-1`; set `region: eu-west-1`",
        );
        check(refusal(301, ""), None, "set `region` to where it is");
    }

    #[test]
    fn both_forms_are_read() {
        let json = r#"{"error":{"code":404,"message":"The specified bucket does not exist.\n","errors":[{"reason":"notFound"}]}}"#;
        let read = refusal(404, json);
        assert_eq!(
            (read.code.as_str(), read.message.as_str()),
            ("notFound", "The specified bucket does not exist.")
        );
        assert!(refusal(503, "<Error><Code>SlowDown</Code></Error>").passes());
        assert!(!refusal(501, "<Error><Code>NotImplemented</Code></Error>").passes());
        assert!(
            Refusal::of_body("<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")
                .is_none()
        );
        assert!(Refusal::of_body("<Error><Code>InternalError</Code></Error>").is_some_and(|no| no.passes()));
    }
}
