//! A tree from another one: entries put, copied and removed, one tree over another. It moves no file: what the entries name must
//! be in the store already.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Entry, Kind, Manifest, Top, Written, read};
use crate::DataError;
use crate::blob::{Digest, Store};
use crate::dir::Modified;

/// Permissions of directories that are made on the way to an entry.
const WAY: u32 = 0o755;

/// A tree that is being changed.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    top: Option<Top>,
    /// In the order of the parts of their paths, so that what is in a directory stands right behind it.
    entries: BTreeMap<PathBuf, (Kind, Option<Modified>)>,
}

/// Why a tree cannot be changed so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// No file system has such an entry.
    #[error(
        "`{}` cannot be in a tree: its path must be relative, without empty, `.` and `..` parts, with names of at most 255 bytes, \
         and its permissions must be nine bits",
        path.display()
    )]
    Entry {
        /// Its path.
        path: PathBuf,
    },
    /// There is nothing.
    #[error("there is no `{}`", path.display())]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// Nothing can be in what is no directory.
    #[error("nothing can be at `{}`: `{}` is no directory", path.display(), above.display())]
    Below {
        /// Where something should be.
        path: PathBuf,
        /// What is there on the way.
        above: PathBuf,
    },
    /// A directory cannot be copied into itself.
    #[error("`{}` cannot be copied into itself", path.display())]
    Inside {
        /// The directory.
        path: PathBuf,
    },
}

impl Edit {
    /// Begins with this tree.
    pub fn of(manifest: Manifest) -> Self {
        let Manifest { top, entries } = manifest;
        let entries = entries.into_iter().map(|entry| (entry.path, (entry.kind, entry.modified))).collect();
        Self { top, entries }
    }

    /// Puts an entry. A directory that is there already keeps what is in it; anything else is replaced, with everything in it.
    /// Directories on the way are made. The empty path is the directory itself.
    pub fn put(&mut self, entry: Entry) -> Result<(), EditError> {
        let Entry { path, kind, modified } = entry;
        if let (true, Kind::Dir { mode }) = (path.as_os_str().is_empty(), &kind) {
            let unknown = Modified { seconds: 0, nanos: 0 };
            let modified = modified.or(self.top.map(|top| top.modified)).unwrap_or(unknown);
            self.top = Some(Top { mode: *mode, modified });
            return Ok(());
        }
        let entry = Entry { path, kind, modified };
        if !entry.is_valid() {
            return Err(EditError::Entry { path: entry.path });
        }
        let Entry { path, kind, modified } = entry;
        self.make_way(&path)?;
        let keeps =
            matches!((&kind, self.entries.get(&path)), (Kind::Dir { .. }, Some((Kind::Dir { .. }, _))));
        if !keeps {
            self.cut(&path);
        }
        self.entries.insert(path, (kind, modified));
        Ok(())
    }

    /// Copies a file, link or directory with everything in it. What is at `to` is replaced; directories on the way are made.
    pub fn copy(&mut self, from: &Path, to: &Path) -> Result<(), EditError> {
        if to.starts_with(from) {
            return Err(EditError::Inside { path: from.to_owned() });
        }
        let copied: Vec<_> = self
            .below(from)
            .map(|(path, what)| (path.strip_prefix(from).unwrap_or(path).to_owned(), what.clone()))
            .collect();
        if copied.is_empty() {
            return Err(EditError::Missing { path: from.to_owned() });
        }
        // What is replaced may hold the source.
        Self::is_entry(to)?;
        self.cut(to);
        for (rest, (kind, modified)) in copied {
            let path = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            self.put(Entry { path, kind, modified })?;
        }
        Ok(())
    }

    /// Removes a file, link or directory with everything in it.
    pub fn delete(&mut self, path: &Path) -> Result<(), EditError> {
        Self::is_entry(path)?;
        if self.cut(path) { Ok(()) } else { Err(EditError::Missing { path: path.to_owned() }) }
    }

    /// Puts everything of another tree.
    pub fn put_all(&mut self, over: Manifest) -> Result<(), EditError> {
        let Manifest { top, entries } = over;
        self.top = top.or(self.top);
        for entry in entries {
            // A link or a file of ours on the way gives way to a directory of theirs, which comes first.
            self.put(entry)?;
        }
        Ok(())
    }

    /// The tree; refuses one that is too large.
    pub fn finish(self) -> Result<Manifest, DataError> {
        let entry = |(path, (kind, modified))| Entry { path, kind, modified };
        let manifest = Manifest::new(self.entries.into_iter().map(entry).collect())?;
        Ok(match self.top {
            Some(top) => manifest.with_top(top),
            None => manifest,
        })
    }

    /// An entry with everything in it.
    fn below<'a>(
        &'a self,
        path: &'a Path,
    ) -> impl Iterator<Item = (&'a PathBuf, &'a (Kind, Option<Modified>))> {
        self.entries.range(path.to_owned()..).take_while(move |(found, _)| found.starts_with(path))
    }

    /// Removes an entry with everything in it; false if there was none.
    fn cut(&mut self, path: &Path) -> bool {
        let gone: Vec<PathBuf> = self.below(path).map(|(found, _)| found.clone()).collect();
        for found in &gone {
            self.entries.remove(found);
        }
        !gone.is_empty()
    }

    fn make_way(&mut self, path: &Path) -> Result<(), EditError> {
        let mut way: Vec<&Path> =
            path.ancestors().skip(1).take_while(|above| !above.as_os_str().is_empty()).collect();
        way.reverse();
        for above in way {
            match self.entries.get(above) {
                Some((Kind::Dir { .. }, _)) => {}
                Some(_) => {
                    return Err(EditError::Below { path: path.to_owned(), above: above.to_owned() });
                }
                None => drop(self.entries.insert(above.to_owned(), (Kind::Dir { mode: WAY }, None))),
            }
        }
        Ok(())
    }

    /// Refuses a path that no entry can have.
    fn is_entry(path: &Path) -> Result<(), EditError> {
        let entry = Entry { path: path.to_owned(), kind: Kind::Dir { mode: WAY }, modified: None };
        if entry.is_valid() { Ok(()) } else { Err(EditError::Entry { path: entry.path }) }
    }
}

/// Puts one version over another one and stores the tree that this makes. Adds and replaces files; removes none.
pub fn merge(store: &Store, base: Digest, over: Digest) -> Result<Written, DataError> {
    let mut edit = Edit::of(read(store, base)?);
    let over = read(store, over)?;
    if edit.put_all(over).is_err() {
        // What was a tree alone is one over another, too: its directories come before what is in them.
        return Err(DataError::Manifest { line: 0, why: "its parent is not a directory of the tree" });
    }
    super::write::store_manifest(store, &edit.finish()?)
}

#[cfg(test)]
mod tests {
    use super::super::Form;
    use super::*;

    fn entry(line: &str) -> Entry {
        let (path, content) = line.split_once('=').unwrap_or((line, ""));
        let kind = match content {
            "" => Kind::Dir { mode: 0o755 },
            "->" => Kind::Symlink { target: "x".into() },
            text => Kind::File {
                mode: 0o644,
                size: text.len() as u64,
                digest: Digest::of(text.as_bytes()),
                form: Form::Plain,
            },
        };
        Entry { path: path.into(), kind, modified: None }
    }

    fn edit(lines: &str) -> Edit {
        Edit::of(Manifest::new(lines.split_whitespace().map(entry).collect()).unwrap())
    }

    fn shown(edit: Edit) -> String {
        let manifest = edit.finish().unwrap();
        let line = |entry: &Entry| {
            let rest = match &entry.kind {
                Kind::File { size, .. } => format!("={size}"),
                Kind::Dir { .. } => String::new(),
                Kind::Symlink { .. } => "=->".to_owned(),
            };
            format!("{}{rest}", entry.path.display())
        };
        manifest.entries().iter().map(line).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn entries_are_put_copied_and_removed() {
        let check = |before: &str, change: &dyn Fn(&mut Edit) -> Result<(), EditError>, expected: &str| {
            let mut changed = edit(before);
            let said = match change(&mut changed) {
                Ok(()) => shown(changed),
                Err(error) => format!("! {error}"),
            };
            assert!(said.starts_with(expected), "{before}\n said: {said}\n not: {expected}");
        };
        let put = |line: &'static str| move |edit: &mut Edit| edit.put(entry(line));
        check("", &put("a/b/f=1"), "a a/b a/b/f=1");
        check("a a/f=1", &put("a/f=22"), "a a/f=2");
        check("a a/f=1 a-b=1", &put("a=22"), "a=2 a-b=1");
        check("a a/f=1", &put("a"), "a a/f=1");
        check("a=1", &put("a"), "a");
        check("a=1", &put("a/f=1"), "! nothing can be at `a/f`: `a` is no directory");
        check("a=->", &put("a/f=1"), "! nothing can be at `a/f`: `a` is no directory");
        for hostile in ["../f=1", "/f=1", "a/../f=1", "a//f=1", "./f=1", "a/.=1", "a/=1", "=1"] {
            check("", &put(hostile), "! `");
        }
        let long = format!("{}=1", "x".repeat(256)).leak();
        check("", &put(long), "! `");
        let copy = |from: &'static str, to: &'static str| {
            move |edit: &mut Edit| edit.copy(Path::new(from), Path::new(to))
        };
        check("a a/f=1 a-b=1", &copy("a", "c/d"), "a a-b=1 a/f=1 c c/d c/d/f=1");
        check("a a/f=1 b=1", &copy("b", "a"), "a=1 b=1");
        check("a a/f=1", &copy("a/f", "a"), "a=1");
        check("a a/f=1", &copy("a", "a/c"), "! `a` cannot be copied into itself");
        check("a a/f=1", &copy("x", "c"), "! there is no `x`");
        check("a=1", &copy("a", "../c"), "! `../c` cannot be in a tree");
        let delete = |path: &'static str| move |edit: &mut Edit| edit.delete(Path::new(path));
        check("a a/f=1 a-b=1", &delete("a"), "a-b=1");
        check("a a/f=1 a-b=1", &delete("a/g"), "! there is no `a/g`");
        check("a a/f=1", &delete(""), "! `` cannot be in a tree");
        check("a a/f=1", &delete("."), "! `.` cannot be in a tree");
    }

    #[test]
    fn one_tree_over_another_adds_and_replaces() {
        let check = |base: &str, over: &str, expected: &str| {
            let mut merged = edit(base);
            merged.put_all(edit(over).finish().unwrap()).unwrap();
            assert_eq!(shown(merged), expected, "{base} + {over}");
        };
        check("a a/f=1 g=1", "a a/f=22 a/h=1", "a a/f=2 a/h=1 g=1");
        check("a=1", "a a/f=1", "a a/f=1");
        check("a a/f=1", "a=22", "a=2");
        check("a=->", "a a/f=1", "a a/f=1");
        check("", "a=1", "a=1");
    }

    #[test]
    fn merging_stores_a_version() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let put = |lines: &str| store.put_bytes(&edit(lines).finish().unwrap().text()).unwrap().digest;
        let merged = merge(&store, put("a=1"), put("b=22")).unwrap();
        assert_eq!((merged.bytes, merged.files), (3, 2));
        assert_eq!(shown(Edit::of(read(&store, merged.version).unwrap())), "a=1 b=2");
    }
}
