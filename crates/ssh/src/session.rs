//! A session channel: what the client says of the program it wants, then the program itself, to its end.
//!
//! As with other servers of SSH, a program outlives the client that started it, unless its terminal goes: then the kernel tells the
//! foreground of that. What it has left running holds nobody up.
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use russh::server::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};
use vessl_core::door::{Refused, TerminalSize};
use vessl_reach::door::DoorError;
use vessl_reach::frames::Begin;
use vessl_reach::relay::pump;
use vessl_reach::{Activity, Input, Program, Window, agent};

use crate::intake::{Intake, Piece, intake};
use crate::names;
use crate::shared::{INIT, Shared};

/// Most variables that a client sets, and bytes of one.
const VARIABLES: usize = 64;
const LONGEST: usize = 32 << 10;
/// Exit code of a program that was not started, as `ssh` has it for what is its own fault.
const NOT_STARTED: u32 = 255;
/// What tells a terminal that there is no more input (Ctrl-D).
const END_OF_INPUT: &[u8] = &[4];
/// How often it is looked whether something works in the foreground of a terminal.
const LOOK: Duration = Duration::from_secs(30);
/// What a command is run by: the shell that a login has.
const SHELL: &str = "if s=$(command -v bash 2>/dev/null); then export SHELL=\"$s\"; exec bash -c \"$1\"; else exec sh -c \"$1\"; fi";
const LOGIN: &str =
    "if s=$(command -v bash 2>/dev/null); then export SHELL=\"$s\"; exec bash -l; else exec sh -l; fi";

/// Serves a session to its end.
pub(crate) async fn serve(channel: Channel<Msg>, shared: Arc<Shared>) {
    let (mut read, write) = channel.split();
    let Some(begin) = wanted(&mut read, &shared).await else { return };
    let code = match begin {
        Ok(begin) => {
            let is_shell = is_login(&begin);
            match start(shared.dir(), begin).await {
                Ok(program) => match run((program, is_shell), &mut read, (&write, &shared)).await {
                    Some(code) => code,
                    // The client has closed the channel.
                    None => return,
                },
                Err((why, code)) => refuse(&write, &why, code).await,
            }
        }
        Err(why) => refuse(&write, &why, NOT_STARTED).await,
    };
    let _ = write.exit_status(code).await;
    let _ = write.eof().await;
    let _ = write.close().await;
    // Until the client has closed it too, what it still sends is taken.
    while read.wait().await.is_some() {}
}

/// Whether a shell is asked for, and no command.
fn is_login(begin: &Begin) -> bool {
    begin.argv.last().is_some_and(|last| last == LOGIN) || begin.argv.is_empty()
}

async fn refuse(write: &ChannelWriteHalf<Msg>, why: &str, code: u32) -> u32 {
    let _ = write.extended_data_bytes(1, format!("vessl: {why}\r\n")).await;
    code
}

/// What the client wants to start; nothing if it closes the channel before, a reason if it cannot be.
async fn wanted(read: &mut ChannelReadHalf, shared: &Shared) -> Option<Result<Begin, String>> {
    let mut begin = Begin { env: about_connection(&shared.ends), ..Begin::default() };
    loop {
        match read.wait().await? {
            ChannelMsg::SetEnv { variable_name: name, variable_value: value, .. } => {
                let fits = begin.env.len() < VARIABLES && name.len() + value.len() < LONGEST;
                let is_name = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
                if fits && is_name {
                    begin.env.push(format!("{name}={value}"));
                }
            }
            ChannelMsg::RequestPty { term, col_width, row_height, .. } => {
                begin.terminal = Some(size(col_width, row_height));
                if !term.is_empty() && term.len() < LONGEST && !term.contains('\0') {
                    begin.env.push(format!("TERM={term}"));
                }
            }
            ChannelMsg::WindowChange { col_width, row_height, .. } if begin.terminal.is_some() => {
                begin.terminal = Some(size(col_width, row_height));
            }
            ChannelMsg::RequestShell { .. } => {
                begin.argv = ["/bin/sh", "-c", LOGIN].map(str::to_owned).to_vec();
                break;
            }
            ChannelMsg::Exec { command, .. } => {
                let Ok(command) = String::from_utf8(command) else {
                    return Some(Err("the command is not UTF-8".to_owned()));
                };
                begin.argv = ["/bin/sh", "-c", SHELL, "sh", &command].map(str::to_owned).to_vec();
                break;
            }
            ChannelMsg::RequestSubsystem { name, .. } if name == "sftp" => {
                begin.argv = [INIT, "sftp"].map(str::to_owned).to_vec();
                begin.terminal = None;
                break;
            }
            ChannelMsg::Close => return None,
            _ => {}
        }
    }
    if let Some(socket) = shared.listening.agent_socket() {
        begin.env.push(format!("SSH_AUTH_SOCK={socket}"));
    }
    Some(Ok(begin))
}

/// What programs look at to know that they are reached by SSH.
fn about_connection(ends: &str) -> Vec<String> {
    let mut words = ends.split(' ');
    let client = [words.next(), words.next(), words.nth(1)].map(Option::unwrap_or_default).join(" ");
    vec![format!("SSH_CONNECTION={ends}"), format!("SSH_CLIENT={client}")]
}

fn size(columns: u32, rows: u32) -> TerminalSize {
    let fit = |count: u32, usual: u16| u16::try_from(count).ok().filter(|count| *count > 0).unwrap_or(usual);
    TerminalSize { rows: fit(rows, 24), columns: fit(columns, 80) }
}

async fn start(dir: &Path, begin: Begin) -> Result<Program, (String, u32)> {
    let started = async {
        let mut exec = begin.within(agent::surroundings(dir).await?);
        exec.hang_up = false;
        vessl_reach::exec(dir, exec).await
    };
    started.await.map_err(|error: DoorError| {
        let code = match error {
            DoorError::Refused { because: Refused::Program(code), .. } => u32::try_from(code).ok(),
            _ => None,
        };
        (error.to_string(), code.unwrap_or(NOT_STARTED))
    })
}

/// Stays with the program to its end: its exit code, or nothing if the client closes the channel.
async fn run(
    (program, is_shell): (Program, bool),
    read: &mut ChannelReadHalf,
    (write, shared): (&ChannelWriteHalf<Msg>, &Shared),
) -> Option<u32> {
    let Program { input, output, error, window, mut door, activity } = program;
    let (over, is_over) = watch::channel(false);
    let (input_pieces, pieces) = intake(&shared.memory);
    let errors = async {
        if let Some(error) = error {
            pump(error, async |bytes| write.extended_data_bytes(1, bytes).await.is_ok(), is_over.clone())
                .await;
        }
    };
    let outputs = async {
        tokio::join!(
            pump(output, async |bytes| write.data_bytes(bytes).await.is_ok(), is_over.clone()),
            errors
        );
    };
    let has_terminal = window.is_some();
    let (signals, mut asked) = mpsc::unbounded_channel();
    let ended = async {
        let ended = loop {
            tokio::select! {
                ended = door.ended() => break ended,
                Some(signal) = asked.recv() => if let Err(error) = door.signal(signal).await { break Err(error) },
            }
        };
        // Who pumps may be done already.
        let _ = over.send(true);
        ended
    };
    let to_its_end = async { tokio::join!(ended, outputs).0 };
    let ways = Ways { input: Some(input_pieces), signals, window, activity, is_shell };
    let ended = tokio::select! {
        ended = to_its_end => ended,
        () = listen(read, ways) => return None,
        never = feed(input, has_terminal, pieces) => match never {},
    };
    match ended {
        Ok(code) => Some(u32::try_from(code).unwrap_or(NOT_STARTED)),
        Err(DoorError::NoContainer) => Some(refuse(write, "the run has ended", NOT_STARTED).await),
        Err(error) => Some(refuse(write, &error.to_string(), NOT_STARTED).await),
    }
}

/// Ways to a program.
struct Ways {
    /// Until the end of its input.
    input: Option<Intake>,
    signals: mpsc::UnboundedSender<i32>,
    window: Option<Window>,
    activity: Activity,
    /// Whether the program is a shell, which works only while something else is in the foreground.
    is_shell: bool,
}

/// Takes in what the client says, until it closes the channel; looks now and then whether something works in the foreground.
async fn listen(read: &mut ChannelReadHalf, mut ways: Ways) {
    let foreground = |window: &Option<Window>| window.as_ref().and_then(Window::foreground);
    let shell = foreground(&ways.window).filter(|_| ways.is_shell);
    let mut look = tokio::time::interval_at(tokio::time::Instant::now() + LOOK, LOOK);
    loop {
        let said = tokio::select! {
            said = read.wait() => said,
            _ = look.tick(), if ways.window.is_some() => {
                if foreground(&ways.window).is_some_and(|now| Some(now) != shell) {
                    ways.activity.seen();
                }
                continue;
            }
        };
        match said {
            Some(ChannelMsg::Data { data }) => {
                ways.activity.seen();
                if let Some(input) = &ways.input {
                    input.put(data).await;
                }
            }
            Some(ChannelMsg::Eof) => ways.input = None,
            Some(ChannelMsg::WindowChange { col_width, row_height, .. }) => {
                // A terminal that is gone needs no size.
                let _ = ways.window.as_ref().map(|window| window.resize(size(col_width, row_height)));
            }
            Some(ChannelMsg::Signal { signal }) => {
                if let Some(signal) = names::signal(&signal) {
                    let _ = ways.signals.send(signal);
                }
            }
            Some(ChannelMsg::Close) | None => return,
            Some(_) => {}
        }
    }
}

/// Gives the program its input. What it does not want any more is dropped.
async fn feed(
    input: Input,
    has_terminal: bool,
    mut pieces: mpsc::UnboundedReceiver<Piece>,
) -> std::convert::Infallible {
    let mut input = Some(input);
    while let Some(piece) = pieces.recv().await {
        if let Some(open) = &mut input
            && open.write_all(&piece.bytes).await.is_err()
        {
            input = None;
        }
    }
    if let (true, Some(open)) = (has_terminal, &mut input) {
        let _ = open.write_all(END_OF_INPUT).await;
    }
    drop(input);
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_are_told_of_the_connection() {
        let told = about_connection("10.0.0.1 50000 10.0.0.2 22");
        assert_eq!(told, ["SSH_CONNECTION=10.0.0.1 50000 10.0.0.2 22", "SSH_CLIENT=10.0.0.1 50000 22"]);
    }

    #[test]
    fn sizes_that_are_none_are_usual_ones() {
        assert_eq!(size(101, 33), TerminalSize { rows: 33, columns: 101 });
        assert_eq!(size(0, 70_000), TerminalSize { rows: 24, columns: 80 });
    }
}
