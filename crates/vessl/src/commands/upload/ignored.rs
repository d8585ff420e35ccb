//! What `.vesslignore` files leave out of an upload. They are read as git reads `.gitignore`; the matching is the `ignore` crate's.
use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use vessl_data::DataError;
use vessl_data::dir::{Dir, Kind};
use vessl_data::tree::Skips;

use crate::error::{Error, Result};

/// The name of those files.
const NAME: &str = ".vesslignore";
/// Longest of them, in bytes.
const LONGEST: u64 = 1 << 20;

/// What is left out of one directory tree.
#[derive(Debug)]
pub(super) struct Ignored {
    /// The directory that is uploaded.
    base: PathBuf,
    /// Of the directories above it up to the working directory, the nearest first.
    above: Vec<Gitignore>,
    /// Of the directories in it.
    inside: HashMap<PathBuf, Gitignore>,
    /// How many entries were left out; what is in a directory that was does not count.
    pub(super) count: u64,
    /// Why the walk was stopped.
    pub(super) wrong: Option<Error>,
}

impl Ignored {
    /// Of a directory, by its whole path. Where it lies below the working directory, the files from there on count.
    pub(super) fn of(base: &Path, working_dir: Option<&Path>) -> Result<Self> {
        let mut above = Vec::new();
        if let Some(from) = working_dir.filter(|from| base.starts_with(from)) {
            for dir in base.ancestors().skip(1).take_while(|dir| dir.starts_with(from)) {
                let opened = Dir::open(dir).map_err(Error::os(format!("open `{}`", dir.display())))?;
                above.extend(read(&opened, dir)?);
            }
        }
        let (base, inside) = (base.to_owned(), HashMap::new());
        Ok(Self { base, above, inside, count: 0, wrong: None })
    }

    fn is_ignored(&self, path: &Path, kind: Kind) -> bool {
        let inside = path.ancestors().skip(1).filter_map(|dir| self.inside.get(dir));
        let whole = self.base.join(path);
        for rules in inside.chain(&self.above) {
            match rules.matched(&whole, kind == Kind::Dir) {
                Match::None => {}
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
            }
        }
        false
    }
}

impl Skips for Ignored {
    fn enter(&mut self, dir: &Dir, path: &Path) -> Result<(), DataError> {
        match read(dir, &self.base.join(path)) {
            Ok(rules) => {
                self.inside.extend(rules.map(|rules| (path.to_owned(), rules)));
                Ok(())
            }
            Err(error) => {
                self.wrong = Some(error);
                Err(DataError::Stopped)
            }
        }
    }

    fn skips(&mut self, path: &Path, kind: Kind) -> bool {
        let ignored = self.is_ignored(path, kind);
        self.count += u64::from(ignored);
        ignored
    }
}

/// The rules of a directory, if it has some.
fn read(dir: &Dir, path: &Path) -> Result<Option<Gitignore>> {
    let name = path.join(NAME);
    let failed = || Error::os(format!("read `{}`", name.display()));
    let file = match dir.file(Path::new(NAME)) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed()(e)),
    };
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).map_err(failed())?;
    let mut rules = GitignoreBuilder::new(path);
    for (n, line) in String::from_utf8_lossy(&text).lines().enumerate() {
        rules.add_line(None, line).map_err(|error| Error::Usage {
            message: format!("line {} of `{}` is no pattern: {error}", n + 1, name.display()),
            hint: "it is written like a line of a `.gitignore`".to_owned(),
        })?;
    }
    let rules = rules.build().map_err(|error| Error::Usage {
        message: format!("`{}` has patterns that are none: {error}", name.display()),
        hint: "they are written like those of a `.gitignore`".to_owned(),
    })?;
    Ok(Some(rules))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearer_files_and_later_lines_win() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().canonicalize().unwrap().join("data");
        std::fs::create_dir_all(base.join("sub/deep")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(base.join(name), text).unwrap();
        write("../.vesslignore", "*.log\ndata/only-above\n");
        write(".vesslignore", "# a comment\n*.tmp\n!keep.tmp\n/top\ncache/\n");
        write("sub/.vesslignore", "!*.tmp\n*.txt\n");
        let mut ignored = Ignored::of(&base, base.parent()).unwrap();
        for dir in ["", "sub", "sub/deep"] {
            ignored.enter(&Dir::open(&base.join(dir)).unwrap(), Path::new(dir)).unwrap();
        }
        let mut check = |path: &str, kind: Kind, expected: bool| {
            assert_eq!(ignored.skips(Path::new(path), kind), expected, "{path}");
        };
        check("a.tmp", Kind::File, true);
        check("keep.tmp", Kind::File, false);
        check("top", Kind::File, true);
        check("sub/top", Kind::File, false);
        check("cache", Kind::Dir, true);
        check("cache", Kind::File, false);
        check("cache", Kind::Symlink, false);
        check("sub/cache", Kind::Dir, true);
        check("sub/a.tmp", Kind::File, false);
        check("sub/deep/b.txt", Kind::File, true);
        check("b.txt", Kind::File, false);
        check("sub/deep/x.log", Kind::File, true);
        check("only-above", Kind::File, true);
        assert_eq!(ignored.count, 7);
        assert!(!Ignored::of(&base, None).unwrap().is_ignored(Path::new("x.log"), Kind::File));
        write(".vesslignore", "fine\n[z-a]\n");
        let mut ignored = Ignored::of(&base, None).unwrap();
        ignored.enter(&Dir::open(&base).unwrap(), Path::new("")).unwrap_err();
        assert!(ignored.wrong.unwrap().to_string().starts_with("line 2 of `"));
    }
}
