//! Packets: numbers and texts in, numbers and texts out.
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Largest packet in bytes, its length not counted.
pub(crate) const LARGEST: usize = 256 << 10;
/// Most bytes that are read or written by one request.
pub(crate) const MOST: usize = LARGEST - 1024;

/// Why something was not done.
#[derive(Debug)]
pub(crate) struct Status {
    code: u32,
    why: String,
}

const EOF: u32 = 1;
const NO_SUCH_FILE: u32 = 2;
const DENIED: u32 = 3;
const FAILURE: u32 = 4;
const MALFORMED: u32 = 5;
const UNSUPPORTED: u32 = 8;

/// What a request comes to.
pub(crate) type Done = Result<Reply, Status>;

impl Status {
    pub(crate) fn eof() -> Self {
        Self { code: EOF, why: "end of file".to_owned() }
    }

    pub(crate) fn unsupported() -> Self {
        Self { code: UNSUPPORTED, why: "this server does not do that".to_owned() }
    }

    pub(crate) fn malformed() -> Self {
        Self { code: MALFORMED, why: "the request makes no sense".to_owned() }
    }

    pub(crate) fn failure(why: &str) -> Self {
        Self { code: FAILURE, why: why.to_owned() }
    }

    pub(crate) fn reply(&self, id: u32) -> Reply {
        let mut reply = Reply::to(101, id);
        reply.number(self.code);
        reply.text(self.why.as_bytes());
        reply.text(b"");
        reply
    }
}

impl From<io::Error> for Status {
    fn from(error: io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::NotFound => NO_SUCH_FILE,
            io::ErrorKind::PermissionDenied => DENIED,
            io::ErrorKind::Unsupported => UNSUPPORTED,
            _ => FAILURE,
        };
        Self { code, why: error.to_string() }
    }
}

impl From<nix::errno::Errno> for Status {
    fn from(error: nix::errno::Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// Says that it was done.
pub(crate) fn done(id: u32) -> Reply {
    Status { code: 0, why: String::new() }.reply(id)
}

/// What is left of a request.
pub(crate) struct Request<'a>(&'a [u8]);

impl<'a> Request<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Status> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(Status::malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn number(&mut self) -> Result<u32, Status> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(crate) fn large(&mut self) -> Result<u64, Status> {
        Ok(u64::from(self.number()?) << 32 | u64::from(self.number()?))
    }

    pub(crate) fn text(&mut self) -> Result<&'a [u8], Status> {
        let length = self.number()? as usize;
        self.take(length)
    }

    /// A path; nothing is the directory where the server was started.
    pub(crate) fn path(&mut self) -> Result<PathBuf, Status> {
        let text = self.text()?;
        if text.contains(&0) {
            return Err(Status::malformed());
        }
        let text = if text.is_empty() { b"." } else { text };
        Ok(PathBuf::from(OsString::from_vec(text.to_vec())))
    }
}

/// A packet on its way out.
pub(crate) struct Reply(Vec<u8>);

impl Reply {
    pub(crate) fn of(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    pub(crate) fn to(kind: u8, id: u32) -> Self {
        let mut reply = Self::of(kind);
        reply.number(id);
        reply
    }

    pub(crate) fn number(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(crate) fn large(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(crate) fn text(&mut self, text: &[u8]) {
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(text);
    }

    /// Puts what another one holds, without its head.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// So many zeros as a text, to be filled and shortened to what was filled.
    pub(crate) fn filled<E>(
        &mut self,
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.number(0);
        let begin = self.0.len();
        self.0.resize(begin + room, 0);
        let filled = fill(&mut self.0[begin..])?;
        self.0.truncate(begin + filled);
        let length = u32::try_from(filled).unwrap_or(u32::MAX);
        self.0[begin - 4..begin].copy_from_slice(&length.to_be_bytes());
        Ok(filled)
    }

    pub(crate) fn length(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn framed(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}
