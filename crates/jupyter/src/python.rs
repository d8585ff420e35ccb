//! The Python of an image: found and asked by a program beside the commands of the run.
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use vessl_core::door::{Exec, Refused, Surroundings};
use vessl_reach::door::DoorError;

use crate::lock::PYTHONS;
use crate::tags::{Libc, Platform};

/// What asks; it runs with every Python from 3.5 on.
const PROBE: &str = include_str!("probe.py");
/// What a Python may be called.
const NAMES: [&str; 2] = ["python3", "python"];
/// Longest time for its answer: the first start of a Python on a slow disk takes a while.
const LIMIT: Duration = Duration::from_mins(2);
/// Most bytes of its answer.
const LARGEST: u64 = 64 << 10;

/// What a Python says of itself.
#[derive(Clone, Debug, Deserialize)]
struct Said {
    implementation: String,
    version: (u32, u32),
    free_threaded: bool,
    bits: u32,
    machine: String,
    libc: Option<Libc>,
    jupyterlab: Option<String>,
}

/// A Python that JupyterLab can run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Python {
    /// As it is called.
    pub(crate) name: &'static str,
    /// Where its JupyterLab comes from.
    pub(crate) lab: Origin,
}

/// Where JupyterLab comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The image has it, with this version.
    Image(String),
    /// A kit for this platform.
    Kit(Platform),
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPython {
    /// The run cannot be reached, or not any more.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// The image has none that fits, in words.
    #[error("{0}")]
    Unfit(String),
}

/// Finds the Python of a run.
pub(crate) async fn find(dir: &Path, surroundings: &Surroundings) -> Result<Python, NoPython> {
    for name in NAMES {
        match ask(dir, name, surroundings).await {
            Err(DoorError::Refused { because: Refused::Program(_), .. }) => {}
            Err(error) => return Err(error.into()),
            Ok((code, out, err)) => return judge(name, code, &out, &err).map_err(NoPython::Unfit),
        }
    }
    Err(NoPython::Unfit(format!(
        "the image has no `python3`; JupyterLab needs an image with Python {PYTHONS}. Everything else of the run works without"
    )))
}

/// Runs the probe: its exit code and what it printed.
async fn ask(dir: &Path, name: &str, of: &Surroundings) -> Result<(i32, Vec<u8>, Vec<u8>), DoorError> {
    let exec = Exec {
        argv: [name, "-I", "-c", PROBE].map(str::to_owned).to_vec(),
        env: of.env.clone(),
        user: None,
        workdir: of.workdir.clone(),
        terminal: None,
        hang_up: true,
    };
    let mut program = vessl_reach::exec(dir, exec).await?;
    drop(program.input);
    let (output, error) = (program.output, program.error);
    let answer = async {
        let (out, err) = tokio::join!(all(output), async {
            match error {
                Some(error) => all(error).await,
                None => Vec::new(),
            }
        });
        Ok((program.door.ended().await?, out, err))
    };
    let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, format!("`{name}` does not answer"));
    tokio::time::timeout(LIMIT, answer).await.map_err(|_| late())?
}

async fn all(from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What came before an error is what there is.
    let _ = from.take(LARGEST).read_to_end(&mut bytes).await;
    bytes
}

/// What a Python is good for, by what it printed.
fn judge(name: &'static str, code: i32, out: &[u8], err: &[u8]) -> Result<Python, String> {
    let Ok(said) = serde_json::from_slice::<Said>(out) else {
        let err = String::from_utf8_lossy(err);
        let last = err.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it printed nothing");
        return Err(format!("`{name}` of the image does not work (exit code {code}): {last}"));
    };
    let (major, minor) = said.version;
    if let Some(version) = said.jupyterlab.filter(|version| is_new_enough(version)) {
        return Ok(Python { name, lab: Origin::Image(version) });
    }
    let is_plain = said.implementation == "cpython" && !said.free_threaded && said.bits == 64;
    if major != 3 || !(9..=14).contains(&minor) || !is_plain {
        let what = match said.implementation.as_str() {
            _ if said.bits != 64 => format!("a {}-bit Python", said.bits),
            "cpython" if said.free_threaded => format!("Python {major}.{minor} without its lock"),
            "cpython" => format!("Python {major}.{minor}"),
            other => format!("`{other}`"),
        };
        return Err(format!(
            "the image has {what}; JupyterLab is brought along for CPython {PYTHONS}. An image with JupyterLab 4 or newer of its own works too"
        ));
    }
    let Some(libc) = said.libc else {
        return Err(format!("the C library of the image's `{name}` is not known; it must be glibc or musl"));
    };
    Ok(Python { name, lab: Origin::Kit(Platform { minor, machine: said.machine, libc }) })
}

fn is_new_enough(version: &str) -> bool {
    version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(change: impl FnOnce(&mut serde_json::Value)) -> Result<Origin, String> {
        let mut said = serde_json::json!({
            "implementation": "cpython", "version": [3, 11], "free_threaded": false, "bits": 64,
            "machine": "x86_64", "libc": { "glibc": [2, 36] }, "jupyterlab": null,
        });
        change(&mut said);
        judge("python3", 0, said.to_string().as_bytes(), b"").map(|python| python.lab)
    }

    #[test]
    fn a_python_is_judged_by_what_it_says() {
        let platform = Platform { minor: 11, machine: "x86_64".to_owned(), libc: Libc::Glibc(2, 36) };
        assert_eq!(judged(|_| {}), Ok(Origin::Kit(platform.clone())));
        assert_eq!(
            judged(|said| said["libc"] = serde_json::json!({ "musl": [1, 2] })),
            Ok(Origin::Kit(Platform { libc: Libc::Musl(1, 2), ..platform.clone() }))
        );
        assert_eq!(judged(|said| said["jupyterlab"] = "3.6.8".into()), Ok(Origin::Kit(platform)));
        assert_eq!(judged(|said| said["jupyterlab"] = "4.2.0".into()), Ok(Origin::Image("4.2.0".to_owned())));
        let old = judged(|said| said["version"] = serde_json::json!([3, 8])).unwrap_err();
        assert!(
            old.starts_with("the image has Python 3.8; JupyterLab is brought along for CPython 3.9"),
            "{old}"
        );
        for (field, value) in [
            ("implementation", serde_json::json!("pypy")),
            ("free_threaded", true.into()),
            ("bits", 32.into()),
            ("libc", serde_json::Value::Null),
        ] {
            assert!(judged(|said| said[field] = value).is_err(), "{field}");
        }
    }

    #[test]
    fn a_python_that_does_not_work_is_quoted() {
        let said = judge("python3", 1, b"", b"Fatal Python error: x\n\n").unwrap_err();
        assert_eq!(said, "`python3` of the image does not work (exit code 1): Fatal Python error: x");
    }
}
