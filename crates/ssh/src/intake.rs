//! What a client sends and nobody has taken yet, in bounded memory: a program that does not read stops its own channel first, and the
//! connection only when it has far more than a person types.
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Bytes that wait on one channel.
const OF_CHANNEL: usize = 4 << 20;
/// Bytes that wait on all channels of a connection.
const OF_CONNECTION: usize = 64 << 20;
/// What a piece takes besides its own bytes.
const PIECE: usize = 128;

/// Room for what waits on all channels of a connection.
pub(crate) fn memory() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(OF_CONNECTION))
}

/// Where the bytes of a channel go in.
pub(crate) struct Intake {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
    pieces: mpsc::UnboundedSender<Piece>,
}

/// Some bytes, which have their room until they are dropped.
pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    _room: [OwnedSemaphorePermit; 2],
}

/// The two ends of what waits on a channel.
pub(crate) fn intake(all: &Arc<Semaphore>) -> (Intake, mpsc::UnboundedReceiver<Piece>) {
    let (pieces, taken) = mpsc::unbounded_channel();
    (Intake { own: Arc::new(Semaphore::new(OF_CHANNEL)), all: Arc::clone(all), pieces }, taken)
}

impl Intake {
    /// Puts bytes in, once there is room.
    pub(crate) async fn put(&self, bytes: Bytes) {
        let room = u32::try_from(bytes.len() + PIECE).unwrap_or(u32::MAX);
        let own = Arc::clone(&self.own).acquire_many_owned(room).await;
        let all = Arc::clone(&self.all).acquire_many_owned(room).await;
        if let (Ok(own), Ok(all)) = (own, all) {
            // Who takes no more drops what comes.
            let _ = self.pieces.send(Piece { bytes, _room: [own, all] });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_waits_is_bounded_and_goes_on_when_it_is_taken() {
        let all = memory();
        let (intake, mut taken) = intake(&all);
        let piece = Bytes::from(vec![0; 32 << 10]);
        let mut count = 0;
        while tokio::time::timeout(Duration::from_millis(50), intake.put(piece.clone())).await.is_ok() {
            count += 1;
        }
        assert!((100..=OF_CHANNEL / piece.len()).contains(&count), "{count}");
        drop(taken.recv().await);
        intake.put(piece).await;
    }
}
