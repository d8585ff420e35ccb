//! What a program beside the commands reads from and writes to, as streams.
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::termios::{Winsize, tcgetpgrp, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use vessl_core::door::TerminalSize;

/// A terminal, to be told of its size.
#[derive(Debug)]
pub struct Window(OwnedFd);

/// Where a program reads from. Dropped, the program is at the end of its input; a terminal must be told in its own way.
#[derive(Debug)]
pub struct Input(AsyncFd<std::fs::File>);

/// Where a program writes to.
#[derive(Debug)]
pub struct Output(AsyncFd<std::fs::File>);

#[expect(
    deprecated,
    reason = "a file keeps its descriptor for its life, which is what the unsafe constructor asks for"
)]
fn file(end: OwnedFd) -> io::Result<AsyncFd<std::fs::File>> {
    rustix::io::ioctl_fionbio(&end, true)?;
    AsyncFd::new(end.into())
}

impl Input {
    pub(crate) fn of(end: OwnedFd) -> io::Result<Self> {
        file(end).map(Self)
    }
}

impl Output {
    pub(crate) fn of(end: OwnedFd) -> io::Result<Self> {
        file(end).map(Self)
    }
}

impl Window {
    pub(crate) fn of(end: &OwnedFd) -> io::Result<Self> {
        end.try_clone().map(Self)
    }

    /// Sets the size; who runs in it gets SIGWINCH.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(&self.0, size)?)
    }

    /// The process group that has the terminal now, if any has.
    pub fn foreground(&self) -> Option<i32> {
        tcgetpgrp(&self.0).ok().map(|group| group.as_raw_nonzero().get())
    }
}

impl AsyncRead for Output {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            match guard.try_io(|file| file.get_ref().read(into.initialize_unfilled())) {
                // Nobody has the terminal open any more.
                Ok(Err(error)) if Errno::from_io_error(&error) == Some(Errno::IO) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(read) => return Poll::Ready(read.map(|length| into.advance(length))),
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            match guard.try_io(|file| file.get_ref().write(bytes)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => return Poll::Ready(written),
                Err(_) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
