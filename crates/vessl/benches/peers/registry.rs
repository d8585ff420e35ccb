//! Debian's registry on a free loopback port.
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Outcome;

/// The registry.
pub(crate) struct Registry {
    process: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
}

impl Registry {
    /// Starts it and waits until it listens.
    pub(crate) fn start(dir: &Path) -> Outcome<Self> {
        std::fs::create_dir_all(dir)?;
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\n",
            dir.join("store").display()
        );
        std::fs::write(dir.join("config.yml"), config)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(dir.join("config.yml")).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn()?;
        let said = BufReader::new(process.stderr.take().ok_or("no pipe")?);
        let mut registry = Self { process, address: String::new() };
        let mut lines = said.lines().map_while(Result::ok);
        let address = lines
            .by_ref()
            .find_map(|line| Some(line.split_once("listening on ")?.1.split(['"', ' ']).next()?.to_owned()));
        registry.address = address.ok_or("the registry ended before it listened")?;
        // It goes on writing, and must be read.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
