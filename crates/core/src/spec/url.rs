//! Addresses of git and Hugging Face repositories, in the many ways people write them. It contacts nobody.
use super::path::LONGEST;
use super::problem::{Code, Report};
use super::syntax::clip;
use crate::{file_url, spelling};

const GIT_FORMS: &str = "write `github.com/owner/repository`, `https://…`, `ssh://…`, `git@host:owner/repository`, `file:///path` or `./path`";
const HF_FORMS: &str = "write `huggingface.co/owner/name` or `huggingface.co/datasets/owner/name`";

fn bad(text: &str, what: &str, hint: &str) -> Report {
    Report::new(Code::BadSource, format!("`{}` {what}", clip(text))).hint(hint)
}

/// The clone URL that `text` means: no scheme and `git://` are https; `.`, `./path` and `../path` are below the directory
/// `base` of the run file; a slash at the end does not matter.
pub(super) fn git(text: &str, base: Option<&str>) -> Result<String, Report> {
    let trimmed = text.trim().trim_end_matches('/');
    if matches!(trimmed.split('/').next(), Some("." | "..")) {
        return relative(text, trimmed, base);
    }
    if let Some(path) = trimmed.strip_prefix("file://") {
        return machine(text, file_url::path(path).split(|byte| *byte == b'/'));
    }
    if trimmed.starts_with('-') || trimmed.contains(char::is_whitespace) {
        return Err(bad(text, "is not the address of a git repository", GIT_FORMS));
    }
    let (scheme, rest) = match trimmed.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None if is_scp(trimmed) => return Ok(trimmed.to_owned()),
        None if names_host(trimmed) => ("git", trimmed),
        None if trimmed.starts_with('/') => {
            let hint = format!("write `file://{}`", clip(trimmed));
            return Err(bad(text, "is a path, not the address of a git repository", &hint));
        }
        None => return Err(bad(text, "is not the address of a git repository", GIT_FORMS)),
    };
    match scheme {
        "git" => address(text, rest).map(|()| format!("https://{rest}")),
        "https" | "http" | "ssh" => {
            no_secret(scheme, rest)?;
            let host =
                if scheme == "ssh" { rest.split_once('@').map_or(rest, |(_, host)| host) } else { rest };
            address(text, host).map(|()| format!("{scheme}://{rest}"))
        }
        _ => Err(bad(text, "is not the address of a git repository", GIT_FORMS)),
    }
}

/// The repository at a path that is relative to the run file.
fn relative(text: &str, path: &str, base: Option<&str>) -> Result<String, Report> {
    let Some(base) = base else {
        let hint = "submit the file with `vessl run create -f FILE`, or write `file:///path/to/repository`";
        return Err(bad(text, "is relative, and the directory of this file is not known", hint));
    };
    let (base, path) = (spelling::read(base), spelling::read(path));
    let mut parts: Vec<&[u8]> = vec![b""];
    for part in [&base, &path].into_iter().flat_map(|path| path.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => parts.truncate(parts.len().saturating_sub(1).max(1)),
            part => parts.push(part),
        }
    }
    machine(text, parts.into_iter())
}

/// The repository at an absolute path of the machine, which begins with an empty part.
fn machine<'p>(text: &str, mut parts: impl Iterator<Item = &'p [u8]>) -> Result<String, Report> {
    let is_absolute = parts.next().is_some_and(<[u8]>::is_empty);
    let parts: Vec<&[u8]> = parts.filter(|part| !matches!(*part, b"" | b".")).collect();
    let length: usize = parts.iter().map(|part| part.len() + 1).sum();
    let is_odd = |part: &&[u8]| *part == b".." || part.contains(&0);
    if !is_absolute || parts.is_empty() || length > LONGEST || parts.iter().any(is_odd) {
        return Err(bad(text, "is not an absolute path", "write `file:///path/to/repository`"));
    }
    Ok(format!("file:///{}", file_url::text(&parts.join(&b'/'))))
}

/// Whether an address without a scheme begins with a host: `owner/name` alone does not.
fn names_host(text: &str) -> bool {
    let mut parts = text.split('/');
    let host = parts.next().unwrap_or_default();
    let looks_so = host == "localhost" || host.contains(['.', ':']) || parts.count() > 1;
    looks_so && !host.is_empty() && !host.starts_with('.')
}

/// `user@host:path`, the form that ssh and scp know.
fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    is_word(user) && is_host(host) && !path.is_empty() && !path.starts_with('-')
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// A host name or address with an optional port.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let name = name
        .strip_prefix('[')
        .and_then(|n| n.strip_suffix(']'))
        .map_or(name, |v6| v6.split('%').next().unwrap_or(v6));
    let name = name.replace(':', ".");
    is_word(&name)
        && !name.starts_with('-')
        && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

/// `host/path` with both parts.
fn address(text: &str, rest: &str) -> Result<(), Report> {
    no_secret("https", rest)?;
    let Some((_, path)) = rest.split_once('/').filter(|(host, _)| is_host(host)) else {
        return Err(bad(text, "is not the address of a git repository", GIT_FORMS));
    };
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(bad(text, "has an empty part or `..` in its path", GIT_FORMS));
    }
    Ok(())
}

/// Refuses a user or password in the address, which would be stored and shown. `ssh` may have a user.
fn no_secret(scheme: &str, rest: &str) -> Result<(), Report> {
    let authority = rest.split('/').next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else { return Ok(()) };
    if scheme == "ssh" && !user.contains(':') {
        return Ok(());
    }
    let report = Report::new(Code::SecretInUrl, "the address carries a user name or password");
    Err(report.hint("store it with `vessl credential create` and name it in `credential_name`"))
}

/// A branch, tag or commit: one word that no program takes for an option.
pub(super) fn reference(text: &str) -> Result<String, Report> {
    let text = text.trim();
    let refused = text.starts_with('-')
        || text.contains("..")
        || text.contains(|c: char| c.is_whitespace() || "~^:?*[\\".contains(c));
    if refused {
        return Err(Report::new(Code::BadValue, format!("`{}` is not a branch, tag or commit", clip(text)))
            .hint("write `ref: main`"));
    }
    Ok(text.to_owned())
}

/// The repository that `text` means, as `huggingface.co/[datasets/]owner/name`.
pub(super) fn hugging_face(text: &str) -> Result<String, Report> {
    let bare = ["hf://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let bare = bare.trim_end_matches('/');
    no_secret("https", bare)?;
    let parts: Vec<_> = bare.split('/').collect();
    let ([host, "datasets", repository @ ..] | [host, repository @ ..]) = parts.as_slice() else {
        return Err(bad(text, "is not a Hugging Face repository", HF_FORMS));
    };
    let named = (1..=2).contains(&repository.len())
        && repository.iter().all(|part| is_word(part) && !matches!(*part, "." | ".."));
    if named && is_host(host) && host.contains('.') && *repository != ["datasets"] {
        return Ok(parts.join("/"));
    }
    Err(bad(text, "is not a Hugging Face repository", HF_FORMS))
}

/// A prefix of a bucket: slashes at both ends do not matter.
pub(super) fn prefix(text: &str) -> String {
    text.trim_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&str) -> Result<String, Report>, text: &str, expected: Option<&str>) {
        assert_eq!(rule(text).ok().as_deref(), expected, "{text:?}");
    }

    #[test]
    fn git_addresses() {
        let ok = [
            ("github.com/x/y", "https://github.com/x/y"),
            ("github.com/x/y.git", "https://github.com/x/y.git"),
            ("git://github.com/x/y", "https://github.com/x/y"),
            ("https://github.com/x/y/", "https://github.com/x/y"),
            ("http://127.0.0.1:3000/x.git", "http://127.0.0.1:3000/x.git"),
            ("git://localhost/x", "https://localhost/x"),
            ("localhost/x", "https://localhost/x"),
            ("ssh://git@github.com/x/y", "ssh://git@github.com/x/y"),
            ("ssh://git@[::1]:22/x/y", "ssh://git@[::1]:22/x/y"),
            ("git@github.com:x/y.git", "git@github.com:x/y.git"),
            ("git@host:/srv/y", "git@host:/srv/y"),
            ("file:///srv/repo/", "file:///srv/repo"),
            ("file:///srv/a b%20c", "file:///srv/a%20b%20c"),
            ("file:///srv/100%/\u{fc}/%ff", "file:///srv/100%25/\u{fc}/%FF"),
            ("file:///srv//./x%2Fy", "file:///srv/x/y"),
        ];
        for (text, expected) in ok {
            check(|text| git(text, None), text, Some(expected));
        }
        let refused = [
            "",
            "x",
            "/srv/repo",
            "./repo",
            "owner/name",
            "github.com",
            "github.com/",
            "https://",
            "file://",
            "file://x",
            "file:///srv/../x",
            "file:///srv/%2e%2E/x",
            "ftp://x.y/z",
            "-oProxyCommand=x@y:z",
            "ext::sh -c x",
            "ext::sh/x",
            "https://-x.y/z",
            "https://x.y/../z",
            "https://user:pass@github.com/x/y",
            "https://token@github.com/x/y",
            "ssh://git:pass@github.com/x",
            "user:pass@github.com/x",
            "https://github.com/x y",
            "git@host:-x",
            ".",
            "../x",
            // Neither a URL nor `user@host:path`: one of the two was meant.
            "git@host://x/y",
        ];
        for text in refused {
            check(|text| git(text, None), text, None);
        }
    }

    #[test]
    fn git_addresses_relative_to_the_file() {
        for (text, expected) in [
            (".", Some("file:///home/me/code")),
            ("./", Some("file:///home/me/code")),
            ("..", Some("file:///home/me")),
            ("./x//y/", Some("file:///home/me/code/x/y")),
            ("../../you/x", Some("file:///home/you/x")),
            ("../../..", None),
            ("./a b", Some("file:///home/me/code/a%20b")),
            ("./a%20b", Some("file:///home/me/code/a%2520b")),
            ("./a%FF", Some("file:///home/me/code/a%FF")),
            (".git/x", None),
            (".../x", None),
            ("github.com/x/y", Some("https://github.com/x/y")),
        ] {
            check(|text| git(text, Some("/home/me/code")), text, expected);
        }
        check(|text| git(text, Some("/my data%20/%FF\n")), "./x", Some("file:///my%20data%2520/%FF%0A/x"));
    }

    #[test]
    fn references() {
        for ok in ["main", "v1.0", "feature/x", "c0ffee", "release-1@2"] {
            check(reference, ok, Some(ok));
        }
        for bad in ["-x", "a b", "a..b", "a~1", "--upload-pack=x"] {
            check(reference, bad, None);
        }
    }

    #[test]
    fn hugging_face_repositories() {
        for ok in
            ["huggingface.co/gpt2", "huggingface.co/a/b", "huggingface.co/datasets/a/b", "hf.local:80/a/b"]
        {
            check(hugging_face, ok, Some(ok));
        }
        check(hugging_face, "https://huggingface.co/a/b/", Some("huggingface.co/a/b"));
        for bad in [
            "",
            "a/b",
            "huggingface.co",
            "huggingface.co/",
            "huggingface.co/datasets",
            "huggingface.co/a/b/c",
            "huggingface.co/../b",
        ] {
            check(hugging_face, bad, None);
        }
    }
}
