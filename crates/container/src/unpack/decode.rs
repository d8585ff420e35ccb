//! The compressed stream as blocks of plain bytes, hashed and counted. Decompression runs in a thread of its own, so that
//! one large layer uses two cores.
use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::Scope;

use sha2::{Digest as _, Sha256};

use super::{InputFailed, UnpackError};
use crate::threads::ThreadGroup;
use vessl_core::reference::Digest;

const BLOCK: usize = 256 << 10;
/// Blocks between the two threads.
const AHEAD: usize = 8;

/// Plain bytes of a layer, a block at a time.
pub(super) struct Stream {
    blocks: Receiver<io::Result<Vec<u8>>>,
    used: Sender<Vec<u8>>,
    block: Vec<u8>,
    at: usize,
    hash: Sha256,
    left: u64,
    allowed: u64,
}

impl Stream {
    /// Starts to decompress `input`; more than `allowed` bytes are an error.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        threads: &'scope ThreadGroup,
        input: impl Read + Send + 'scope,
        allowed: u64,
    ) -> Result<Self, UnpackError> {
        let (send, blocks) = sync_channel(AHEAD);
        let (used, reuse) = channel();
        std::thread::Builder::new()
            .name("pull-decompress".into())
            .spawn_scoped(scope, move || {
                threads.enter();
                decompress(input, &send, &reuse);
            })
            .map_err(|e| UnpackError::os("start a thread for", b"the layer", e))?;
        Ok(Self { blocks, used, block: Vec::new(), at: 0, hash: Sha256::new(), left: allowed, allowed })
    }

    /// Reads to the end and gives the digest of everything.
    pub(super) fn finish(mut self) -> Result<Digest, UnpackError> {
        loop {
            let rest = self.fill_buf().map_err(|e| read_error(&e))?.len();
            if rest == 0 {
                return Ok(Digest::from_hash(&self.hash.finalize()));
            }
            self.consume(rest);
        }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let Ok(block) = self.blocks.recv() else { return Ok(()) };
        let block = block?;
        let size = block.len() as u64;
        self.left = self.left.checked_sub(size).ok_or_else(|| io::Error::other(Bomb(self.allowed)))?;
        self.hash.update(&block);
        // The thread may have ended; then nobody wants the buffer.
        let _ = self.used.send(std::mem::replace(&mut self.block, block));
        self.at = 0;
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(to)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.block.len() {
            self.next_block()?;
        }
        Ok(&self.block[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

#[derive(Debug, thiserror::Error)]
#[error("more than {0} bytes")]
struct Bomb(u64);

/// Tells failures of the input, bombs and damaged streams apart.
pub(super) fn read_error(error: &io::Error) -> UnpackError {
    let inner = error.get_ref();
    if let Some(Bomb(allowed)) = inner.and_then(|e| e.downcast_ref()) {
        return UnpackError::TooBig(format!("{allowed} bytes, which no honest layer of its size does"));
    }
    if inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<InputFailed>) {
        return UnpackError::Input;
    }
    UnpackError::Format(format!("the compressed stream is damaged: {error}"))
}

fn decompress(input: impl Read, to: &SyncSender<io::Result<Vec<u8>>>, reuse: &Receiver<Vec<u8>>) {
    let mut plain = match open(input) {
        Ok(plain) => plain,
        Err(error) => {
            let _ = to.send(Err(error));
            return;
        }
    };
    loop {
        let mut block = reuse.try_recv().unwrap_or_default();
        block.resize(BLOCK, 0);
        let result = fill(&mut plain, &mut block).map(|n| {
            block.truncate(n);
            block
        });
        // An empty block is the end.
        let last = result.as_ref().map_or(true, Vec::is_empty);
        // A receiver that is gone has seen enough.
        if to.send(result).is_err() || last {
            return;
        }
    }
}

/// Reads until `block` is full or the input ends.
fn fill(from: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < block.len() {
        match from.read(&mut block[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}

/// Whether bytes begin a compressed stream that can be read.
pub(crate) fn is_compressed(begin: &[u8]) -> bool {
    matches!(begin, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// The plain bytes of a stream; how it is compressed is seen from its first bytes.
pub(crate) fn open<'a>(mut input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = [0; 4];
    let n = fill(&mut input, &mut magic)?;
    let input = BufReader::with_capacity(BLOCK, io::Cursor::new(magic).take(n as u64).chain(input));
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(input)?)
        }
        _ => Box::new(input),
    })
}
