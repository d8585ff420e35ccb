//! Between somebody who speaks [`crate::frames`] and a program: what the server does with a session. It looks at nothing that passes.
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

use vessl_core::door::Refused;

use crate::activity::Activity;
use crate::door::{Door, DoorError};
use crate::ends::{Input, Output, Window};
use crate::frames::{Begin, Frame, Reader, WINDOW, Word, Writer};
use crate::program::Program;

/// Longest time from the connection to the first word.
const BEGIN: Duration = Duration::from_secs(10);
/// Bytes that are read from a program at once.
const PIECE: usize = 64 << 10;
/// Frames that wait for a client that is slow.
const QUEUE: usize = 4;
/// A program has ended, and somebody that it started still has its output: so long nothing must come for it to be over.
const QUIET: Duration = Duration::from_millis(100);
/// How often it is looked whether something works in the foreground of a terminal.
const LOOK: Duration = Duration::from_secs(30);
/// What tells a terminal that there is no more input (Ctrl-D).
const END_OF_INPUT: &[u8] = &[4];

/// Why no program was started, in words, and what a shell would exit with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotStarted {
    /// In words.
    pub why: String,
    /// 126 or 127, if the program is the reason.
    pub exit_code: Option<i32>,
}

impl From<DoorError> for NotStarted {
    fn from(error: DoorError) -> Self {
        let exit_code = match error {
            DoorError::Refused { because: Refused::Program(code), .. } => Some(code),
            _ => None,
        };
        Self { why: error.to_string(), exit_code }
    }
}

/// Serves one session to its end: the client's, the program's, or that `gone` is told with why. `start` starts what is asked for.
pub async fn serve<S, F>(
    stream: S,
    start: impl FnOnce(Begin) -> F,
    gone: impl Future<Output = &'static str>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Result<Program, NotStarted>>,
{
    let (from, to) = tokio::io::split(stream);
    let (mut reader, mut writer) = (Reader::new(from), Writer(to));
    let begin = match tokio::time::timeout(BEGIN, reader.next()).await {
        Ok(Ok(Some(Frame::Word(Word::Begin(begin))))) => begin,
        Ok(Err(error)) => return Err(error),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a session that does not begin")),
    };
    let is_shell = begin.argv.is_empty();
    let program = match start(begin).await {
        Ok(program) => program,
        Err(NotStarted { why, exit_code }) => {
            writer.send(&Frame::Word(Word::Refused { why, exit_code })).await?;
            return writer.end().await;
        }
    };
    writer.send(&Frame::Word(Word::Open)).await?;
    let (frames, mut outgoing) = mpsc::channel(QUEUE);
    let sending = async move {
        while let Some(frame) = outgoing.recv().await {
            writer.send(&frame).await?;
        }
        writer.end().await
    };
    let working = async move {
        let last = tokio::select! {
            last = run((program, is_shell), &mut reader, &frames) => last?,
            why = gone => Some(Word::Lost { why: why.to_owned() }),
        };
        if let Some(last) = last {
            // A client that is not there any more is seen by whoever writes to it.
            let _ = frames.send(Frame::Word(last)).await;
        }
        Ok(())
    };
    tokio::try_join!(sending, working).map(drop)
}

/// Stays with the program until it has ended, or the client has; then nothing is left to be said.
async fn run<R: AsyncRead + Unpin>(
    (program, is_shell): (Program, bool),
    reader: &mut Reader<R>,
    frames: &mpsc::Sender<Frame>,
) -> io::Result<Option<Word>> {
    let Program { input, output, error, window, door, activity } = program;
    let (signals, asked) = mpsc::unbounded_channel();
    let (chunks, incoming) = mpsc::unbounded_channel();
    let (over, is_over) = watch::channel(false);
    let (waiting, has_terminal) = (AtomicUsize::new(0), window.is_some());
    let takes = async |frame| frames.send(frame).await.is_ok();
    let more_output = async {
        if let Some(error) = error {
            pump(error, |bytes| takes(Frame::ErrorOutput(bytes)), is_over.clone()).await;
        }
    };
    let to_its_end = async {
        let first_output = pump(output, |bytes| takes(Frame::Output(bytes)), is_over.clone());
        tokio::join!(until_ended(door, asked, over), first_output, more_output).0
    };
    let ways = Ways { signals, chunks: Some(chunks), window, waiting: &waiting, activity, is_shell };
    tokio::select! {
        last = to_its_end => Ok(Some(last)),
        heard = listen(reader, ways) => heard.map(|()| None),
        never = feed(input, has_terminal, incoming, (frames, &waiting)) => match never {},
    }
}

/// Passes signals on until the program has ended.
async fn until_ended(
    mut door: Door,
    mut asked: mpsc::UnboundedReceiver<i32>,
    over: watch::Sender<bool>,
) -> Word {
    let last = loop {
        tokio::select! {
            ended = door.ended() => break ended,
            Some(signal) = asked.recv() => if let Err(error) = door.signal(signal).await { break Err(error) },
        }
    };
    // Who pumps may be done already.
    let _ = over.send(true);
    match last {
        Ok(exit_code) => Word::Ended { exit_code },
        Err(DoorError::NoContainer) => Word::Lost { why: "the run has ended".to_owned() },
        Err(error) => Word::Lost { why: error.to_string() },
    }
}

/// Passes output on, to its end, or until nothing comes any more of a program that has ended. `send` answers whether somebody still takes it.
pub async fn pump<F: Future<Output = bool>>(
    mut from: Output,
    send: impl Fn(Bytes) -> F,
    mut is_over: watch::Receiver<bool>,
) {
    let mut bytes = BytesMut::with_capacity(PIECE);
    loop {
        bytes.reserve(PIECE);
        let over = *is_over.borrow_and_update();
        let read = tokio::select! {
            read = from.read_buf(&mut bytes) => read,
            _ = is_over.changed(), if !over => continue,
            () = tokio::time::sleep(QUIET), if over => return,
        };
        if !read.is_ok_and(|length| length > 0) || !send(bytes.split().freeze()).await {
            return;
        }
    }
}

/// Ways to a program.
struct Ways<'a> {
    signals: mpsc::UnboundedSender<i32>,
    /// Until the end of its input.
    chunks: Option<mpsc::UnboundedSender<Bytes>>,
    window: Option<Window>,
    /// Bytes that it has not taken.
    waiting: &'a AtomicUsize,
    activity: Activity,
    /// Whether the program is a shell, which works only while something else is in the foreground.
    is_shell: bool,
}

/// Takes in what the client says, until it says no more; looks now and then whether something works in the foreground of its terminal.
async fn listen<R: AsyncRead + Unpin>(reader: &mut Reader<R>, mut ways: Ways<'_>) -> io::Result<()> {
    let wrong = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let foreground = |window: &Option<Window>| window.as_ref().and_then(Window::foreground);
    let shell = foreground(&ways.window).filter(|_| ways.is_shell);
    let mut look = tokio::time::interval_at(tokio::time::Instant::now() + LOOK, LOOK);
    loop {
        let frame = tokio::select! {
            frame = reader.next() => match frame? {
                Some(frame) => frame,
                None => return Ok(()),
            },
            _ = look.tick(), if ways.window.is_some() => {
                if foreground(&ways.window).is_some_and(|now| Some(now) != shell) {
                    ways.activity.seen();
                }
                continue;
            }
        };
        match frame {
            Frame::Input(bytes) => {
                if ways.waiting.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len() > WINDOW {
                    return wrong("more input than there is room for");
                }
                ways.activity.seen();
                // What comes after the end of the input is nobody's.
                let _ = ways.chunks.as_ref().map(|chunks| chunks.send(bytes));
            }
            Frame::Word(Word::EndOfInput) => ways.chunks = None,
            Frame::Word(Word::Resize(size)) => {
                // A terminal that is gone needs no size.
                let _ = ways.window.as_ref().map(|window| window.resize(size));
            }
            Frame::Word(Word::Signal { signal }) => {
                let _ = ways.signals.send(signal);
            }
            _ => return wrong("a frame that a client does not send"),
        }
    }
}

/// Gives the program its input. What it does not want any more counts as taken.
async fn feed(
    input: Input,
    has_terminal: bool,
    mut chunks: mpsc::UnboundedReceiver<Bytes>,
    (frames, waiting): (&mpsc::Sender<Frame>, &AtomicUsize),
) -> std::convert::Infallible {
    let mut input = Some(input);
    while let Some(bytes) = chunks.recv().await {
        if let Some(open) = &mut input
            && open.write_all(&bytes).await.is_err()
        {
            input = None;
        }
        waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
        let _ = frames.send(Frame::Word(Word::Taken { bytes: bytes.len() })).await;
    }
    if let (true, Some(open)) = (has_terminal, &mut input) {
        let _ = open.write_all(END_OF_INPUT).await;
    }
    drop(input);
    std::future::pending().await
}
