//! A program in a run, seen from here: its streams are this command's, its end is this command's end.
use std::io::Read;

use bytes::Bytes;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use vessl_reach::frames::{Begin, Frame, Reader, WINDOW, Word, Writer};

use super::terminal::{self, Raw};
use crate::client::Way;
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::Out;

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// What the program reads.
#[derive(Debug)]
pub(super) enum InputFrom {
    /// Standard input.
    Stdin,
    /// Nothing.
    Nothing,
    /// What comes here.
    Pieces(mpsc::Receiver<Bytes>),
}

/// Where goes what it writes.
#[derive(Debug)]
pub(super) enum OutputTo<'a> {
    /// To this command's own streams.
    Here(&'a Out),
    /// Its output to somebody who takes it, and the begin of its errors.
    Pieces(mpsc::Sender<Bytes>, &'a mut Vec<u8>),
}

/// Bytes of errors that are kept.
const SAID: usize = 16 << 10;

/// Starts a program, and stays with it to its end.
pub(super) async fn run(way: Way, begin: Begin, from: InputFrom, to: OutputTo<'_>) -> Result<Exit> {
    let (read, write) = tokio::io::split(way);
    let (mut reader, mut writer) = (Reader::new(read), Writer(write));
    let has_terminal = begin.terminal.is_some();
    writer.send(&Frame::Word(Word::Begin(begin))).await.map_err(|error| lost(&error))?;
    match reader.next().await.map_err(|error| lost(&error))? {
        Some(Frame::Word(Word::Open)) => {}
        Some(Frame::Word(Word::Refused { why, exit_code })) => {
            let exit = exit_code.and_then(|code| u8::try_from(code).ok());
            return Err(Error::NotStarted { why, exit: exit.unwrap_or(1) });
        }
        _ => return Err(Error::Lost { why: "the session did not begin".to_owned() }),
    }
    let signals = Signals::listen(has_terminal)?;
    let raw = has_terminal.then(Raw::begin).transpose()?;
    let input = input(from);
    let (taken, room) = mpsc::unbounded_channel();
    let exit = tokio::select! {
        exit = receive(&mut reader, taken, to) => exit,
        never = send(&mut writer, input, room, signals) => match never {},
    };
    drop(raw);
    exit
}

pub(super) fn lost(error: &std::io::Error) -> Error {
    Error::Lost { why: vessl_core::text::chain(error) }
}

/// Reads standard input on a thread of its own, which nobody waits for: a read cannot be broken off.
pub(super) fn input(from: InputFrom) -> mpsc::Receiver<Bytes> {
    let (pieces, input) = mpsc::channel(1);
    match from {
        InputFrom::Stdin => {}
        InputFrom::Nothing => return input,
        InputFrom::Pieces(input) => return input,
    }
    std::thread::spawn(move || {
        let mut bytes = vec![0; PIECE];
        while let Ok(length @ 1..) = std::io::stdin().lock().read(&mut bytes) {
            if pieces.blocking_send(Bytes::copy_from_slice(&bytes[..length])).is_err() {
                return;
            }
        }
    });
    input
}

/// Prints what comes, to the end of the program.
async fn receive(
    reader: &mut Reader<ReadHalf<Way>>,
    taken: mpsc::UnboundedSender<usize>,
    mut to: OutputTo<'_>,
) -> Result<Exit> {
    loop {
        match reader.next().await.map_err(|error| lost(&error))? {
            Some(Frame::Output(bytes)) => match &to {
                OutputTo::Here(out) => out.raw(&bytes)?,
                OutputTo::Pieces(pieces, _) if pieces.send(bytes).await.is_err() => return Ok(exit::FAILED),
                OutputTo::Pieces(..) => {}
            },
            Some(Frame::ErrorOutput(bytes)) => match &mut to {
                OutputTo::Here(out) => out.raw_beside(&bytes),
                OutputTo::Pieces(_, said) => {
                    said.extend_from_slice(&bytes[..bytes.len().min(SAID.saturating_sub(said.len()))]);
                }
            },
            Some(Frame::Word(Word::Taken { bytes })) => {
                // Who sends is gone when there is no more input.
                let _ = taken.send(bytes);
            }
            Some(Frame::Word(Word::Ended { exit_code })) => {
                return Ok(Exit(u8::try_from(exit_code).unwrap_or(1)));
            }
            Some(Frame::Word(Word::Lost { why })) => return Err(Error::Lost { why }),
            Some(_) => return Err(Error::Lost { why: "it says what makes no sense".to_owned() }),
            None => return Err(Error::Lost { why: "it was cut off".to_owned() }),
        }
    }
}

/// Sends input, signals and sizes. When nothing can be sent any more, what the server has said before tells why.
async fn send(
    writer: &mut Writer<WriteHalf<Way>>,
    mut input: mpsc::Receiver<Bytes>,
    mut room: mpsc::UnboundedReceiver<usize>,
    mut signals: Signals,
) -> std::convert::Infallible {
    let (mut open, mut waiting) = (true, 0);
    loop {
        let frame = tokio::select! {
            Some(taken) = room.recv() => {
                waiting = usize::saturating_sub(waiting, taken);
                continue;
            }
            word = signals.next() => Frame::Word(word),
            bytes = input.recv(), if open && waiting + PIECE <= WINDOW => if let Some(bytes) = bytes {
                waiting += bytes.len();
                Frame::Input(bytes)
            } else {
                open = false;
                Frame::Word(Word::EndOfInput)
            },
        };
        if writer.send(&frame).await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// What the system tells this command that is meant for the program.
struct Signals {
    resize: Option<Signal>,
    /// With a terminal they come as keys.
    others: Vec<(SignalKind, Signal)>,
}

impl Signals {
    fn listen(has_terminal: bool) -> Result<Self> {
        let listen = |kind| signal(kind).map_err(Error::os("listen for signals"));
        if has_terminal {
            return Ok(Self { resize: Some(listen(SignalKind::window_change())?), others: Vec::new() });
        }
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
            SignalKind::quit(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ];
        let others = kinds.into_iter().map(|kind| Ok((kind, listen(kind)?))).collect::<Result<_>>()?;
        Ok(Self { resize: None, others })
    }

    /// The next one, as it is said.
    async fn next(&mut self) -> Word {
        let resized = async {
            match &mut self.resize {
                Some(resize) => resize.recv().await,
                None => std::future::pending().await,
            }
        };
        let others = &mut self.others;
        let told = std::future::poll_fn(|context| {
            for (kind, signal) in others.iter_mut() {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(kind.as_raw_value());
                }
            }
            std::task::Poll::Pending
        });
        tokio::select! {
            _ = resized => Word::Resize(terminal::size()),
            signal = told => Word::Signal { signal },
        }
    }
}
