//! Init, carried inside this program and put on disk once per version.
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use vessl_data::durable;

const INIT: &[u8] = include_bytes!(env!("VESSL_INIT"));
const HASH: &str = env!("VESSL_INIT_HASH");

/// Path of init below `data`; written if it is not there yet.
pub(crate) fn place(data: &Path) -> io::Result<PathBuf> {
    let dir = data.join("bin");
    let path = dir.join(format!("init-{HASH}"));
    // Its name tells its content, and it appears there only as a whole.
    let is_there = || std::fs::metadata(&path).is_ok_and(|found| found.len() == INIT.len() as u64);
    if is_there() {
        return Ok(path);
    }
    durable::create_dir_all(&dir, 0o755)?;
    // One after the other: a file that takes the place of one that somebody has just opened leaves him with one that cannot be shown.
    let one = File::open(&dir)?;
    one.lock()?;
    if !is_there() {
        durable::write_atomic(&path, INIT, 0o755)?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_is_static_and_written_once() {
        assert_eq!(&INIT[..4], b"\x7fELF");
        let interpreter = b"/lib64/ld-linux";
        assert!(memchr::memmem::find(INIT, interpreter).is_none(), "init needs a dynamic loader");
        let data = tempfile::tempdir().unwrap();
        let path = place(data.path()).unwrap();
        let made = std::fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(place(data.path()).unwrap(), path);
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), made);
        assert_eq!(std::fs::read(&path).unwrap(), INIT);
    }

    #[test]
    fn what_one_has_opened_is_not_replaced_by_others_who_come_at_once() {
        use std::os::unix::fs::MetadataExt;
        let data = tempfile::tempdir().unwrap();
        let place = || std::fs::metadata(place(data.path()).unwrap()).unwrap().ino();
        let places: Vec<u64> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..16).map(|_| scope.spawn(place)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(places.iter().all(|inode| *inode == places[0]), "{places:?}");
    }
}
