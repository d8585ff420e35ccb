//! From the commands' two pipes into the log: every byte, in the order of arrival, secrets hidden. What a slow disk does
//! not take stays in the pipe, and so slows the commands down; nothing is dropped here.
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use vessl_data::log::Stream;

use crate::record::mask::{Mask, MaskStream};
use crate::supervise::event_loop::{Desk, Source};

/// Bytes of one read.
const READ: usize = 256 * 1024;
/// Size asked for a pipe: the kernel's default would wake this process for every 64 KiB.
const PIPE: i32 = 1 << 20;

/// Both pipes.
#[derive(Debug)]
pub(crate) struct Pump {
    taps: [Tap; 2],
    bytes: Vec<u8>,
    masked: Vec<u8>,
}

#[derive(Debug)]
struct Tap {
    source: Source,
    stream: Stream,
    /// `None` once every writer has closed it.
    pipe: Option<File>,
    mask: MaskStream,
}

impl Pump {
    /// Makes the pipes, lets `desk` watch them, and returns the ends for the commands: standard output and error.
    pub(crate) fn open(desk: &Desk, mask: &Mask) -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let (out, out_write) = tap(desk, mask, Source::Stdout, Stream::Stdout)?;
        let (err, err_write) = tap(desk, mask, Source::Stderr, Stream::Stderr)?;
        let pump = Self { taps: [out, err], bytes: vec![0; READ], masked: Vec::new() };
        Ok((pump, out_write, err_write))
    }

    /// Takes one read from the pipe that is ready.
    pub(crate) fn read(&mut self, source: Source, desk: &mut Desk) {
        if let Some(tap) = self.taps.iter_mut().find(|tap| tap.source == source) {
            tap.read(&mut self.bytes, &mut self.masked, desk);
        }
    }

    /// Takes what is in the pipes now. Commands that go on writing do not keep it here.
    pub(crate) fn drain(&mut self, desk: &mut Desk) {
        for tap in &mut self.taps {
            let mut left = PIPE.unsigned_abs() as usize;
            while left > 0 {
                let taken = tap.read(&mut self.bytes, &mut self.masked, desk);
                if taken == 0 {
                    break;
                }
                left = left.saturating_sub(taken);
            }
        }
    }

    /// Takes the rest: nobody is left who could write.
    pub(crate) fn finish(mut self, desk: &mut Desk) {
        for tap in &mut self.taps {
            while tap.read(&mut self.bytes, &mut self.masked, desk) > 0 {}
            tap.close(desk);
        }
        desk.log.flush();
    }
}

impl Tap {
    /// Bytes taken; 0 if there is nothing now or nothing any more.
    fn read(&mut self, bytes: &mut [u8], masked: &mut Vec<u8>, desk: &mut Desk) -> usize {
        let Some(pipe) = &mut self.pipe else {
            return 0;
        };
        match pipe.read(bytes) {
            Ok(0) => self.close(desk),
            Ok(n) => {
                desk.log.output(self.stream, self.mask.feed(&bytes[..n], masked));
                return n;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.close(desk),
        }
        0
    }

    fn close(&mut self, desk: &mut Desk) {
        if let Some(pipe) = self.pipe.take() {
            desk.leave(&pipe);
            desk.log.output(self.stream, &self.mask.finish());
        }
    }
}

fn tap(desk: &Desk, mask: &Mask, source: Source, stream: Stream) -> io::Result<(Tap, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    // A user may have used up what the kernel gives for large pipes; a small one works as well.
    let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(PIPE));
    // Only the reading end: the commands get an ordinary pipe.
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    desk.watch(source, &read)?;
    let tap = Tap { source, stream, pipe: Some(File::from(read)), mask: mask.stream() };
    Ok((tap, write))
}
