//! Which wheels fit a Python: the tags of their names (the packaging standards of Python) against what was found inside a run.
use serde::Deserialize;

/// The C library of an image, and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Libc {
    /// Debian, Ubuntu, Red Hat and most others.
    Glibc(u32, u32),
    /// Alpine.
    Musl(u32, u32),
}

/// What a wheel must fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Platform {
    /// Version of Python after `3.`.
    pub(crate) minor: u32,
    /// As `uname -m` says it.
    pub(crate) machine: String,
    /// Its C library.
    pub(crate) libc: Libc,
}

/// Versions of glibc that have had names of their own.
const OLD_NAMES: [(&str, (u32, u32)); 3] =
    [("manylinux2014_", (2, 17)), ("manylinux2010_", (2, 12)), ("manylinux1_", (2, 5))];

impl Platform {
    /// How well the wheel of this file name fits: the larger the better; `None` if not at all.
    pub(crate) fn rank(&self, file: &str) -> Option<Rank> {
        let stem = file.strip_suffix(".whl")?;
        let mut parts = stem.rsplit('-');
        let (platforms, abis, pythons) = (parts.next()?, parts.next()?, parts.next()?);
        let (mut abis, mut pythons) = (abis.split('.'), pythons.split('.'));
        let own = format!("cp3{}", self.minor);
        let minor = |tag: &str, of: &str| tag.strip_prefix(of)?.parse::<u32>().ok();
        let kind = if pythons.clone().any(|tag| tag == own) && abis.clone().any(|abi| abi == own) {
            Kind::Own
        } else if abis.clone().any(|abi| abi == "abi3")
            && pythons.clone().any(|tag| minor(tag, "cp3").is_some_and(|minor| minor <= self.minor))
        {
            Kind::Stable
        } else if abis.any(|abi| abi == "none")
            && pythons.any(|tag| {
                tag == "py3" || tag == own || minor(tag, "py3").is_some_and(|minor| minor <= self.minor)
            })
        {
            Kind::Any
        } else {
            return None;
        };
        let best = platforms.split('.').filter_map(|tag| self.needs(tag)).max()?;
        Some(Rank { kind, needs: best })
    }

    /// Which version of the C library a platform tag needs; `None` if it does not fit.
    fn needs(&self, tag: &str) -> Option<(u32, u32)> {
        if tag == "any" {
            return Some((0, 0));
        }
        let rest = tag.strip_suffix(self.machine.as_str())?;
        let (needs, has) = match self.libc {
            Libc::Glibc(major, minor) => {
                let old = OLD_NAMES.iter().find(|(name, _)| *name == rest).map(|(_, version)| *version);
                (old.or_else(|| version(rest.strip_prefix("manylinux_")?))?, (major, minor))
            }
            Libc::Musl(major, minor) => (version(rest.strip_prefix("musllinux_")?)?, (major, minor)),
        };
        (needs.0 == has.0 && needs <= has).then_some(needs)
    }
}

/// `2_17_` as a version.
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.strip_suffix('_')?.split_once('_')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// How well a wheel fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    kind: Kind,
    needs: (u32, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Python alone.
    Any,
    /// For this version and all later ones.
    Stable,
    /// For this version.
    Own,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(libc: Libc, machine: &str, file: &str) -> bool {
        Platform { minor: 11, machine: machine.to_owned(), libc }.rank(file).is_some()
    }

    #[test]
    fn wheels_fit_by_their_tags() {
        let debian = Libc::Glibc(2, 36);
        for (file, expected) in [
            ("jupyterlab-4.6.6-py3-none-any.whl", true),
            ("six-1.17.0-py2.py3-none-any.whl", true),
            ("a-1-py2-none-any.whl", false),
            ("a-1-py311-none-any.whl", true),
            ("a-1-py312-none-any.whl", false),
            ("a-1-cp311-cp311-manylinux_2_28_x86_64.whl", true),
            ("a-1-cp311-cp311-manylinux_2_36_x86_64.whl", true),
            ("a-1-cp311-cp311-manylinux_2_39_x86_64.whl", false),
            ("a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", true),
            ("a-1-cp311-cp311-manylinux2014_x86_64.whl", true),
            ("a-1-cp311-cp311-manylinux_2_28_aarch64.whl", false),
            ("a-1-cp311-cp311-musllinux_1_2_x86_64.whl", false),
            ("a-1-cp311-cp311-linux_x86_64.whl", false),
            ("a-1-cp311-cp311-win_amd64.whl", false),
            ("a-1-cp312-cp312-manylinux_2_28_x86_64.whl", false),
            ("a-1-cp39-abi3-manylinux_2_28_x86_64.whl", true),
            ("a-1-cp312-abi3-manylinux_2_28_x86_64.whl", false),
            ("a-1-cp311-cp311t-manylinux_2_28_x86_64.whl", false),
            ("a-1-py3-none-manylinux_2_28_x86_64.whl", true),
            ("a-1.tar.gz", false),
            ("a.whl", false),
        ] {
            assert_eq!(fits(debian, "x86_64", file), expected, "{file}");
        }
        let alpine = Libc::Musl(1, 2);
        assert!(fits(alpine, "aarch64", "a-1-cp311-cp311-musllinux_1_1_aarch64.whl"));
        assert!(!fits(alpine, "aarch64", "a-1-cp311-cp311-musllinux_1_3_aarch64.whl"));
        assert!(!fits(alpine, "aarch64", "a-1-cp311-cp311-manylinux_2_17_aarch64.whl"));
    }

    #[test]
    fn the_closest_wheel_is_the_best() {
        let platform = Platform { minor: 12, machine: "x86_64".to_owned(), libc: Libc::Glibc(2, 36) };
        let rank = |file: &str| platform.rank(file).unwrap();
        assert!(
            rank("a-1-cp312-cp312-manylinux_2_17_x86_64.whl")
                > rank("a-1-cp39-abi3-manylinux_2_28_x86_64.whl")
        );
        assert!(rank("a-1-cp39-abi3-manylinux_2_28_x86_64.whl") > rank("a-1-py3-none-any.whl"));
        assert!(
            rank("a-1-cp312-cp312-manylinux_2_28_x86_64.whl")
                > rank("a-1-cp312-cp312-manylinux_2_17_x86_64.whl")
        );
    }
}
