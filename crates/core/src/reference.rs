//! Image references: `registry[:port]/repo:tag@digest`, Docker Hub short names, `oci:///path[:tag]`, `host://`.
//!
//! Pure text: it opens no file, asks no registry and does not know whether an image exists.
use std::fmt;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::spelling;

/// Longest reference that is looked at, in bytes.
const MAX_LEN: usize = 4096;
/// Longest repository name, in bytes (the limit of Docker's reference grammar).
const MAX_REPOSITORY: usize = 255;
/// Longest tag, in bytes.
const MAX_TAG: usize = 128;
/// The registry of short names, as people write it.
const HUB: &str = "docker.io";

/// A digest `sha256:…`; holds the 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// Reads `sha256:<64 hex digits>`; another algorithm or form is an error in words.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(ReferenceError::new(text, "a digest is written `sha256:` and 64 hex digits"));
        };
        if algorithm != "sha256" {
            return Err(ReferenceError::new(text, "only sha256 digests are supported"));
        }
        if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::new(text, "a sha256 digest has 64 lower-case hex digits"));
        }
        Ok(Self(hex.to_owned()))
    }

    /// From the 32 bytes of a SHA-256.
    pub fn from_hash(hash: &[u8]) -> Self {
        use fmt::Write;
        let mut hex = String::with_capacity(64);
        for byte in hash {
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }

    /// The hex digits.
    pub fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// Why a text is not an image reference; one sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image reference: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: String,
}

impl ReferenceError {
    fn new(text: &str, reason: impl Into<String>) -> Self {
        let shown: String = text.chars().take(120).flat_map(char::escape_debug).collect();
        Self { text: shown, reason: reason.into() }
    }
}

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// In a registry.
    Registry(Named),
    /// In an OCI layout directory or a `docker save` archive on this machine.
    Layout {
        /// Absolute path.
        path: PathBuf,
        /// Name of the image inside; needed only when there are several.
        tag: Option<String>,
    },
    /// The machine's own root file system.
    Host,
}

/// An image of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Host and port as people write them, lower case, e.g. `docker.io`, `localhost:5000`.
    pub registry: String,
    /// Repository, e.g. `library/ubuntu`.
    pub repository: String,
    /// Tag; at least one of tag and digest is there.
    pub tag: Option<String>,
    /// Digest of the manifest; decides when there is a tag as well.
    pub digest: Option<Digest>,
}

impl Named {
    /// Host and port that answer for this registry.
    pub fn endpoint(&self) -> &str {
        if self.registry == HUB { "registry-1.docker.io" } else { &self.registry }
    }

    /// What names the manifest in a request: the digest if there is one, else the tag.
    pub fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

/// Whether `registry` (host and optional port) is this machine by name or address: plain http is used for it.
pub fn is_loopback(registry: &str) -> bool {
    let host = split_port(registry).0;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Reference {
    /// Reads a reference as people write it.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let bad = |reason: &str| Err(ReferenceError::new(text, reason));
        if text.is_empty() {
            return bad("it is empty");
        }
        if text.len() > MAX_LEN {
            return bad("it is longer than 4096 bytes");
        }
        let is_path = text.starts_with("oci://");
        if text.chars().any(|c| c.is_control() || (c.is_whitespace() && !is_path)) {
            return bad("it contains a space or a control character");
        }
        match text.split_once("://") {
            Some(("host", "")) => Ok(Self::Host),
            Some(("host", _)) => bad("`host://` stands alone, it is the machine's own root file system"),
            Some(("oci", rest)) => layout(text, rest),
            Some(("http" | "https" | "docker", rest)) => Err(ReferenceError::new(
                text,
                format!("write it without a scheme: `{}`", rest.trim_start_matches('/')),
            )),
            Some((scheme, _)) => Err(ReferenceError::new(
                text,
                format!("`{scheme}://` is not known; there are `oci:///path` and `host://`"),
            )),
            None => named(text).map(Self::Registry),
        }
    }
}

impl std::str::FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

/// The canonical text: every way to write the same reference prints the same.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host://"),
            Self::Layout { path, tag } => {
                write!(f, "oci://{}", spelling::spell(path.as_os_str().as_bytes()))?;
                tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
            }
            Self::Registry(named) => named.fmt(f),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

/// `/path[:tag]`: the last colon of the last path segment begins the tag.
fn layout(text: &str, rest: &str) -> Result<Reference, ReferenceError> {
    if !rest.starts_with('/') {
        return Err(ReferenceError::new(text, "the path must be absolute: `oci:///path/to/layout`"));
    }
    let name_at = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match rest[name_at..].rfind(':') {
        Some(colon) => (&rest[..name_at + colon], Some(&rest[name_at + colon + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(text, tag)?;
    }
    let path = spelling::path(path);
    let path: PathBuf = path.components().filter(|c| *c != Component::CurDir).collect();
    if path.components().any(|c| c == Component::ParentDir) {
        return Err(ReferenceError::new(text, "the path must not contain `..`"));
    }
    if path == Path::new("/") {
        return Err(ReferenceError::new(text, "the path of the layout is missing"));
    }
    Ok(Reference::Layout { path, tag: tag.map(str::to_owned) })
}

fn named(text: &str) -> Result<Named, ReferenceError> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(Digest::parse(digest).map_err(|e| retell(text, e))?)),
        None => (text, None),
    };
    let (registry, rest) = split_registry(rest);
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(text, tag)?;
    }
    let registry = match registry {
        Some(registry) => check_registry(text, registry)?,
        None => HUB.to_owned(),
    };
    check_repository(text, path)?;
    let short = registry == HUB && !path.contains('/');
    let repository = if short { format!("library/{path}") } else { path.to_owned() };
    if repository.len() > MAX_REPOSITORY {
        return Err(ReferenceError::new(text, "the repository is longer than 255 bytes"));
    }
    let tag = tag.or(if digest.is_none() { Some("latest") } else { None });
    Ok(Named { registry, repository, tag: tag.map(str::to_owned), digest })
}

fn retell(text: &str, error: ReferenceError) -> ReferenceError {
    ReferenceError::new(text, error.reason)
}

/// The first segment is a registry if it could not be part of a repository name, or is `localhost`.
fn split_registry(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':', '[']) => (Some(first), rest),
        _ => (None, text),
    }
}

fn split_port(registry: &str) -> (&str, Option<&str>) {
    match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (registry, None),
    }
}

fn check_registry(text: &str, registry: &str) -> Result<String, ReferenceError> {
    let bad = |reason: String| Err(ReferenceError::new(text, reason));
    let (host, port) = split_port(registry);
    if let Some(port) = port
        && (!port.bytes().all(|b| b.is_ascii_digit()) || !port.parse::<u16>().is_ok_and(|p| p > 0))
    {
        return bad(format!("`{port}` is not a port (1 to 65535)"));
    }
    let ipv6 = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let valid = match ipv6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.split('.').all(is_label),
    };
    if !valid {
        return bad(format!("`{host}` is not the name of a registry"));
    }
    let registry = registry.to_ascii_lowercase();
    Ok(match registry.as_str() {
        "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        _ => registry,
    })
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn check_repository(text: &str, path: &str) -> Result<(), ReferenceError> {
    let bad = |reason: String| Err(ReferenceError::new(text, reason));
    if path.is_empty() {
        return bad("the repository is missing".to_owned());
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return bad(format!("repository names are lower case: `{}`", path.to_ascii_lowercase()));
    }
    if let Some(part) = path.split('/').find(|part| !is_repository_part(part)) {
        return bad(format!(
            "`{part}` in the repository is not allowed (lower-case letters, digits, single `.`, `_`, `-` between)"
        ));
    }
    if path.len() == 64 && path.bytes().all(|b| b.is_ascii_hexdigit()) {
        return bad("it looks like an image id; write the repository and `@sha256:…`".to_owned());
    }
    Ok(())
}

/// Letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_repository_part(part: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(word)
        && part.ends_with(word)
        && part.split(word).all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

fn check_tag(text: &str, tag: &str) -> Result<(), ReferenceError> {
    let first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let fine = !tag.is_empty()
        && tag.len() <= MAX_TAG
        && first(tag.as_bytes()[0])
        && tag.bytes().all(|b| first(b) || b == b'.' || b == b'-');
    if fine {
        return Ok(());
    }
    Err(ReferenceError::new(
        text,
        "a tag has 1 to 128 letters, digits, `_`, `.`, `-` and begins with no `.` or `-`",
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn check(input: &str, expected: &str) {
        let got = Reference::parse(input).map(|r| r.to_string());
        assert_eq!(got.as_deref().map_err(ToString::to_string), Ok(expected), "{input}");
        assert_eq!(Reference::parse(expected), Reference::parse(input), "canonical form of {input}");
    }

    #[test]
    fn every_form_has_one_canonical_text() {
        check("ubuntu", "docker.io/library/ubuntu:latest");
        check("ubuntu:22.04", "docker.io/library/ubuntu:22.04");
        check("docker.io/ubuntu", "docker.io/library/ubuntu:latest");
        check("index.docker.io/library/ubuntu", "docker.io/library/ubuntu:latest");
        check("pytorch/pytorch:2.3.1-cuda12.1", "docker.io/pytorch/pytorch:2.3.1-cuda12.1");
        check("quay.io/vessl-ai/torch:2.3.1-cuda12.1-r5", "quay.io/vessl-ai/torch:2.3.1-cuda12.1-r5");
        check("localhost/x", "localhost/x:latest");
        check("localhost:5000/x", "localhost:5000/x:latest");
        check("127.0.0.1:5000/a/b/c:t", "127.0.0.1:5000/a/b/c:t");
        check("[::1]:5000/x", "[::1]:5000/x:latest");
        check("GHCR.io/x/y", "ghcr.io/x/y:latest");
        check("a__b/c-d.e---f", "docker.io/a__b/c-d.e---f:latest");
        check(&format!("u@sha256:{HEX}"), &format!("docker.io/library/u@sha256:{HEX}"));
        check(&format!("q.io/u:t@sha256:{HEX}"), &format!("q.io/u:t@sha256:{HEX}"));
        check("oci:///srv/img", "oci:///srv/img");
        check("oci:///srv//./img/:v1", "oci:///srv/img:v1");
        check("oci:///srv/img.tar:v1", "oci:///srv/img.tar:v1");
        check("oci:///a:b/img", "oci:///a:b/img");
        check("oci:///my images/a%20b/%FF:v1", "oci:///my images/a%20b/%FF:v1");
        check("oci:///a%25FF/x", "oci:///a%25FF/x");
        check("host://", "host://");
    }

    fn refused(input: &str, reason: &str) {
        let error = Reference::parse(input).map(|r| r.to_string()).expect_err(input);
        assert!(error.to_string().contains(reason), "{input}: {error}");
    }

    #[test]
    fn nonsense_is_refused_with_the_reason() {
        refused("", "empty");
        refused("a b", "space");
        refused("a\nb", "control");
        refused(&"a".repeat(5000), "4096");
        refused(&"a".repeat(250), "255"); // `library/` goes before it
        refused("Ubuntu", "lower case: `ubuntu`");
        refused("Foo/bar", "lower case: `foo/bar`");
        refused("quay.io/", "repository is missing");
        refused("ubuntu/", "``");
    }

    #[test]
    fn nonsense_of_parts_is_refused() {
        refused("ubuntu:", "tag");
        refused("ubuntu:.x", "tag");
        refused(&format!("ubuntu:{}", "t".repeat(129)), "tag");
        refused("a//b", "``");
        refused("a/../b", "`..`");
        refused("a_-b", "`a_-b`");
        refused("x.io:0/y", "port");
        refused("x.io:99999/y", "port");
        refused("x.io:+1/y", "port");
        refused("-x.io/y", "registry");
        refused("[::g]/y", "registry");
        refused("u@sha256:12", "64");
        refused("u@sha512:12", "only sha256");
        refused("u@", "digest");
        refused(HEX, "image id");
        refused("https://quay.io/x/y", "without a scheme: `quay.io/x/y`");
        refused("docker://x", "without a scheme: `x`");
        refused("ftp://x", "`ftp://` is not known");
        refused("host:///x", "stands alone");
        refused("oci://rel/path", "absolute");
        refused("oci:///", "missing");
        refused("oci:///a/../b", "`..`");
        refused("oci:///a:", "tag");
    }

    #[test]
    fn loopback_is_by_name_or_address() {
        for (registry, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:80", true),
            ("[::1]", true),
            ("localhost.evil.com", false),
            ("127.0.0.1.nip.io", false),
            ("10.0.0.1:5000", false),
            ("[::2]:80", false),
        ] {
            assert_eq!(is_loopback(registry), expected, "{registry}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,60}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference));
            }
        }

        #[test]
        fn reference_like_text_has_a_stable_canonical_form(
            text in "([a-zA-Z0-9.-]{1,8}(:[0-9]{1,5})?/)?[a-z0-9._/-]{1,20}(:[a-zA-Z0-9._-]{0,8})?(@sha256:[0-9a-f]{64})?"
        ) {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference));
            }
        }
    }
}
