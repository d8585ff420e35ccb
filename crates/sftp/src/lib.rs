//! A server of SFTP, version 3, as OpenSSH's clients, editors and `scp` speak it: blocking, one request after the other, over two streams
//! of bytes. It runs inside a container as the user of whoever asks, so the kernel says what may be done; it has no rules of its own, and
//! no way out.
mod attributes;
mod files;
mod long;
mod packet;

use std::io::{self, BufReader, Read, Write};

use files::Files;
use packet::{LARGEST, Reply, Request, Status};

/// The version that is spoken.
const VERSION: u32 = 3;
/// What is understood besides, with its version.
const EXTENSIONS: [(&str, &str); 8] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
];
/// Kinds of packets.
const INIT: u8 = 1;

/// Serves until the client ends its stream. An error is one of the streams, or a client that speaks something else.
pub fn serve(from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut from = BufReader::with_capacity(64 << 10, from);
    let (mut files, mut bytes) = (Files::default(), Vec::new());
    while read_packet(&mut from, &mut bytes)? {
        let reply = match bytes.first() {
            Some(&INIT) => version(),
            _ => answer(&mut files, &bytes),
        };
        to.write_all(&reply.framed())?;
        to.flush()?;
    }
    Ok(())
}

/// Reads one packet; false at the end.
fn read_packet(from: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut length = [0; 4];
    match from.read(&mut length)? {
        0 => return Ok(false),
        n => from.read_exact(&mut length[n..])?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length == 0 || length > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no packet of SFTP"));
    }
    bytes.resize(length, 0);
    from.read_exact(bytes).map(|()| true)
}

fn version() -> Reply {
    let mut reply = Reply::of(2);
    reply.number(VERSION);
    for (name, version) in EXTENSIONS {
        reply.text(name.as_bytes());
        reply.text(version.as_bytes());
    }
    reply
}

fn answer(files: &mut Files, bytes: &[u8]) -> Reply {
    let mut request = Request::new(&bytes[1..]);
    // A packet without a number cannot be answered so that its sender knows; no client sends one.
    let id = request.number().unwrap_or_default();
    let done = match bytes[0] {
        3 => files.open(id, &mut request),
        4 => files.close(id, &mut request),
        5 => files.read(id, &mut request),
        6 => files.write(id, &mut request),
        7 => files::lstat(id, &mut request),
        8 => files.fstat(id, &mut request),
        9 => files::setstat(id, &mut request),
        10 => files.fsetstat(id, &mut request),
        11 => files.opendir(id, &mut request),
        12 => files.readdir(id, &mut request),
        13 => files::remove(id, &mut request),
        14 => files::mkdir(id, &mut request),
        15 => files::rmdir(id, &mut request),
        16 => files::realpath(id, &mut request),
        17 => files::stat(id, &mut request),
        18 => files::rename(id, &mut request),
        19 => files::readlink(id, &mut request),
        20 => files::symlink(id, &mut request),
        200 => files.extended(id, &mut request),
        _ => Err(Status::unsupported()),
    };
    done.unwrap_or_else(|status| status.reply(id))
}

#[cfg(test)]
mod tests;
