//! From the commands' two pipes into the log: every byte, in the order of arrival, secrets hidden. What a slow disk does
//! not take stays in the pipe, and so slows the commands down; nothing is dropped here.
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use vessl_data::log::Stream;

use crate::record::mask::{Mask, MaskStream};
use crate::supervise::event_loop::{EventLoop, EventSource};

/// Bytes of one read.
const READ: usize = 256 * 1024;
/// Size asked for a pipe: the kernel's default would wake this process for every 64 KiB.
const PIPE: i32 = 1 << 20;

/// Both pipes.
#[derive(Debug)]
pub(crate) struct OutputCapture {
    streams: [StreamCapture; 2],
    bytes: Vec<u8>,
    masked: Vec<u8>,
}

#[derive(Debug)]
struct StreamCapture {
    source: EventSource,
    stream: Stream,
    /// `None` once every writer has closed it.
    pipe: Option<File>,
    mask: MaskStream,
}

impl OutputCapture {
    /// Makes the pipes, lets `event_loop` watch them, and returns the ends for the commands: standard output and error.
    pub(crate) fn open(event_loop: &EventLoop, mask: &Mask) -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let (out, out_write) = stream_capture(event_loop, mask, EventSource::Stdout, Stream::Stdout)?;
        let (err, err_write) = stream_capture(event_loop, mask, EventSource::Stderr, Stream::Stderr)?;
        let capture = Self { streams: [out, err], bytes: vec![0; READ], masked: Vec::new() };
        Ok((capture, out_write, err_write))
    }

    /// Takes one read from the pipe that is ready.
    pub(crate) fn read(&mut self, source: EventSource, event_loop: &mut EventLoop) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.source == source) {
            stream.read(&mut self.bytes, &mut self.masked, event_loop);
        }
    }

    /// Takes what is in the pipes now. Commands that go on writing do not keep it here.
    pub(crate) fn drain(&mut self, event_loop: &mut EventLoop) {
        for stream in &mut self.streams {
            let mut left = PIPE.unsigned_abs() as usize;
            while left > 0 {
                let taken = stream.read(&mut self.bytes, &mut self.masked, event_loop);
                if taken == 0 {
                    break;
                }
                left = left.saturating_sub(taken);
            }
        }
    }

    /// Takes the rest: nobody is left who could write.
    pub(crate) fn finish(mut self, event_loop: &mut EventLoop) {
        for stream in &mut self.streams {
            while stream.read(&mut self.bytes, &mut self.masked, event_loop) > 0 {}
            stream.close(event_loop);
        }
        event_loop.log.flush();
    }
}

impl StreamCapture {
    /// Bytes taken; 0 if there is nothing now or nothing any more.
    fn read(&mut self, bytes: &mut [u8], masked: &mut Vec<u8>, event_loop: &mut EventLoop) -> usize {
        let Some(pipe) = &mut self.pipe else {
            return 0;
        };
        match pipe.read(bytes) {
            Ok(0) => self.close(event_loop),
            Ok(n) => {
                event_loop.log.output(self.stream, self.mask.feed(&bytes[..n], masked));
                return n;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.close(event_loop),
        }
        0
    }

    fn close(&mut self, event_loop: &mut EventLoop) {
        if let Some(pipe) = self.pipe.take() {
            event_loop.leave(&pipe);
            event_loop.log.output(self.stream, &self.mask.finish());
        }
    }
}

fn stream_capture(
    event_loop: &EventLoop,
    mask: &Mask,
    source: EventSource,
    stream: Stream,
) -> io::Result<(StreamCapture, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    // A user may have used up what the kernel gives for large pipes; a small one works as well.
    let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(PIPE));
    // Only the reading end: the commands get an ordinary pipe.
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    event_loop.watch(source, &read)?;
    let stream = StreamCapture { source, stream, pipe: Some(File::from(read)), mask: mask.stream() };
    Ok((stream, write))
}
