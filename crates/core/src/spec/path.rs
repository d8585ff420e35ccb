//! Paths inside the container. It never looks at a file system.
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;

/// Longest path that a kernel takes, in bytes.
pub(super) const LONGEST: usize = 4095;

/// An absolute, normalised path inside the container; never `/`, `/proc`, `/sys`, `/dev` or `/.vessl`
/// (where our own init is), nor below the last four.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transform = super::schema::path)]
pub struct ContainerPath(String);

/// Why a text is not a [`ContainerPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Does not begin with `/`.
    #[error("is not an absolute path")]
    Relative,
    /// Has a `..` component.
    #[error("must not contain `..`")]
    Parent,
    /// Belongs to the container itself.
    #[error("is in `{0}`, which belongs to the container")]
    Reserved(&'static str),
    /// Has a control character.
    #[error("contains a control character")]
    Control,
    /// More bytes than a kernel takes.
    #[error("is longer than {LONGEST} bytes")]
    TooLong,
}

impl ContainerPath {
    /// Reads a path: absolute, without `..`; repeated and trailing slashes and `.` components do not matter.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let path = normalise(text)?;
        match path.split('/').nth(1).unwrap_or_default() {
            "" => Err(PathError::Reserved("/")),
            "proc" => Err(PathError::Reserved("/proc")),
            "sys" => Err(PathError::Reserved("/sys")),
            "dev" => Err(PathError::Reserved("/dev")),
            ".vessl" => Err(PathError::Reserved("/.vessl")),
            _ => Ok(Self(path)),
        }
    }

    /// The path, beginning with `/` and without a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `text` as an absolute path without `.`, `..`, repeated or trailing slashes; `/` alone is allowed.
pub(super) fn normalise(text: &str) -> Result<String, PathError> {
    if !text.starts_with('/') {
        return Err(PathError::Relative);
    }
    if text.chars().any(char::is_control) {
        return Err(PathError::Control);
    }
    let mut path = String::new();
    for part in text.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            return Err(PathError::Parent);
        }
        path.push('/');
        path.push_str(part);
    }
    if path.len() > LONGEST {
        return Err(PathError::TooLong);
    }
    Ok(if path.is_empty() { "/".to_owned() } else { path })
}

impl FromStr for ContainerPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::parse(text)
    }
}

impl fmt::Display for ContainerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, PathError>) {
        assert_eq!(ContainerPath::parse(text).map(|p| p.0), expected.map(str::to_owned), "{text:?}");
    }

    #[test]
    fn paths() {
        check("/code", Ok("/code"));
        check("/code/", Ok("/code"));
        check("//code//sub/./x/", Ok("/code/sub/x"));
        check("/process", Ok("/process"));
        check("/a b/ü", Ok("/a b/ü"));
        check("code", Err(PathError::Relative));
        check("", Err(PathError::Relative));
        check("~/x", Err(PathError::Relative));
        check("/a/../b", Err(PathError::Parent));
        check("/", Err(PathError::Reserved("/")));
        check("/./", Err(PathError::Reserved("/")));
        check("/proc/", Err(PathError::Reserved("/proc")));
        check("/.vessl//init", Err(PathError::Reserved("/.vessl")));
        check("/.vessl2", Ok("/.vessl2"));
        check("/proc/1/fd", Err(PathError::Reserved("/proc")));
        check("/sys", Err(PathError::Reserved("/sys")));
        check("/dev/shm", Err(PathError::Reserved("/dev")));
        check("/a\nb", Err(PathError::Control));
        check(&format!("/{}", "x".repeat(4095)), Err(PathError::TooLong));
    }
}
