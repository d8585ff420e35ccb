//! Where an entry of a layer belongs: its name cleaned, split and checked, and the whiteout marks in it understood.
//! Text only; links are the kernel's business (`openat2`).
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::UnpackError;

/// Deepest directory of a layer; deeper ones could not be removed with an ordinary number of open files.
pub(super) const MAX_DEPTH: usize = 256;
const MAX_PATH: usize = 4095;
const MAX_NAME: usize = 255;
const WHITEOUT: &[u8] = b".wh.";

/// What the name of an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryName {
    /// The root directory of the layer itself.
    Root,
    /// A name in a directory; both relative to the root, without `.` and `..`.
    Under(PathBuf, PathBuf),
    /// The name that is hidden in a directory.
    Whiteout(PathBuf, PathBuf),
    /// A directory whose lower content is hidden.
    Opaque(PathBuf),
    /// Bookkeeping of an old storage driver, to be skipped.
    Bookkeeping,
}

impl EntryName {
    /// Reads the name of an entry. A leading `/` and `./` mean nothing; `..`, NUL and overlong names are refused.
    pub fn of(name: &[u8]) -> Result<Self, UnpackError> {
        let parts = parts(name)?;
        let Some((last, above)) = parts.split_last() else { return Ok(Self::Root) };
        let dir: PathBuf = above.iter().map(|part| OsStr::from_bytes(part)).collect();
        if above.iter().any(|part| part.starts_with(WHITEOUT)) {
            return Ok(Self::Bookkeeping);
        }
        let Some(hidden) = last.strip_prefix(WHITEOUT) else { return Ok(Self::Under(dir, path(last))) };
        match hidden {
            b".wh..opq" => Ok(Self::Opaque(dir)),
            b"" | b"." | b".." => Err(UnpackError::refused(name, "hides no name")),
            _ if hidden.starts_with(WHITEOUT) => Ok(Self::Bookkeeping),
            _ => Ok(Self::Whiteout(dir, path(hidden))),
        }
    }

    /// Reads the target of a hard link: directory and name, relative to the root.
    pub fn of_link(entry: &[u8], target: &[u8]) -> Result<(PathBuf, PathBuf), UnpackError> {
        let parts = parts(target)?;
        match parts.split_last() {
            Some((last, above)) => {
                Ok((above.iter().map(|part| OsStr::from_bytes(part)).collect(), path(last)))
            }
            None => Err(UnpackError::refused(entry, "is a hard link to nothing")),
        }
    }
}

fn path(name: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(name)).to_owned()
}

fn parts(name: &[u8]) -> Result<Vec<&[u8]>, UnpackError> {
    let refuse = |reason: &str| Err(UnpackError::refused(name, reason));
    if name.contains(&0) {
        return refuse("has a NUL in its name");
    }
    if name.len() > MAX_PATH {
        return refuse("has a name longer than 4095 bytes");
    }
    let parts: Vec<&[u8]> =
        name.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&b"..".as_slice()) {
        return refuse("leads out of the image with `..`");
    }
    if parts.iter().any(|part| part.len() > MAX_NAME) {
        return refuse("has a part longer than 255 bytes");
    }
    if parts.len() > MAX_DEPTH {
        return refuse("lies deeper than 256 directories");
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use proptest::prelude::*;

    use super::*;

    fn check(name: &str, expected: &str) {
        let said = match EntryName::of(name.as_bytes()) {
            Ok(EntryName::Root) => "root".to_owned(),
            Ok(EntryName::Under(dir, name)) => format!("{} in {}", name.display(), dir.display()),
            Ok(EntryName::Whiteout(dir, name)) => format!("no {} in {}", name.display(), dir.display()),
            Ok(EntryName::Opaque(dir)) => format!("only {}", dir.display()),
            Ok(EntryName::Bookkeeping) => "skip".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(expected) && !expected.is_empty(), "{name}: {said}");
    }

    #[test]
    fn names_are_cleaned_and_marks_understood() {
        check("", "root");
        check("./", "root");
        check("/", "root");
        check("a", "a in ");
        check("./a//b/./c/", "c in a/b");
        check("/etc/passwd", "passwd in etc");
        check("a/.wh.b", "no b in a");
        check(".wh.b", "no b in ");
        check("a/.wh..wh..opq", "only a");
        check(".wh..wh..opq", "only ");
        check(".wh..wh.plnk/12.34", "skip");
        check(".wh..wh.aufs", "skip");
        check("a/.wh.", "hides no name");
        check("a/.wh...", "hides no name");
        check("..", "leads out");
        check("a/../../b", "leads out");
        check("a\0b", "NUL");
        check(&"x/".repeat(300), "deeper");
        check(&"x".repeat(256), "255");
        check(&"xx/".repeat(2000), "4095");
        check("...", "... in ");
    }

    #[test]
    fn hard_links_name_a_file_below_the_root() {
        let target = EntryName::of_link(b"e", b"/usr/bin/perl").unwrap();
        assert_eq!(target, (PathBuf::from("usr/bin"), PathBuf::from("perl")));
        assert!(EntryName::of_link(b"e", b"../x").is_err());
        assert!(EntryName::of_link(b"e", b"/").is_err());
    }

    fn is_inside(path: &Path) -> bool {
        path.components().all(|part| matches!(part, Component::Normal(_)))
    }

    proptest! {
        #[test]
        fn no_name_leads_out(name in proptest::collection::vec(prop_oneof![
            Just(b'/'), Just(b'.'), Just(0u8), Just(b'w'), Just(b'h'), any::<u8>()], 0..60)
        ) {
            match EntryName::of(&name) {
                Ok(EntryName::Under(dir, last) | EntryName::Whiteout(dir, last)) => {
                    prop_assert!(is_inside(&dir) && is_inside(&last) && last.components().count() == 1);
                }
                Ok(EntryName::Opaque(dir)) => prop_assert!(is_inside(&dir)),
                Ok(EntryName::Root | EntryName::Bookkeeping) | Err(_) => {}
            }
        }
    }
}
