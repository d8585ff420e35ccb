//! A wheel of bytes that are known to be the right ones becomes files of a kit: modules in `lib/`, what it has for the system in the places
//! that this has. Nothing of it is run, and no name leads out.
use std::fs::{File, Permissions};
use std::io::{self, Cursor, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::read::ZipFile;
use zip::result::ZipError;

/// What files and directories of a kit may: everybody reads them, and their owner alone writes.
const FILE: u32 = 0o644;
const PROGRAM: u32 = 0o755;
pub(crate) const DIR: u32 = 0o755;

/// The directory of a kit in which modules are found.
pub(crate) const LIB: &str = "lib";

/// Why a wheel is not unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// It is no archive that can be read.
    #[error("it is no wheel: {0}")]
    Zip(#[from] ZipError),
    /// A name or a kind that a wheel must not have.
    #[error("it has `{0}`, which no wheel may have")]
    Entry(String),
    /// A file cannot be written.
    #[error("cannot write `{name}`: {source}")]
    Write {
        /// Name in the wheel.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// Unpacks a wheel into the directory of a kit. A file that another wheel had too is replaced.
pub(crate) fn unpack(bytes: &[u8], into: &Path) -> Result<(), UnpackError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let name = entry.name()?.into_owned();
        if entry.is_dir() {
            continue;
        }
        let wrong = || UnpackError::Entry(name.clone());
        let kind = entry.unix_mode().unwrap_or(0) & 0o170_000;
        let place = place(&name).filter(|_| kind == 0 || kind == 0o100_000).ok_or_else(wrong)?;
        let written = write(&mut entry, into, &place);
        written.map_err(|source| UnpackError::Write { name: name.clone(), source })?;
    }
    Ok(())
}

/// Where a file of a wheel goes; `None` for a name that leads out, or is none.
fn place(name: &str) -> Option<PathBuf> {
    let parts: Vec<&str> = name.split('/').collect();
    let is_plain =
        |part: &&str| !part.is_empty() && !matches!(*part, "." | "..") && !part.contains(['\\', '\0']);
    if !parts.iter().all(is_plain) {
        return None;
    }
    match parts.as_slice() {
        [data, scheme, rest @ ..] if data.strip_suffix(".data").is_some() && !rest.is_empty() => {
            let rest = rest.join("/");
            Some(match *scheme {
                "purelib" | "platlib" => Path::new(LIB).join(rest),
                "data" => PathBuf::from(rest),
                "scripts" => Path::new("bin").join(rest),
                "headers" => Path::new("include").join(rest),
                _ => return None,
            })
        }
        _ => Some(Path::new(LIB).join(name)),
    }
}

fn write(entry: &mut ZipFile<'_, impl io::Read>, into: &Path, place: &Path) -> io::Result<()> {
    let path = into.join(place);
    make_parents(into, place)?;
    let mut file = match File::create_new(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            std::fs::remove_file(&path)?;
            File::create_new(&path)?
        }
        file => file?,
    };
    io::copy(entry, &mut file)?;
    let is_program = entry.unix_mode().is_some_and(|mode| mode & 0o111 != 0);
    file.set_permissions(Permissions::from_mode(if is_program { PROGRAM } else { FILE }))
}

/// Makes the directories above a place, readable for everybody whatever the mask of this process is.
fn make_parents(into: &Path, place: &Path) -> io::Result<()> {
    let mut dir = into.to_owned();
    for part in place.parent().into_iter().flat_map(Path::components) {
        dir.push(part);
        match std::fs::create_dir(&dir) {
            Ok(()) => std::fs::set_permissions(&dir, Permissions::from_mode(DIR))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn wheel(entries: &[(&str, u32)]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, mode) in entries {
            let options = SimpleFileOptions::default().unix_permissions(*mode);
            writer.start_file(*name, options).unwrap();
            writer.write_all(name.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn files_go_to_their_places() {
        let kit = tempfile::tempdir().unwrap();
        let bytes = wheel(&[
            ("a/__init__.py", 0o600),
            ("a-1.dist-info/METADATA", 0o644),
            ("a-1.data/data/share/jupyter/x.json", 0o644),
            ("a-1.data/purelib/b.py", 0o644),
            ("a-1.data/scripts/run", 0o755),
        ]);
        unpack(&bytes, kit.path()).unwrap();
        for (path, mode) in [
            ("lib/a/__init__.py", FILE),
            ("lib/a-1.dist-info/METADATA", FILE),
            ("share/jupyter/x.json", FILE),
            ("lib/b.py", FILE),
            ("bin/run", PROGRAM),
            ("lib/a", DIR),
        ] {
            let about = std::fs::metadata(kit.path().join(path)).unwrap();
            assert_eq!(about.permissions().mode() & 0o7777, mode, "{path}");
        }
        // Another wheel may have a file of the same name.
        unpack(&wheel(&[("a/__init__.py", 0o644)]), kit.path()).unwrap();
    }

    #[test]
    fn no_name_leads_out() {
        for name in
            ["../x", "a/../../x", "/x", "a//x", "./x", "a\\x", "a-1.data/data/../../x", "a-1.data/other/x"]
        {
            assert_eq!(place(name), None, "{name}");
        }
        let kit = tempfile::tempdir().unwrap();
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        writer.add_symlink("a", "/etc", SimpleFileOptions::default()).unwrap();
        let bytes = writer.finish().unwrap().into_inner();
        let error = unpack(&bytes, kit.path()).unwrap_err();
        assert_eq!(error.to_string(), "it has `a`, which no wheel may have");
        assert!(unpack(b"no archive", kit.path()).is_err());
    }
}
