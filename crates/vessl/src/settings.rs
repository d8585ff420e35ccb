//! The user's settings: which server, which token, default organization and project. Flags win over the environment, and that
//! over `config.toml`. It prints nothing and asks nothing.
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};
use vessl_core::secret::{Secret, expose};
use vessl_core::text::without_os_numbers;
use vessl_server::ServerError;
use vessl_server::config::{Config, load, load_data_dir, origin};

use crate::error::{Error, Result};

/// `$XDG_CONFIG_HOME/vessl/config.toml`, mode 0600.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Address of the server; absent means the server of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    /// Its token.
    #[serde(serialize_with = "expose", skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Secret>,
    /// Default organization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) organization: Option<String>,
    /// Default project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<String>,
    /// Whether every run is submitted with `--strict`.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(crate) strict: bool,
}

impl Settings {
    /// Where the settings of this person are.
    pub(crate) fn path() -> Result<PathBuf> {
        Ok(config_dir()?.join("config.toml"))
    }

    /// Whether every run is submitted with `--strict`. A file that cannot be read is told of when a server is asked.
    pub(crate) fn is_strict() -> bool {
        Self::path().and_then(|path| Self::read(&path)).is_ok_and(|settings| settings.strict)
    }

    /// Reads the file; one that does not exist settles nothing.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(Error::Os { what: format!("read `{}`", path.display()), source }),
        };
        toml::from_str(&text).map_err(|e| Error::Settings {
            path: path.to_owned(),
            message: e.message().lines().next().unwrap_or_default().to_owned(),
        })
    }

    /// Writes the file in one step, readable for its owner alone.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text =
            toml::to_string(self).map_err(|e| Error::Bug(format!("the settings have no TOML form: {e}")))?;
        let dir = path.parent().ok_or_else(|| Error::Bug("the settings file has no directory".to_owned()))?;
        let new = dir.join(format!(".config.toml.{}", std::process::id()));
        let write = || {
            std::fs::create_dir_all(dir)?;
            let mut file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, path)
        };
        write().map_err(Error::os(format!("write `{}`", path.display()))).inspect_err(|_| {
            let _ = std::fs::remove_file(&new);
        })
    }

    /// Whether others can read a file that holds a token.
    pub(crate) fn is_exposed(&self, path: &Path) -> bool {
        self.token.is_some()
            && std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
    }
}

/// `$XDG_CONFIG_HOME/vessl`, else `~/.config/vessl`.
pub(crate) fn config_dir() -> Result<PathBuf> {
    Ok(base("XDG_CONFIG_HOME", ".config")?.join("vessl"))
}

/// Where the server of this machine keeps its data: `$VESSL_DATA`, else `data_dir` of its settings, else
/// `$XDG_DATA_HOME/vessl`, else `~/.local/share/vessl`.
pub(crate) fn data_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("VESSL_DATA").filter(|dir| !dir.is_empty()) {
        return absolute("`VESSL_DATA`", dir.into());
    }
    let config = load_data_dir(server_file()?.as_deref(), environment()).map_err(|e| wrong(e.to_string()))?;
    data_dir_of(&config)
}

/// The data directory that these settings of a server mean; `$VESSL_DATA` wins.
pub(crate) fn data_dir_of(config: &Config) -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("VESSL_DATA").filter(|dir| !dir.is_empty()) {
        return absolute("`VESSL_DATA`", dir.into());
    }
    if !config.data_dir.as_os_str().is_empty() {
        return absolute("the server's `data_dir`", config.data_dir.clone());
    }
    if let Some(dir) = variable("XDG_DATA_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        return Ok(dir.join("vessl"));
    }
    let home = variable("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = home.ok_or_else(|| no_home("`HOME` is not set to an absolute path".to_owned()))?;
    let data = home.join(".local/share/vessl");
    refuse_home(&home, &data).map_or(Ok(data), |why| Err(no_home(why)))
}

/// There is no place for the data; nothing is started in another one instead.
fn no_home(why: String) -> Error {
    Error::Usage {
        message: why,
        hint: "set `HOME` to your own directory, or `VESSL_DATA` to where the server of this machine keeps its data".to_owned(),
    }
}

/// Why a data directory in this home directory cannot be used by this user, if it cannot.
fn refuse_home(home: &Path, data: &Path) -> Option<String> {
    let me = nix::unistd::geteuid().as_raw();
    let is_mine = |path: &Path| path.metadata().is_ok_and(|meta| meta.uid() == me);
    if is_mine(data) {
        return None;
    }
    let named = format!("`HOME` is `{}`, which", home.display());
    match home.metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Some(format!("{named} does not exist")),
        Err(e) => {
            return Some(format!("{named} cannot be looked at: {}", without_os_numbers(&e.to_string())));
        }
        Ok(meta) if !meta.is_dir() => return Some(format!("{named} is no directory")),
        Ok(meta) if meta.uid() != me => {
            return Some(format!("{named} is the home directory of another user ({})", meta.uid()));
        }
        Ok(_) => {}
    }
    let there = data.ancestors().find(|dir| dir.exists()).unwrap_or(home);
    let denied = access(there, AccessFlags::W_OK | AccessFlags::X_OK).err()?;
    Some(format!(
        "the data directory `{}` cannot be used: `{}`: {}",
        data.display(),
        there.display(),
        denied.desc()
    ))
}

/// A directory that does not depend on where the command is called.
fn absolute(what: &str, dir: PathBuf) -> Result<PathBuf> {
    if dir.is_absolute() {
        return Ok(dir);
    }
    Err(Error::Usage {
        message: format!("{what} is not an absolute path: `{}`", dir.display()),
        hint: "write it like `/var/lib/vessl`".to_owned(),
    })
}

/// The settings file of this person's server, if there is one.
pub(crate) fn server_file() -> Result<Option<PathBuf>> {
    let file = config_dir()?.join("server.toml");
    Ok(file.exists().then_some(file))
}

/// Settings of a server, from `file` and from the environment.
pub(crate) fn server(file: Option<&Path>) -> Result<Config> {
    let config = load(file, environment()).map_err(|e| wrong(e.to_string()))?;
    let file = file.map_or_else(|| Ok(config_dir()?.join("server.toml")), |file| Ok(file.to_owned()))?;
    let file = std::path::absolute(file).map_err(Error::os("find the settings file"))?;
    Ok(Config { file: Some(file), ..config })
}

/// Why the server could not go on; of a setting, where it was made: in a variable, or a line of `file`.
pub(crate) fn refused(error: &ServerError, file: Option<&Path>) -> Error {
    let Some(setting) = error.setting() else { return Error::Server(error.to_string()) };
    let place = origin(file, environment(), setting).map(|place| format!("{place}: "));
    wrong(format!("{}{error}", place.unwrap_or_default()))
}

fn wrong(message: String) -> Error {
    Error::Usage { message, hint: "`vessl server run --print-config` shows every setting".to_owned() }
}

/// The variables that are text.
/// The settings of the server of a data directory: of the last one, else of the next.
pub(crate) fn config_of(data: &Path) -> Result<Config> {
    let last = std::fs::read(data.join("config")).ok().map(|path| PathBuf::from(OsString::from_vec(path)));
    let file = match last {
        Some(last) => Some(last),
        None => server_file()?,
    };
    load(file.as_deref(), environment()).map_err(|error| Error::Server(error.to_string()))
}

fn environment() -> impl Iterator<Item = (String, String)> {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text)
}

/// A variable of the environment that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// An XDG base directory; the specification says that a relative one is to be ignored.
fn base(name: &str, below_home: &str) -> Result<PathBuf> {
    if let Some(dir) = variable(name).map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        return Ok(dir);
    }
    let home = std::env::home_dir().filter(|home| home.is_absolute()).ok_or_else(|| Error::Usage {
        message: "there is no home directory to keep files in".to_owned(),
        hint: format!("set `HOME` or `{name}`"),
    })?;
    Ok(home.join(below_home))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_settings_are_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vessl/config.toml");
        assert_eq!(Settings::read(&path).unwrap(), Settings::default());
        let settings = Settings { token: Some("t".into()), ..Settings::default() };
        settings.write(&path).unwrap();
        assert_eq!(Settings::read(&path).unwrap(), settings);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!settings.is_exposed(&path));
        assert_eq!(std::fs::read_dir(dir.path().join("vessl")).unwrap().count(), 1);
    }

    #[test]
    fn a_home_that_is_not_this_users_own_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let said = |home: &Path| refuse_home(home, &home.join(".local/share/vessl"));
        assert_eq!(said(dir.path()), None);
        std::fs::create_dir_all(dir.path().join(".local/share/vessl")).unwrap();
        assert_eq!(said(dir.path()), None);
        let missing = dir.path().join("missing");
        let words = format!("`HOME` is `{}`, which does not exist", missing.display());
        assert_eq!(said(&missing), Some(words));
        std::fs::write(&missing, "").unwrap();
        assert!(said(&missing).unwrap().ends_with("which is no directory"));
        if !nix::unistd::geteuid().is_root() {
            assert!(said(Path::new("/")).unwrap().ends_with("is the home directory of another user (0)"));
        }
    }

    #[test]
    fn a_wrong_file_is_named_and_never_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "tokn = \"hunter2\"\n").unwrap();
        let text = Settings::read(&path).unwrap_err().to_string();
        assert!(text.contains("tokn") && !text.contains("hunter2"), "{text}");
    }
}
