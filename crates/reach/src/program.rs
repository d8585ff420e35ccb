//! A program beside the commands of a run, as whoever started it has it.
use std::path::Path;

use vessl_core::door::{DoorAsk, Exec};

use crate::activity::Activity;
use crate::door::{Door, DoorError, LIMIT, ask, strange};
use crate::ends::{Input, Output, Window};

/// A program that runs.
#[derive(Debug)]
pub struct Program {
    /// Its standard input, or the terminal.
    pub input: Input,
    /// Its standard output, or the terminal.
    pub output: Output,
    /// Its standard error, if it has no terminal.
    pub error: Option<Output>,
    /// Its terminal, if it has one.
    pub window: Option<Window>,
    /// To signal it, and to hear of its end. Who drops it hangs up.
    pub door: Door,
    /// To be told when somebody types.
    pub activity: Activity,
}

/// Starts a program in the run whose directory is `dir`.
pub async fn exec(dir: &Path, exec: Exec) -> Result<Program, DoorError> {
    let terminal = exec.terminal.is_some();
    let (door, ends) = ask(dir, &DoorAsk::Exec(exec), LIMIT).await?;
    let activity = Activity::of(dir);
    let mut ends = ends.into_iter();
    let (Some(first), second, third) = (ends.next(), ends.next(), ends.next()) else {
        return Err(strange("no descriptor came with the answer"));
    };
    match (terminal, second, third) {
        (true, None, None) => {
            let (window, input) = (Some(Window::of(&first)?), Input::of(first.try_clone()?)?);
            Ok(Program { input, output: Output::of(first)?, error: None, window, door, activity })
        }
        (false, Some(stdout), Some(stderr)) => Ok(Program {
            input: Input::of(first)?,
            output: Output::of(stdout)?,
            error: Some(Output::of(stderr)?),
            window: None,
            door,
            activity,
        }),
        _ => Err(strange("other descriptors came with the answer than were asked for")),
    }
}
