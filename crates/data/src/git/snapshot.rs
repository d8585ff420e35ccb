//! A repository of this machine as git may fetch it where the machine is not to be seen as a whole: put together by us below a
//! fence, so that neither its links nor the paths in its files (`gitdir:`, `commondir`, alternates, its configuration) lead git
//! anywhere, and nobody who may write to it can change that while git reads.
//!
//! ```text
//! HEAD, packed-refs, refs/, shallow     copied
//! objects/ab/…                          copied, from the alternates too
//! objects/pack/….pack and .idx          links to what this process has open, so that no byte is copied
//! config                                ours
//! ```
use std::cell::Cell;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::Path;

use super::address::Address;
use super::fence::{Fence, FencedDir, NotInside};
use super::{GitError, Request, local, through};

/// Alternates of alternates that are followed. Source: git's `link_alt_odb_entries`.
const DEPTH: usize = 5;
/// Directories in `refs/` that are followed.
const REFS: usize = 32;
/// Files of packs that are kept open; those past them are copied.
const OPEN: usize = 256;
/// Looks at a directory of packs while they are packed anew.
const LOOKS: usize = 10;
/// Most bytes of a file with paths or settings.
const SMALL: u64 = 1 << 20;
/// Most bytes that are copied in all: a repository keeps what is large in packs, and those are not copied.
const LARGEST: u64 = 16 << 30;
/// Bytes between two looks whether to stop.
const PIECE: u64 = 16 << 20;

/// The repository; it is gone when this is.
pub(super) struct Snapshot {
    dir: tempfile::TempDir,
    /// What the links of its packs lead to.
    _open: Vec<File>,
}

impl Snapshot {
    /// Takes what the address of `request` names.
    pub(super) fn take(request: &Request<'_>, fence: &Fence) -> Result<Self, GitError> {
        let dir = tempfile::Builder::new().prefix("vessl-git-").tempdir_in(fence.scratch());
        let dir = dir.map_err(|error| GitError::write(fence.scratch(), error))?;
        let mut copy = Copy { request, fence, to: dir.path(), open: Vec::new(), left: LARGEST.into() };
        copy.repository()?;
        let open = copy.open;
        Ok(Self { dir, _open: open })
    }

    /// As git gets it.
    pub(super) fn address(&self) -> Address {
        local::address_of(self.dir.path())
    }
}

struct Copy<'a> {
    request: &'a Request<'a>,
    fence: &'a Fence,
    to: &'a Path,
    open: Vec<File>,
    /// Bytes that may still be copied.
    left: Cell<u64>,
}

impl Copy<'_> {
    fn repository(&mut self) -> Result<(), GitError> {
        let own = self.git_dir()?;
        let common = match self.text(&own, "commondir")? {
            Some(path) => self.dir(&own.path.join(path.trim()))?,
            None => own.try_clone().map_err(|error| self.failed(NotInside::Os(error)))?,
        };
        self.make(Path::new("objects/info"))?;
        self.make(Path::new("objects/pack"))?;
        self.make(Path::new("refs"))?;
        let config = configuration(&self.text(&common, "config")?.unwrap_or_default());
        fs::write(self.to.join("config"), config).map_err(|error| GitError::write(self.to, error))?;
        self.file(&own, "HEAD", Path::new("HEAD"))?;
        // References before objects: what they name is there by then.
        for name in ["packed-refs", "shallow"] {
            self.file(&common, name, Path::new(name))?;
        }
        for name in ["refs", "reftable"] {
            if let Some(dir) = common.dir(self.fence, name).map_err(|why| self.failed(why))? {
                self.tree(&dir, Path::new(name), REFS)?;
            }
        }
        self.objects(&common)
    }

    /// The directory that git keeps the repository in.
    fn git_dir(&self) -> Result<FencedDir, GitError> {
        let at = self.dir(&local::path_of(self.request.address))?;
        if let Some(text) = self.text(&at, ".git")? {
            let path = text
                .strip_prefix("gitdir:")
                .map(str::trim)
                .ok_or_else(|| GitError::NoRepository(self.request.address.to_string()))?;
            return self.dir(&at.path.join(path));
        }
        match at.dir(self.fence, ".git").map_err(|why| self.failed(why))? {
            Some(inner) if inner.file(self.fence, "HEAD").map_err(|why| self.failed(why))?.is_some() => {
                Ok(inner)
            }
            _ => Ok(at),
        }
    }

    fn dir(&self, path: &Path) -> Result<FencedDir, GitError> {
        self.fence.dir(path).map_err(|why| self.failed(why))
    }

    /// A small file as text.
    fn text(&self, dir: &FencedDir, name: &str) -> Result<Option<String>, GitError> {
        let Some(file) = dir.file(self.fence, name).map_err(|why| self.failed(why))? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(SMALL).read_to_end(&mut bytes).map_err(|error| self.failed(error.into()))?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn make(&self, name: &Path) -> Result<(), GitError> {
        fs::create_dir_all(self.to.join(name)).map_err(|error| GitError::write(name, error))
    }

    /// Copies a file, if it is there.
    fn file(&self, dir: &FencedDir, name: &str, to: &Path) -> Result<(), GitError> {
        match dir.file(self.fence, name).map_err(|why| self.failed(why))? {
            Some(file) => self.bytes(&file, to),
            None => Ok(()),
        }
    }

    fn bytes(&self, from: &File, to: &Path) -> Result<(), GitError> {
        let mut file = File::create(self.to.join(to)).map_err(|error| GitError::write(to, error))?;
        loop {
            if (self.request.watch.stop)() {
                return Err(GitError::Stopped);
            }
            let copied = io::copy(&mut from.take(PIECE), &mut file);
            let copied = copied.map_err(|error| GitError::write(to, error))?;
            if copied == 0 {
                return Ok(());
            }
            let left = self.left.get().checked_sub(copied).ok_or_else(|| {
                let words =
                    format!("more than {} GiB of it are in no pack: `git gc` packs them", LARGEST >> 30);
                self.failed(NotInside::Os(io::Error::other(words)))
            })?;
            self.left.set(left);
        }
    }

    /// Copies the files of a directory and of those in it. A link to a directory is not followed: it could be one around it.
    fn tree(&self, dir: &FencedDir, to: &Path, depth: usize) -> Result<(), GitError> {
        self.make(to)?;
        for name in self.names(dir)? {
            let to = to.join(&name);
            if let Some(file) = dir.file(self.fence, &name).map_err(|why| self.failed(why))? {
                self.bytes(&file, &to)?;
            } else if let Some(inner) = dir.plain_dir(&name).filter(|_| depth > 0) {
                self.tree(&inner, &to, depth - 1)?;
            }
        }
        Ok(())
    }

    fn names(&self, dir: &FencedDir) -> Result<Vec<String>, GitError> {
        dir.names().map_err(|error| self.failed(error.into()))
    }

    /// Takes the objects of the repository and of those that it borrows from.
    fn objects(&mut self, common: &FencedDir) -> Result<(), GitError> {
        let first = common.dir(self.fence, "objects").map_err(|why| self.failed(why))?;
        let mut open: Vec<(FencedDir, usize)> = first.into_iter().map(|dir| (dir, 0)).collect();
        let mut seen = HashSet::new();
        while let Some((dir, depth)) = open.pop() {
            if !seen.insert(dir.path.clone()) {
                continue;
            }
            self.loose(&dir)?;
            self.packs(&dir)?;
            if depth < DEPTH {
                open.extend(self.alternates(&dir)?.into_iter().map(|dir| (dir, depth + 1)));
            }
        }
        Ok(())
    }

    /// The directories of objects that one borrows from. What is not there has nothing to lend.
    fn alternates(&self, objects: &FencedDir) -> Result<Vec<FencedDir>, GitError> {
        let text = match objects.dir(self.fence, "info").map_err(|why| self.failed(why))? {
            Some(info) => self.text(&info, "alternates")?.unwrap_or_default(),
            None => String::new(),
        };
        let mut found = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match self.fence.dir(&objects.path.join(line)) {
                Ok(dir) => found.push(dir),
                Err(NotInside::Os(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(why) => return Err(self.failed(why)),
            }
        }
        Ok(found)
    }

    fn loose(&self, objects: &FencedDir) -> Result<(), GitError> {
        for name in self.names(objects)?.into_iter().filter(|name| name.len() == 2 && is_hex(name)) {
            let Some(dir) = objects.dir(self.fence, &name).map_err(|why| self.failed(why))? else { continue };
            let to = Path::new("objects").join(&name);
            self.make(&to)?;
            for object in self.names(&dir)?.into_iter().filter(|name| is_hex(name)) {
                self.file(&dir, &object, &to.join(&object))?;
            }
        }
        Ok(())
    }

    /// Takes the packs. Who packs anew removes old ones after the new ones are there: then they are looked at again.
    fn packs(&mut self, objects: &FencedDir) -> Result<(), GitError> {
        let Some(dir) = objects.dir(self.fence, "pack").map_err(|why| self.failed(why))? else {
            return Ok(());
        };
        for _ in 0..LOOKS {
            let mut whole = true;
            for name in self.names(&dir)?.iter().filter(|name| is_pack(name)) {
                whole &= self.pack(&dir, name)?;
            }
            if whole {
                return Ok(());
            }
        }
        Err(self.failed(NotInside::Os(io::Error::other("its packs changed all the time"))))
    }

    /// Takes one file of a pack; false if it is gone.
    fn pack(&mut self, dir: &FencedDir, name: &str) -> Result<bool, GitError> {
        let to = Path::new("objects/pack").join(name);
        if self.to.join(&to).symlink_metadata().is_ok() {
            return Ok(true);
        }
        let Some(file) = dir.file(self.fence, name).map_err(|why| self.failed(why))? else {
            return Ok(false);
        };
        if self.open.len() >= OPEN {
            return self.bytes(&file, &to).map(|()| true);
        }
        symlink(through(&file), self.to.join(&to)).map_err(|error| GitError::write(&to, error))?;
        self.open.push(file);
        Ok(true)
    }

    fn failed(&self, why: NotInside) -> GitError {
        let url = self.request.address.to_string();
        match why {
            NotInside::Outside(path) => GitError::Outside { url, path, roots: self.fence.names().to_vec() },
            NotInside::Os(error) => GitError::Other { url, said: error.to_string() },
        }
    }
}

fn is_hex(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_pack(name: &str) -> bool {
    let middle = name
        .strip_prefix("pack-")
        .and_then(|rest| rest.strip_suffix(".pack").or_else(|| rest.strip_suffix(".idx")));
    middle.is_some_and(is_hex)
}

/// Ours, with what of theirs says how references and objects are written.
fn configuration(theirs: &str) -> String {
    let is_word = |value: &&str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let value = |key: &str| {
        let mut pairs = theirs.lines().filter_map(|line| line.split_once('='));
        let found = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case(key))?;
        Some(found.1.trim()).filter(is_word)
    };
    let extensions = ["objectformat", "refstorage"].into_iter().filter_map(|key| Some((key, value(key)?)));
    let extensions: Vec<String> = extensions.map(|(key, value)| format!("\t{key} = {value}\n")).collect();
    let version = u8::from(!extensions.is_empty());
    format!(
        "[core]\n\trepositoryformatversion = {version}\n\tbare = true\n[extensions]\n{}",
        extensions.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_their_configuration_only_the_format_is_kept() {
        let plain = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n[extensions]\n";
        let evil = "[core]\n\tfsmonitor = id\n[include]\n\tpath = /etc/x\n[remote \"o\"]\n\tpromisor = true\n\tuploadpack = id\n";
        for theirs in ["", evil, "[extensions]\n\tobjectFormat = $(id)\n", "[extensions]\n\tobjectformat\n"] {
            assert_eq!(configuration(theirs), plain, "{theirs}");
        }
        let kept = configuration("[extensions]\n\tobjectFormat = sha256\n\trefStorage=reftable\n");
        assert!(kept.ends_with("[extensions]\n\tobjectformat = sha256\n\trefstorage = reftable\n"), "{kept}");
        assert!(kept.contains("repositoryformatversion = 1"), "{kept}");
    }

    #[test]
    fn names_of_packs() {
        for (name, expected) in [
            ("pack-0123abcd.pack", true),
            ("pack-0123abcd.idx", true),
            ("pack-0123abcd.rev", false),
            ("pack-../x.pack", false),
            ("tmp_pack_x", false),
            ("multi-pack-index", false),
        ] {
            assert_eq!(is_pack(name), expected, "{name}");
        }
    }
}
