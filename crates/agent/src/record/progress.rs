//! How far a pull, an import or an export is: a small file for whoever looks now, and a line in the log now and then.
use std::path::PathBuf;
use std::time::{Duration, Instant};

use vessl_core::wire::Progress;

use crate::format;
use crate::record::run_dir::RunDir;

/// Shortest time between two writes of the file.
const FILE_EVERY: Duration = Duration::from_millis(200);
/// Time between two lines of the log.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The `progress` file: one `wire::Progress`, replaced as a whole, there only while something moves. It is a view and
/// not a record: nothing is lost with it.
#[derive(Debug)]
pub(crate) struct ProgressFile {
    path: PathBuf,
    fresh: PathBuf,
    written: Option<Instant>,
    said: Option<Instant>,
}

impl ProgressFile {
    /// The file of an attempt.
    pub(crate) fn new(dir: &RunDir) -> Self {
        Self { path: dir.file("progress"), fresh: dir.file("progress.new"), written: None, said: None }
    }

    /// Takes note; sometimes there is a line to say.
    pub(crate) fn update(&mut self, progress: &Progress) -> Option<String> {
        let now = Instant::now();
        if self.written.is_none_or(|at| now - at >= FILE_EVERY) {
            self.written = Some(now);
            self.write(progress);
        }
        let began = *self.said.get_or_insert(now);
        (now - began >= LINE_EVERY).then(|| {
            self.said = Some(now);
            line(progress)
        })
    }

    /// Nothing moves any more.
    pub(crate) fn over(&mut self) {
        if self.written.take().is_some() {
            // A stale view would only be removed later, with the rest.
            let _ = std::fs::remove_file(&self.path);
        }
        self.said = None;
    }

    fn write(&self, progress: &Progress) {
        let Ok(text) = serde_json::to_vec(progress) else {
            return;
        };
        // Nobody depends on it, and a full disk is told by what really needs the space.
        let _ = std::fs::write(&self.fresh, text).and_then(|()| std::fs::rename(&self.fresh, &self.path));
    }
}

fn line(progress: &Progress) -> String {
    let done = format::size(progress.done);
    match progress.total {
        Some(total) => format!("{} `{}`: {done} of {}", progress.kind, progress.label, format::size(total)),
        None => format!("{} `{}`: {done}", progress.kind, progress.label),
    }
}

#[cfg(test)]
mod tests {
    use vessl_core::wire::ProgressKind;

    use super::*;

    fn progress(done: u64) -> Progress {
        Progress { kind: ProgressKind::Image, label: "busybox".to_owned(), done, total: Some(10_000_000) }
    }

    #[test]
    fn the_file_is_there_while_something_moves() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = ProgressFile::new(&RunDir::open(dir.path()).unwrap());
        assert_eq!(file.update(&progress(5)), None);
        let text = std::fs::read(dir.path().join("progress")).unwrap();
        assert_eq!(serde_json::from_slice::<Progress>(&text).unwrap(), progress(5));
        file.over();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn lines_are_rare() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = ProgressFile::new(&RunDir::open(dir.path()).unwrap());
        assert_eq!((0..100).filter_map(|n| file.update(&progress(n))).count(), 0);
        file.said = Instant::now().checked_sub(LINE_EVERY);
        assert!(
            file.update(&progress(5_000_000)).unwrap().starts_with("image `busybox`: 4.7 MiB of 9.5 MiB")
        );
        assert_eq!(file.update(&progress(6)), None);
    }
}
