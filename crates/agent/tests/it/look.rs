//! What can be seen of an attempt from outside: its log, its socket, its traces on the machine.
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use vessl_container::limits::Cgroup;
use vessl_core::record::ControlReply;
use vessl_data::log::{Reader, Stream};

/// The whole log as text.
pub(crate) fn log(dir: &Path) -> String {
    String::from_utf8_lossy(&bytes(dir, None)).into_owned()
}

/// What came on one stream.
pub(crate) fn stream(dir: &Path, stream: Stream) -> String {
    String::from_utf8_lossy(&bytes(dir, Some(stream))).into_owned()
}

/// Bytes of the log, of one stream or of all.
pub(crate) fn bytes(dir: &Path, only: Option<Stream>) -> Vec<u8> {
    let mut bytes = Vec::new();
    each(dir, |stream, piece| {
        if only.is_none_or(|only| only == stream) {
            bytes.extend_from_slice(piece);
        }
    });
    bytes
}

/// Every piece of the log in order.
pub(crate) fn each(dir: &Path, mut take: impl FnMut(Stream, &[u8])) {
    let mut reader = Reader::open(&dir.join("log")).unwrap();
    loop {
        let before = reader.position();
        for record in reader.batch().unwrap() {
            take(record.stream, record.bytes);
        }
        if reader.position() == before {
            return;
        }
    }
}

/// Whether the log has its end.
pub(crate) fn is_finished(dir: &Path) -> bool {
    let mut reader = Reader::open(&dir.join("log")).unwrap();
    while reader.batch().unwrap().count() > 0 {}
    reader.is_finished()
}

/// Sends one line to the agent's socket.
pub(crate) fn ask(dir: &Path, line: &str) -> ControlReply {
    let here = std::fs::File::open(dir).unwrap();
    let mut stream = UnixStream::connect(format!("/proc/self/fd/{}/control.sock", here.as_raw_fd())).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply).unwrap();
    serde_json::from_str(&reply).unwrap()
}

/// Processes, cgroups and mounts of a unit, in words.
pub(crate) fn left_behind(unit: &str, data: &Path) -> Vec<String> {
    let mut left = Vec::new();
    if !Cgroup::named(unit).is_empty() {
        left.push("processes".to_owned());
    }
    let mut dirs = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = dirs.pop() {
        // Other tests make and remove groups at the same time.
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy() == unit {
                left.push(format!("cgroup {}", entry.path().display()));
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(entry.path());
            }
        }
    }
    left.extend(mounts(data));
    left
}

/// Mounts that have to do with the data directory, whoever's they are: an agent has mounts of its own. Other containers on
/// the host's root may show the directory itself as one of their parts.
pub(crate) fn mounts(data: &Path) -> Vec<String> {
    let here = format!("{}/", data.display());
    let of = |process: std::fs::DirEntry| {
        let mounts = std::fs::read_to_string(process.path().join("mountinfo")).unwrap_or_default();
        let line = mounts.lines().find(|line| line.contains(&here))?;
        Some(format!("mount of process {}: {line}", process.file_name().display()))
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
}
