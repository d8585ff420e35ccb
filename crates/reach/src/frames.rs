//! A program beside the commands, spoken with over one stream of bytes that both sides write to.
//!
//! ```text
//! frame := kind (u8) length (u32, little endian) bytes
//!
//! client                                      server
//! Begin ───────────────────────────────────▶
//!       ◀─────────────────────────────────── Open | Refused
//! Input…, Resize, Signal, EndOfInput ──────▶
//!       ◀─────────────────────────────────── Output…, ErrorOutput…, Taken (bytes of input), then Ended
//! ```
//! A client sends at most [`WINDOW`] bytes of input that were not taken yet, so that a program that does not read keeps nobody from
//! signalling it. Output has no window: who does not read it stops the program, as a pipe would.
use std::io;

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use vessl_core::door::TerminalSize;

/// What the `Upgrade` header of the request says.
pub const PROTOCOL: &str = "vessl-exec/1";
/// The same for a plain connection to something inside a run: bytes as they are.
pub const DIAL_PROTOCOL: &str = "vessl-dial/1";
/// The same for a client of SSH.
pub const SSH_PROTOCOL: &str = "vessl-ssh/1";
/// Most bytes of input on their way.
pub const WINDOW: usize = 256 << 10;
/// Most bytes of a frame.
pub const LARGEST: usize = 1 << 20;
/// Bytes of a frame before its own.
const HEAD: usize = 5;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Anything that is not the program's own bytes.
    Word(Word),
    /// To its standard input.
    Input(Bytes),
    /// From its standard output, or the terminal.
    Output(Bytes),
    /// From its standard error.
    ErrorOutput(Bytes),
}

/// What is said besides the bytes, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "word")]
pub enum Word {
    /// Start a program.
    Begin(Begin),
    /// The terminal has another size.
    Resize(TerminalSize),
    /// Send a signal to it and to those of its session.
    Signal {
        /// Signal number.
        signal: i32,
    },
    /// There is no more input.
    EndOfInput,
    /// It was started.
    Open,
    /// It was not.
    Refused {
        /// In words.
        why: String,
        /// What a shell would exit with: 126 or 127; nothing if that is not the reason.
        exit_code: Option<i32>,
    },
    /// So many bytes of input more have been taken.
    Taken {
        /// Bytes.
        bytes: usize,
    },
    /// It has ended.
    Ended {
        /// Exit code, 128+n for a signal.
        exit_code: i32,
    },
    /// The run has ended, or cannot be reached any more.
    Lost {
        /// In words.
        why: String,
    },
}

/// What to start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// Program and arguments. Empty: the shell of the image, as at a login.
    pub argv: Vec<String>,
    /// `KEY=VALUE` over the environment of the commands.
    #[serde(default)]
    pub env: Vec<String>,
    /// `user[:group]`; absent: the run's.
    #[serde(default)]
    pub user: Option<String>,
    /// Absent: where the commands started.
    #[serde(default)]
    pub workdir: Option<String>,
    /// With a terminal of this size.
    #[serde(default)]
    pub terminal: Option<TerminalSize>,
}

impl Frame {
    fn parts(&self) -> io::Result<(u8, Bytes)> {
        Ok(match self {
            Self::Word(word) => (0, serde_json::to_vec(word)?.into()),
            Self::Input(bytes) => (1, bytes.clone()),
            Self::Output(bytes) => (2, bytes.clone()),
            Self::ErrorOutput(bytes) => (3, bytes.clone()),
        })
    }

    fn of(kind: u8, bytes: Bytes) -> io::Result<Self> {
        match kind {
            0 => match serde_json::from_slice(&bytes) {
                Ok(word) => Ok(Self::Word(word)),
                // The error's own words could show a part of a value.
                Err(error) => Err(wrong(match error.classify() {
                    Category::Data => "a word that is not known",
                    _ => "a word that is not JSON",
                })),
            },
            1 => Ok(Self::Input(bytes)),
            2 => Ok(Self::Output(bytes)),
            3 => Ok(Self::ErrorOutput(bytes)),
            _ => Err(wrong("a frame of an unknown kind")),
        }
    }
}

fn wrong(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Writes frames.
#[derive(Debug)]
pub struct Writer<W>(pub W);

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Writes one, and everything that is kept of it.
    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        let (kind, bytes) = frame.parts()?;
        let length = u32::try_from(bytes.len()).map_err(|_| wrong("a frame that is too large"))?;
        let mut head = [kind, 0, 0, 0, 0];
        head[1..].copy_from_slice(&length.to_le_bytes());
        let mut whole = Buf::chain(&head[..], &bytes[..]);
        while whole.has_remaining() {
            self.0.write_buf(&mut whole).await?;
        }
        self.0.flush().await
    }

    /// Says that nothing more comes.
    pub async fn end(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

/// Reads frames.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    bytes: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Of a stream.
    pub fn new(from: R) -> Self {
        Self { from, bytes: BytesMut::new() }
    }

    /// The next one; `None` at the end. May be dropped and called again.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.cut()? {
                return Ok(Some(frame));
            }
            self.bytes.reserve(64 << 10);
            if self.from.read_buf(&mut self.bytes).await? == 0 {
                let whole = self.bytes.is_empty();
                return if whole { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn cut(&mut self) -> io::Result<Option<Frame>> {
        let Some((&[kind, a, b, c, d], _)) = self.bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > LARGEST {
            return Err(wrong("a frame that is too large"));
        }
        if self.bytes.len() < HEAD + length {
            return Ok(None);
        }
        self.bytes.advance(HEAD);
        Frame::of(kind, self.bytes.split_to(length).freeze()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_survive_any_cut() {
        let begin = Begin { argv: vec!["sh".to_owned()], ..Begin::default() };
        let sent = [
            Frame::Word(Word::Begin(begin)),
            Frame::Input(Bytes::from_static(b"hello")),
            Frame::Output(Bytes::new()),
            Frame::ErrorOutput(Bytes::from_static(b"\0\xff")),
            Frame::Word(Word::Ended { exit_code: 7 }),
        ];
        for piece in [1, 2, 7, 4096] {
            let (far, near) = tokio::io::duplex(piece);
            let sending = async {
                let mut writer = Writer(far);
                for frame in &sent {
                    writer.send(frame).await.unwrap();
                }
                writer.end().await.unwrap();
            };
            let receiving = async {
                let mut reader = Reader::new(near);
                let mut received = Vec::new();
                while let Some(frame) = reader.next().await.unwrap() {
                    received.push(frame);
                }
                received
            };
            let ((), received) = tokio::join!(sending, receiving);
            assert_eq!(received, sent, "{piece}");
        }
    }

    #[tokio::test]
    async fn what_is_no_frame_is_an_error() {
        let check = async |bytes: &[u8], expected: &str| {
            let error = Reader::new(bytes).next().await.unwrap_err();
            assert_eq!(error.to_string(), expected, "{bytes:?}");
        };
        check(&[9, 0, 0, 0, 0], "a frame of an unknown kind").await;
        check(&[1, 255, 255, 255, 255], "a frame that is too large").await;
        check(&[0, 2, 0, 0, 0, b'{', b'}'], "a word that is not known").await;
        check(&[0, 1, 0, 0, 0, b'{'], "a word that is not JSON").await;
        check(&[1, 5, 0, 0, 0, b'a'], "unexpected end of file").await;
    }
}
