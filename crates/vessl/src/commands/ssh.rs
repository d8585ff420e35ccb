//! How the OpenSSH client of this machine comes to runs: options and entries of its settings, and the file of the servers' keys.
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use vessl_core::ids::RunId;
use vessl_core::wire::SshView;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::settings;

/// How runs of one server are reached.
#[derive(Debug)]
pub(crate) struct Destination {
    /// Where the server is reached by SSH.
    pub(crate) at: SshView,
    /// What its key is filed under.
    alias: String,
    known: PathBuf,
    /// Set where only the API is reached: what makes the connection.
    proxy: Option<String>,
}

impl Destination {
    /// Of the server of a client. Its key is written down for OpenSSH, which then asks nobody.
    pub(crate) async fn of(client: &mut Client, session: &Session) -> Result<Self> {
        let about = client.about_server().await?;
        let at = about.ssh.ok_or_else(|| Error::Usage {
            message: "runs of this server are not reached by SSH".to_owned(),
            hint: "`ssh_listen` in its settings is empty; `vessl run shell` needs none".to_owned(),
        })?;
        let alias = format!("vessl-{}", about.instance);
        let known = settings::config_dir()?.join("known_hosts");
        file_key(&known, &alias, &at.host_key)?;
        let own = at.host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        // An address that somebody gave may be the end of a tunnel, even one of this machine.
        let proxy = if own && !client.is_local() { Some(proxy(session)?) } else { None };
        Ok(Self { at, alias, known, proxy })
    }

    /// The options of OpenSSH for a run, by their names.
    pub(crate) fn options(&self, id: RunId, key: Option<&Path>) -> Vec<(&'static str, String)> {
        let mut options = vec![
            ("HostName", self.at.host.clone()),
            ("Port", self.at.port.to_string()),
            ("User", id.0.to_string()),
            ("HostKeyAlias", self.alias.clone()),
            ("UserKnownHostsFile", quoted(&self.known.display().to_string())),
            ("StrictHostKeyChecking", "yes".to_owned()),
        ];
        if let Some(key) = key {
            options.push(("IdentityFile", quoted(&key.display().to_string())));
            options.push(("IdentitiesOnly", "yes".to_owned()));
        }
        if let Some(proxy) = &self.proxy {
            options.push(("ProxyCommand", format!("{proxy} {}", id.0)));
        }
        options
    }
}

/// A value with blanks, as OpenSSH reads it.
fn quoted(text: &str) -> String {
    if text.contains(char::is_whitespace) { format!("\"{text}\"") } else { text.to_owned() }
}

/// This very program with the server that it was told.
fn proxy(session: &Session) -> Result<String> {
    let program = std::env::current_exe().map_err(Error::os("find this program"))?;
    let server = session.settings()?.server.unwrap_or_default();
    let words = [program.display().to_string(), "--server".to_owned(), server];
    // A shell reads it, and OpenSSH its `%`.
    let word = |word: &String| format!("'{}'", word.replace('\'', r"'\''").replace('%', "%%"));
    Ok(format!("{} run ssh-proxy", words.iter().map(word).collect::<Vec<_>>().join(" ")))
}

/// Writes a server's key down, in the place of an older one of the same server.
fn file_key(path: &Path, alias: &str, key: &str) -> Result<()> {
    let line = format!("{alias} {key}");
    let before = std::fs::read_to_string(path).unwrap_or_default();
    if before.lines().any(|known| known == line) {
        return Ok(());
    }
    let others = before.lines().filter(|known| known.split(' ').next() != Some(alias));
    let text: String = others.chain([line.as_str()]).flat_map(|line| [line, "\n"]).collect();
    write(path, &text)
}

/// Replaces a file in one step.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let mut beside = OsString::from(path);
    beside.push(format!(".{}", std::process::id()));
    let written = || {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    written().map_err(Error::os(format!("write `{}`", path.display()))).inspect_err(|_| {
        let _ = std::fs::remove_file(&beside);
    })
}

/// `~/.ssh`.
pub(crate) fn own_dir() -> Result<PathBuf> {
    let home = settings::variable("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = home.ok_or_else(|| Error::Usage {
        message: "there is no home directory".to_owned(),
        hint: "set `HOME`".to_owned(),
    })?;
    Ok(home.join(".ssh"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_server_is_filed_once_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/known_hosts");
        file_key(&path, "vessl-a", "ssh-ed25519 AAAA").unwrap();
        file_key(&path, "vessl-b", "ssh-ed25519 BBBB").unwrap();
        file_key(&path, "vessl-a", "ssh-ed25519 CCCC").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "vessl-b ssh-ed25519 BBBB\nvessl-a ssh-ed25519 CCCC\n");
    }
}
