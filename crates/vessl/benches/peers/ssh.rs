//! SSH into a run beside OpenSSH's own server on the same machine: a command, and bytes out.
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::table::{Limit, Row};
use crate::timing::{in_turn, output, wall};
use crate::world::World;
use crate::{Bench, Outcome};

/// Prints 256 MiB.
const BULK: &str = "head -c 268435456 /dev/zero";

/// OpenSSH's server, for root with one key.
struct Sshd {
    child: Child,
    port: u16,
}

impl Sshd {
    fn start(dir: &Path, key: &Path) -> Outcome<Self> {
        // Its unprivileged part wants it.
        fs::create_dir_all("/run/sshd")?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let host_key = dir.join("host_key");
        keygen(&host_key)?;
        let good = key.with_extension("pub");
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\nPidFile none\n",
            host_key.display(),
            good.display()
        );
        fs::write(dir.join("sshd_config"), config)?;
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(dir.join("sshd_config"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(dir.join("sshd.log"))?);
        Ok(Self { child: command.spawn()?, port })
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn keygen(path: &Path) -> Outcome<()> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path);
    output(keygen).map(drop)
}

fn ssh(key: &Path, (user, port): (&str, u16), command: &str) -> Command {
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
    ssh.args(["-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i"]).arg(key);
    ssh.args(["-p", &port.to_string(), &format!("{user}@127.0.0.1"), command]);
    ssh
}

pub(crate) fn rows(bench: &Bench<'_>, world: &World, id: &str) -> Outcome<Vec<Row>> {
    let dir: PathBuf = bench.dir.join("ssh");
    fs::create_dir_all(&dir)?;
    let key = dir.join("key");
    keygen(&key)?;
    let public = key.with_extension("pub").display().to_string();
    output(world.command(["ssh-key", "add", "-p", &public]))?;
    let about: Value =
        serde_json::from_slice(&output(world.command(["server", "status", "--output", "json"]))?)?;
    let port = about["ssh"].as_str().and_then(|at| at.rsplit_once(':')?.1.parse().ok());
    let ours = (id, port.ok_or("the server is not reached by SSH")?);
    let sshd = Sshd::start(&dir, &key)?;
    let peer = ("root", sshd.port);
    world.until("sshd does not answer", || wall(ssh(&key, peer, "true")).ok())?;
    let command = in_turn(bench.rounds, || wall(ssh(&key, ours, "true")), || wall(ssh(&key, peer, "true")))?;
    let bulk = in_turn(bench.rounds.min(5), || wall(ssh(&key, ours, BULK)), || wall(ssh(&key, peer, BULK)))?;
    Ok(vec![
        Row {
            what: "`ssh ID@host true`",
            unit: "ms",
            ours: command.0,
            peer: Some(("sshd", command.1)),
            limit: Limit::Ratio(2.0),
        },
        Row {
            what: "256 MiB out through `ssh ID@host`",
            unit: "ms",
            ours: bulk.0,
            peer: Some(("sshd", bulk.1)),
            limit: Limit::Ratio(2.0),
        },
    ])
}
