//! Bodies of requests: whole ones, and such as come piece by piece from who reads a file. It knows no connection.
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// Pieces that wait to be sent.
const WAITING: usize = 4;

/// The body of a request.
pub(super) enum Outgoing {
    /// All of it, until it is sent.
    Whole(Bytes),
    /// Piece by piece.
    Piped(Piped),
}

/// A body whose length is known and whose pieces come from somewhere else.
pub(super) struct Piped {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    moved: Moved,
}

/// Who gives the pieces of a body.
pub(crate) type Pieces = mpsc::Sender<io::Result<Bytes>>;

/// How much of a body was sent.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    size: u64,
    done: Arc<AtomicU64>,
    /// Counts the same for all bodies of a transfer.
    all: Arc<AtomicU64>,
}

impl Moved {
    /// Bytes that were sent.
    pub(super) fn so_far(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// Whether everything was sent.
    pub(super) fn is_whole(&self) -> bool {
        self.so_far() >= self.size
    }
}

impl Piped {
    /// A body of `size` bytes; `all` counts what is sent of it, beside that of other bodies.
    pub(super) fn new(size: u64, all: Arc<AtomicU64>) -> (Self, Pieces) {
        let (sender, pieces) = mpsc::channel(WAITING);
        (Self { pieces, moved: Moved { size, done: Arc::default(), all } }, sender)
    }

    /// How much of it was sent, also after it was given away.
    pub(super) fn moved(&self) -> Moved {
        self.moved.clone()
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let moved = &self.moved;
        if moved.is_whole() {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(cx).map(|piece| match piece {
            Some(Ok(piece)) => {
                let length = piece.len() as u64;
                if moved.size - moved.so_far() < length {
                    return Some(Err(io::Error::other("more came than the body has")));
                }
                moved.done.fetch_add(length, Relaxed);
                moved.all.fetch_add(length, Relaxed);
                Some(Ok(Frame::data(piece)))
            }
            Some(Err(error)) => Some(Err(error)),
            None => Some(Err(io::ErrorKind::UnexpectedEof.into())),
        })
    }
}

impl Outgoing {
    /// A body that is here.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

impl Default for Outgoing {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Piped(piped) => piped.next(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Piped(piped) => piped.moved.is_whole(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Piped(piped) => piped.moved.size - piped.moved.so_far(),
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_body_is_as_long_as_was_said() {
        let check = async |size: u64, pieces: &[&'static str], expected: Result<&str, &str>| {
            let all = Arc::default();
            let (body, sender) = Piped::new(size, Arc::clone(&all));
            let moved = body.moved();
            for piece in pieces {
                sender.try_send(Ok(Bytes::from_static(piece.as_bytes()))).unwrap();
            }
            drop(sender);
            let collected = Outgoing::Piped(body).collect().await.map(http_body_util::Collected::to_bytes);
            match (&collected, expected) {
                (Ok(bytes), Ok(text)) => {
                    assert_eq!(*bytes, text.as_bytes());
                    assert!(moved.is_whole() && all.load(Relaxed) == size);
                }
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                _ => panic!("{pieces:?}: {collected:?}"),
            }
        };
        check(4, &["ab", "cd"], Ok("abcd")).await;
        check(0, &[], Ok("")).await;
        check(5, &["ab", "cd"], Err("end of file")).await;
        check(3, &["ab", "cd"], Err("more came")).await;
    }
}
