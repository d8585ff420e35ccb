//! Addresses that git may be given. It contacts nobody.
use std::fmt;

use super::GitError;

/// Whether `file://` is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// Repositories of this machine may be read.
    Allowed,
    /// Only remote repositories.
    Refused,
}

/// A checked address; it holds no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    url: String,
    scheme: Scheme,
    /// `host` or `host:port`; empty for a file.
    host: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
    Ssh,
    File,
}

impl Address {
    /// Accepts `https://`, `http://`, `ssh://`, `user@host:path` and, if allowed, `file:///path`. Everything else that git
    /// understands (`ext::…` runs a program) is refused.
    pub fn parse(url: &str, files: Files) -> Result<Self, GitError> {
        let bad = |why| GitError::BadAddress { url: without_password(url), why };
        if url.starts_with('-') || url.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(bad("it has characters that no address has"));
        }
        let (scheme, rest) = match url.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("ssh", rest)) => (Scheme::Ssh, rest),
            Some(("file", rest)) => return Self::file(url, rest, files).map_err(bad),
            Some(_) => return Err(bad("only https, http, ssh and file are possible")),
            None => (Scheme::Ssh, scp(url).ok_or(bad("it is no address of a git repository"))?),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.contains(':') {
            return Err(bad("it holds a password; use a credential"));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-~:[]".contains(c);
        if host.is_empty() || [user, host].iter().any(|w| w.starts_with('-') || !w.chars().all(allowed)) {
            return Err(bad("its host is not one"));
        }
        Ok(Self { url: url.to_owned(), scheme, host: host.to_owned() })
    }

    fn file(url: &str, path: &str, files: Files) -> Result<Self, &'static str> {
        match files {
            Files::Refused => Err("repositories of the machine can only be used on the local cluster"),
            Files::Allowed if !path.starts_with('/') => Err("it is not an absolute path"),
            Files::Allowed => Ok(Self::of_file(url.to_owned())),
        }
    }

    /// The `file://` address that git gets for a path of this machine.
    pub(super) fn of_file(url: String) -> Self {
        Self { url, scheme: Scheme::File, host: String::new() }
    }

    /// As git gets it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is a path of this machine.
    pub fn is_local(&self) -> bool {
        self.scheme == Scheme::File
    }

    /// `host` or `host:port`; empty for a path of this machine.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whether a login for `other` is one for this address: the same protocol at the same host.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.host.eq_ignore_ascii_case(&other.host)
    }

    pub(super) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The part of the address that a password is for: `https://host:port`.
    pub(super) fn origin(&self) -> String {
        let scheme = if self.scheme == Scheme::Http { "http" } else { "https" };
        format!("{scheme}://{}", self.host)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// `user@host:path` as `user@host/path`: the part that has the host. A `::` names a transport program.
fn scp(url: &str) -> Option<&str> {
    let (authority, path) = url.split_once(':')?;
    let (user, _) = authority.split_once('@')?;
    let fine =
        !user.is_empty() && !path.is_empty() && !path.starts_with([':', '-']) && !authority.contains('/');
    fine.then_some(authority)
}

fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://…{}", &rest[at..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: Option<(Scheme, &str)>) {
        let address = Address::parse(url, Files::Allowed).ok();
        assert_eq!(address.as_ref().map(|a| (a.scheme, a.host.as_str())), expected, "{url}");
    }

    #[test]
    fn addresses() {
        check("https://github.com/a/b.git", Some((Scheme::Https, "github.com")));
        check("https://me@host:8443/a", Some((Scheme::Https, "host:8443")));
        check("http://[::1]:80/a", Some((Scheme::Http, "[::1]:80")));
        check("ssh://git@host:22/a/b", Some((Scheme::Ssh, "host:22")));
        check("git@github.com:a/b.git", Some((Scheme::Ssh, "github.com")));
        check("file:///srv/a", Some((Scheme::File, "")));
        for url in [
            "ext::sh -c id",
            "ext::id",
            "fd::17",
            "git::http://x",
            "a@b::c",
            "--upload-pack=id",
            "git://host/a",
            "ftp://host/a",
            "file://host/a",
            "https://",
            "https:///a",
            "https://-oProxyCommand=id/a",
            "ssh://-oProxyCommand=id/a",
            "-oProxyCommand=id@host:a",
            "u@-oProxyCommand=id:a",
            "u@host:-a",
            "ssh://u@ho$(id)st/a",
            "https://u:p@host/a",
            "/srv/a",
            "host/a",
            "https://host/a\nb",
            "",
        ] {
            check(url, None);
        }
        assert!(Address::parse("file:///srv/a", Files::Refused).is_err());
    }

    #[test]
    fn a_password_is_not_repeated() {
        let e = Address::parse("https://u:pass@host/a", Files::Refused).unwrap_err().to_string();
        assert!(!e.contains("pass@") && e.contains("host/a") && e.contains("credential"), "{e}");
    }
}
