//! From what the author wrote to a commit: asks the remote end what it has, fetches as little as it allows.
use super::command::{Git, Output};
use super::error::GitError;

/// Most names that an error lists.
const NEAR: usize = 5;

/// What the author asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The default branch.
    Head,
    /// A name; `commit` if it may also be a commit id.
    Named { name: String, commit: MayBeCommit },
}

/// Whether a name looks like (the start of) a commit id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MayBeCommit {
    Full,
    Short,
    No,
}

/// What will be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fetch {
    Branch(String),
    Tag(String),
    /// Any other reference, by its full name, or `HEAD`.
    Other(String),
    /// A full commit id.
    Commit(String),
    /// The start of a commit id: only everything will do.
    ShortCommit(String),
}

impl Wanted {
    /// Applies git's rules for names, so that none of them can be an option or a pattern.
    pub(super) fn parse(reference: Option<&str>) -> Result<Self, &'static str> {
        let Some(name) = reference else { return Ok(Self::Head) };
        if name.is_empty() {
            return Err("it is empty");
        }
        if name.len() > 1024 {
            return Err("it is too long");
        }
        if name.starts_with(['-', '/', '.'])
            || name.ends_with(['/', '.'])
            || name.strip_suffix(".lock").is_some()
        {
            return Err("it begins or ends with something that no name does");
        }
        if name.chars().any(|c| c.is_control() || " ~^:?*[\\\u{7f}".contains(c))
            || ["..", "//", "@{", "/."].iter().any(|part| name.contains(part))
            || name == "@"
        {
            return Err("it has characters that no name has");
        }
        if name == "HEAD" {
            return Ok(Self::Head);
        }
        let hex = name.bytes().all(|b| b.is_ascii_hexdigit());
        let commit = match name.len() {
            40 | 64 if hex => MayBeCommit::Full,
            4..64 if hex => MayBeCommit::Short,
            _ => MayBeCommit::No,
        };
        Ok(Self::Named { name: name.to_owned(), commit })
    }
}

impl Wanted {
    /// The commit, where its full id was given.
    pub(super) fn full_commit(&self) -> Option<String> {
        match self {
            Self::Named { name, commit: MayBeCommit::Full } => Some(name.to_ascii_lowercase()),
            _ => None,
        }
    }
}

/// What a name means at the remote end, and the commit that it is there, where that was said.
pub(super) struct Meaning {
    pub(super) fetch: Fetch,
    pub(super) commit: Option<String>,
}

impl Fetch {
    /// What makes the repository of the import what it is, beside its commit.
    pub(super) fn form(&self) -> String {
        match self {
            Self::Branch(name) => format!("branch {name}"),
            Self::Tag(name) => format!("tag {name}"),
            Self::Other(name) => format!("reference {name}"),
            Self::Commit(_) | Self::ShortCommit(_) => "commit".to_owned(),
        }
    }
}

/// Asks the remote end what the name means there: first a branch, then a tag, a full reference name, a commit.
pub(super) fn find(git: &Git<'_>, wanted: &Wanted) -> Result<Meaning, GitError> {
    let Wanted::Named { name, commit } = wanted else {
        return default_branch(git);
    };
    if let Some(commit) = wanted.full_commit() {
        return Ok(Meaning { fetch: Fetch::Commit(commit.clone()), commit: Some(commit) });
    }
    let (branch, tag) = (format!("refs/heads/{name}"), format!("refs/tags/{name}"));
    // What a tag with words of its own stands for.
    let peeled = format!("{tag}^{{}}");
    let mut patterns = vec![branch.as_str(), tag.as_str(), peeled.as_str()];
    if name.starts_with("refs/") {
        patterns.push(name);
    }
    let there = list(git, &patterns)?;
    let id = |full: &str| there.iter().find(|one| one.name == full).map(|one| one.id.clone());
    let found = |fetch, commit| Ok(Meaning { fetch, commit: Some(commit) });
    if let Some(commit) = id(&branch) {
        found(Fetch::Branch(name.clone()), commit)
    } else if let Some(commit) = id(&tag) {
        found(Fetch::Tag(name.clone()), id(&peeled).unwrap_or(commit))
    } else if let Some(commit) = id(name) {
        let branch = name.strip_prefix("refs/heads/").map(|name| Fetch::Branch(name.to_owned()));
        found(branch.unwrap_or(Fetch::Other(name.clone())), commit)
    } else if *commit == MayBeCommit::Short {
        Ok(Meaning { fetch: Fetch::ShortCommit(name.to_ascii_lowercase()), commit: None })
    } else {
        Err(unknown(git, name))
    }
}

/// Fetches it and returns the full id of its commit.
pub(super) fn fetch(git: &Git<'_>, wanted: &Wanted, fetch: &Fetch) -> Result<String, GitError> {
    let refspec = match fetch {
        Fetch::Branch(name) => format!("+refs/heads/{name}:refs/remotes/origin/{name}"),
        Fetch::Tag(name) => format!("+refs/tags/{name}:refs/tags/{name}"),
        Fetch::Other(name) | Fetch::Commit(name) => name.clone(),
        Fetch::ShortCommit(name) => {
            fetch_all(git)?;
            return resolve(git, wanted, name);
        }
    };
    let words = match fetch_refs(git, &["--depth=1"], &[&refspec])? {
        Ok(()) => return resolve(git, wanted, "FETCH_HEAD"),
        Err(words) => words,
    };
    if let Fetch::Commit(id) = fetch
        && SHOWS_NO_COMMIT.iter().any(|part| words.contains(part))
    {
        fetch_all(git)?;
        return resolve(git, wanted, id);
    }
    if !words.contains("does not support shallow") {
        return Err(git.failure(&words));
    }
    fetch_refs(git, &[], &[&refspec])?.map_err(|words| git.failure(&words))?;
    resolve(git, wanted, "FETCH_HEAD")
}

/// What servers say that give out branches and tags only, or that have no such commit at all.
const SHOWS_NO_COMMIT: &[&str] = &[
    "not our ref",
    "unadvertised object",
    "does not support shallow",
    "no such remote ref",
    "couldn't find remote ref",
];

fn fetch_refs(git: &Git<'_>, options: &[&str], refspecs: &[&str]) -> Result<Result<(), String>, GitError> {
    let mut args = vec!["fetch", "--progress", "--no-tags", "--no-recurse-submodules", "--no-auto-gc"];
    args.extend(options);
    args.push("origin");
    args.extend(refspecs);
    Ok(git.attempt(&args, Output::None)?.map(drop))
}

fn fetch_all(git: &Git<'_>) -> Result<(), GitError> {
    let all = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
    fetch_refs(git, &[], &all)?.map_err(|words| git.failure(&words))
}

fn resolve(git: &Git<'_>, wanted: &Wanted, name: &str) -> Result<String, GitError> {
    let asked = match wanted {
        Wanted::Named { name, .. } => name.as_str(),
        Wanted::Head => "HEAD",
    };
    match git.attempt(&["rev-parse", "--verify", &format!("{name}^{{commit}}")], Output::Small)? {
        Ok(id) => Ok(String::from_utf8_lossy(&id).trim().to_owned()),
        Err(words) if words.contains("is ambiguous") => {
            Err(GitError::Ambiguous { url: git.request().address.to_string(), reference: asked.to_owned() })
        }
        Err(_) => Err(unknown(git, asked)),
    }
}

fn default_branch(git: &Git<'_>) -> Result<Meaning, GitError> {
    let text = git.run(&["ls-remote", "--symref", "origin", "HEAD"], Output::Small)?;
    let text = String::from_utf8_lossy(&text);
    let branch = text.lines().find_map(|l| l.strip_prefix("ref: refs/heads/")?.strip_suffix("\tHEAD"));
    let mut there = text.lines().filter(|line| !line.starts_with("ref: "));
    let commit = there.find_map(|line| line.strip_suffix("\tHEAD")).map(str::to_owned);
    match (branch, commit) {
        (Some(name), Some(commit)) => {
            Ok(Meaning { fetch: Fetch::Branch(name.to_owned()), commit: Some(commit) })
        }
        (None, Some(commit)) => Ok(Meaning { fetch: Fetch::Other("HEAD".to_owned()), commit: Some(commit) }),
        _ => {
            let url = git.request().address.to_string();
            let mut near = names(git);
            near.truncate(NEAR);
            Err(if near.is_empty() { GitError::NoCommit(url) } else { GitError::NoDefault { url, near } })
        }
    }
}

/// A reference at the remote end.
struct Listed {
    /// What it points to.
    id: String,
    /// Full name.
    name: String,
}

/// The references that fit.
fn list(git: &Git<'_>, patterns: &[&str]) -> Result<Vec<Listed>, GitError> {
    let mut args = vec!["ls-remote", "origin"];
    args.extend(patterns);
    let text = git.run(&args, Output::Large)?;
    let text = String::from_utf8_lossy(&text);
    let listed = |(id, name): (&str, &str)| Listed { id: id.to_owned(), name: name.to_owned() };
    Ok(text.lines().filter_map(|line| line.split_once('\t')).map(listed).collect())
}

/// Short names of all branches and tags; none if they cannot be had.
fn names(git: &Git<'_>) -> Vec<String> {
    let all = list(git, &["refs/heads/*", "refs/tags/*"]).unwrap_or_default();
    let short =
        |name: &str| name.strip_prefix("refs/heads/").or(name.strip_prefix("refs/tags/")).map(str::to_owned);
    let names = all.iter().map(|one| one.name.as_str()).filter(|name| !name.ends_with("^{}"));
    names.filter_map(short).collect()
}

fn unknown(git: &Git<'_>, name: &str) -> GitError {
    let mut near = names(git);
    near.sort_by_key(|other| strsim::damerau_levenshtein(other, name));
    near.truncate(NEAR);
    GitError::UnknownReference { url: git.request().address.to_string(), reference: name.to_owned(), near }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_git_may_see() {
        for name in ["main", "feature/x.y", "v1.0", "refs/pull/1/head", "ümlaut", "a@b"] {
            assert!(
                matches!(Wanted::parse(Some(name)), Ok(Wanted::Named { commit: MayBeCommit::No, .. })),
                "{name}"
            );
        }
        for name in [
            "-x",
            "--upload-pack=id",
            "a b",
            "a..b",
            "a:b",
            "a^{}",
            "a~1",
            "*",
            "",
            "/a",
            "a/",
            "a.lock",
            "@{u}",
            "@",
            "a\n",
            ".git",
            "a/.b",
        ] {
            assert!(Wanted::parse(Some(name)).is_err(), "{name}");
        }
        let commit = |name: &str| match Wanted::parse(Some(name)) {
            Ok(Wanted::Named { commit, .. }) => commit,
            other => panic!("{other:?}"),
        };
        assert_eq!(commit("abc"), MayBeCommit::No);
        assert_eq!(commit("ABCD"), MayBeCommit::Short);
        assert_eq!(commit(&"a".repeat(40)), MayBeCommit::Full);
        assert_eq!(commit(&"a".repeat(41)), MayBeCommit::Short);
        assert_eq!(Wanted::parse(None), Ok(Wanted::Head));
        assert_eq!(Wanted::parse(Some("HEAD")), Ok(Wanted::Head));
    }
}
