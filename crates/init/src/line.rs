//! Init's end of the socket on which the script's shell tells how far it is. The kernel says of every piece who wrote it; what
//! others write is thrown away here. It does not know what is written.
use std::hash::{BuildHasher, Hasher};
use std::io::{self, IoSliceMut, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt::PassCred,
};
use nix::unistd::Pid;

/// Bytes that are read at once.
const PIECE: usize = 4096;

/// The socket.
pub(crate) struct Line {
    socket: UnixStream,
}

/// What is there to read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// The shell wrote this.
    Shell(Vec<u8>),
    /// Somebody else wrote something.
    Others,
    /// Nothing now.
    Nothing,
    /// Nobody can write any more.
    End,
}

impl Line {
    /// A new one, and the shell's end of it.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        // Before anybody can write: pieces of different writers then come one by one, each with its writer's number.
        setsockopt(&socket, PassCred, &true)?;
        Ok((Self { socket }, theirs.into()))
    }

    /// Reads one piece; `shell` is whose words count.
    pub(crate) fn receive(&self, shell: Pid) -> Received {
        let mut bytes = [0; PIECE];
        // Room for who wrote it and for nothing else: descriptors that somebody sends along are closed by the kernel.
        let mut control = cmsg_space!(UnixCredentials);
        let mut into = [IoSliceMut::new(&mut bytes)];
        let fd = self.socket.as_raw_fd();
        let (length, writer) =
            match recvmsg::<()>(fd, &mut into, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
                Ok(message) => {
                    (message.bytes, message.cmsgs().ok().and_then(|mut all| all.find_map(|m| writer(&m))))
                }
                Err(Errno::EINTR) => return Received::Others,
                Err(Errno::EAGAIN) => return Received::Nothing,
                Err(_) => return Received::End,
            };
        match length {
            0 => Received::End,
            _ if writer == Some(shell) => Received::Shell(bytes[..length].to_vec()),
            _ => Received::Others,
        }
    }

    /// Lets nobody write any more; what was written can still be read, to [`Received::End`].
    pub(crate) fn close(&self) {
        // It fails only where nobody is at the other end.
        let _ = self.socket.shutdown(Shutdown::Read);
    }

    /// Gives the shell leave to go on, with a word that nobody can guess.
    pub(crate) fn leave(&mut self) -> String {
        let word = format!("{:016x}", std::hash::RandomState::new().build_hasher().finish());
        // A shell that has ended meanwhile does not read it.
        let _ = self.socket.write_all(format!("{word}\n").as_bytes());
        word
    }
}

fn writer(message: &ControlMessageOwned) -> Option<Pid> {
    match message {
        ControlMessageOwned::ScmCredentials(who) => Some(Pid::from_raw(who.pid())),
        _ => None,
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    /// Everything that is there, in pieces.
    fn pieces(line: &Line, shell: Pid) -> Vec<Received> {
        std::iter::repeat_with(|| line.receive(shell))
            .take_while(|heard| *heard != Received::Nothing)
            .collect()
    }

    #[test]
    fn only_the_words_of_the_shell_count() {
        let (line, theirs) = Line::pair().unwrap();
        let me = nix::unistd::getpid();
        let mut theirs = UnixStream::from(theirs);
        let child = |text: &str| {
            let out = Stdio::from(OwnedFd::from(theirs.try_clone().unwrap()));
            assert!(Command::new("/bin/echo").args(["-n", text]).stdout(out).status().unwrap().success());
        };
        (&theirs).write_all(b"one").unwrap();
        child("item 2");
        (&theirs).write_all(b"two").unwrap();
        (&theirs).write_all(b"three").unwrap();
        child("x");
        let words = |text: &str| Received::Shell(text.as_bytes().to_vec());
        assert_eq!(pieces(&line, me), [words("one"), Received::Others, words("twothree"), Received::Others]);
        child("x");
        assert_eq!(pieces(&line, Pid::from_raw(1)), [Received::Others]);
        theirs.write_all(b"last").unwrap();
        line.close();
        assert!(theirs.write_all(b"late").is_err(), "nobody can write any more");
        assert_eq!([line.receive(me), line.receive(me)], [words("last"), Received::End]);
    }

    #[test]
    fn descriptors_that_are_sent_along_do_not_stay() {
        let (line, theirs) = Line::pair().unwrap();
        let theirs = UnixStream::from(theirs);
        let (mut reader, writer) = io::pipe().unwrap();
        let sent = [writer.as_raw_fd()];
        let rights = nix::sys::socket::ControlMessage::ScmRights(&sent);
        let bytes = [io::IoSlice::new(b"item 1")];
        nix::sys::socket::sendmsg::<()>(theirs.as_raw_fd(), &bytes, &[rights], MsgFlags::empty(), None)
            .unwrap();
        drop(writer);
        // No shell writes like that, so it is nobody's word; and the pipe has no writer left.
        assert_eq!(line.receive(nix::unistd::getpid()), Received::Others);
        assert_eq!(io::Read::read(&mut reader, &mut [0]).unwrap(), 0);
    }

    #[test]
    fn every_leave_has_a_word_of_its_own() {
        let (mut line, theirs) = Line::pair().unwrap();
        let words = [line.leave(), line.leave()];
        assert_ne!(words[0], words[1]);
        let lines: Vec<String> =
            BufReader::new(UnixStream::from(theirs)).lines().take(2).map(Result::unwrap).collect();
        assert_eq!(lines, words);
    }
}
