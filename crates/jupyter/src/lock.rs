//! The locks: for each version of Python the packages of a kit and every wheel of them that may fit, with its digest. They are part of
//! the program, so that nobody else decides what is installed; `locks/make` makes them anew.
use std::fmt::Write as _;

use crate::tags::Platform;

/// Versions of Python after `3.` that there are locks for, with the locks.
const LOCKS: [(u32, &str); 6] = [
    (9, include_str!("../locks/3.9.lock")),
    (10, include_str!("../locks/3.10.lock")),
    (11, include_str!("../locks/3.11.lock")),
    (12, include_str!("../locks/3.12.lock")),
    (13, include_str!("../locks/3.13.lock")),
    (14, include_str!("../locks/3.14.lock")),
];

/// Which versions of Python a kit can be made for, in words.
pub const PYTHONS: &str = "3.9 to 3.14";

/// One file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wheel {
    /// Name of its package, as an index has it.
    pub(crate) package: &'static str,
    /// File name.
    pub(crate) file: &'static str,
    /// Digest in hexadecimal.
    pub(crate) sha256: &'static str,
    /// Length in bytes.
    pub(crate) size: u64,
}

/// A package of which no wheel fits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no wheel of `{0}` fits")]
pub(crate) struct NoWheel(pub(crate) String);

/// Every package of the lock of a Python with its wheels; `None` if there is no lock.
fn packages(minor: u32) -> Option<Vec<(&'static str, Vec<Wheel>)>> {
    let (_, text) = LOCKS.iter().find(|(known, _)| *known == minor)?;
    let mut packages: Vec<(&str, Vec<Wheel>)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.contains("==") {
            packages.push((line, Vec::new()));
            continue;
        }
        let mut words = line.split(' ');
        if let (Some(sha256), Some(size), Some(file), Some((package, wheels))) =
            (words.next(), words.next().and_then(|size| size.parse().ok()), words.next(), packages.last_mut())
        {
            let package = package.split("==").next().unwrap_or_default();
            wheels.push(Wheel { package, file, sha256, size });
        }
    }
    Some(packages)
}

/// The wheels of a kit for this platform, one of each package; `None` if there is no lock for its Python.
pub(crate) fn choose(platform: &Platform) -> Option<Result<Vec<Wheel>, NoWheel>> {
    let packages = packages(platform.minor)?;
    let best = |(pin, wheels): (&str, Vec<Wheel>)| {
        let ranked = wheels.into_iter().filter_map(|wheel| Some((platform.rank(wheel.file)?, wheel)));
        let best = ranked.max_by_key(|(rank, _)| *rank).map(|(_, wheel)| wheel);
        best.ok_or_else(|| NoWheel(pin.to_owned()))
    };
    Some(packages.into_iter().map(best).collect())
}

/// The lock for Python 3.`minor` as `pip download --require-hashes -r` reads it; `None` if there is none.
pub fn requirements(minor: u32) -> Option<String> {
    let mut text = String::new();
    for (pin, wheels) in packages(minor)? {
        text.push_str(pin);
        for wheel in wheels {
            // Writing into a string does not fail.
            let _ = write!(text, " \\\n    --hash=sha256:{}", wheel.sha256);
        }
        text.push('\n');
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tags::Libc;

    #[test]
    fn every_lock_has_a_wheel_for_every_platform() {
        for (minor, _) in LOCKS {
            for machine in ["x86_64", "aarch64"] {
                for libc in [Libc::Glibc(2, 36), Libc::Musl(1, 2)] {
                    let platform = Platform { minor, machine: machine.to_owned(), libc };
                    let wheels = choose(&platform).unwrap().unwrap();
                    assert!(wheels.len() > 80, "{platform:?}");
                    assert!(wheels.iter().all(|wheel| wheel.sha256.len() == 64 && wheel.size > 0));
                    assert!(wheels.iter().any(|wheel| wheel.package == "jupyterlab"));
                }
            }
        }
        assert_eq!(
            choose(&Platform { minor: 8, machine: "x86_64".to_owned(), libc: Libc::Glibc(2, 36) }),
            None
        );
    }

    #[test]
    fn an_old_system_is_told_which_package_does_not_fit() {
        let platform = Platform { minor: 11, machine: "x86_64".to_owned(), libc: Libc::Glibc(2, 5) };
        assert!(choose(&platform).unwrap().unwrap_err().to_string().starts_with("no wheel of `"));
    }

    #[test]
    fn requirements_are_pins_with_digests() {
        let text = requirements(12).unwrap();
        let jupyterlab = text.lines().find(|line| line.starts_with("jupyterlab==4.")).unwrap();
        assert!(jupyterlab.ends_with('\\'), "{jupyterlab}");
        assert!(text.contains("--hash=sha256:"));
        assert_eq!(requirements(8), None);
    }
}
