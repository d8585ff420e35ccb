//! The rules of the whole pool, in chains of our own. They do not depend on runs: written once, again at every start of a server.
//!
//! With `iptables`, in whichever form the machine has it, because what else forwards there (Docker) has its rules in the same tables,
//! and ours come before them. Where there is only `nft`, in a table of our own.
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use vessl_core::network::{Pool, Reach};

use super::PREFIX;

/// Where programs of the system are, whatever `PATH` says.
const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// Every address that is only of this link: the metadata services of clouds among them.
const LINK_LOCAL: &str = "169.254.0.0/16";

/// Our chains for a pool: the table in which each is, its name, and what leads there.
fn chains(pool: Pool) -> [(&'static str, String, &'static str); 3] {
    let pool = u32::from(pool.gateway()) - 1;
    [
        ("filter", format!("VESSL-FORWARD-{pool:08x}"), "FORWARD"),
        ("filter", format!("VESSL-INPUT-{pool:08x}"), "INPUT"),
        ("nat", format!("VESSL-NAT-{pool:08x}"), "POSTROUTING"),
    ]
}

/// Writes the rules of a pool; those of another one, of another server perhaps, stay.
pub(super) fn write(pool: Pool, reach: Reach) -> io::Result<()> {
    match (find("iptables"), find("iptables-restore"), find("nft")) {
        (Some(iptables), Some(restore), _) => {
            run(Command::new(restore).args(["-w", "5", "--noflush"]), &for_iptables(pool, reach))?;
            for (table, chain, from) in chains(pool) {
                let jump = |verb: &str| {
                    let mut command = Command::new(&iptables);
                    command.args(["-w", "5", "-t", table, verb, from, "-j", &chain]);
                    run(&mut command, "")
                };
                if jump("-C").is_err() {
                    jump("-I")?;
                }
            }
            Ok(())
        }
        (_, _, Some(nft)) => run(Command::new(nft).args(["-f", "-"]), &for_nft(pool, reach)),
        _ => Err(nothing()),
    }
}

/// Whether there is a program that writes rules.
pub(super) fn look() -> io::Result<()> {
    let iptables = find("iptables").and(find("iptables-restore"));
    iptables.or_else(|| find("nft")).map(drop).ok_or_else(nothing)
}

fn nothing() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "neither `iptables` nor `nft` is installed")
}

fn find(name: &str) -> Option<std::path::PathBuf> {
    PLACES.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists())
}

fn run(command: &mut Command, input: &str) -> io::Result<()> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read says why by its end.
        let _ = stdin.write_all(input.as_bytes());
    }
    let done = child.wait_with_output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ");
    Err(io::Error::other(format!("`{}`: {said}", command.get_program().display())))
}

/// For `iptables-restore --noflush`, which puts all of a table in place at once.
fn for_iptables(pool: Pool, reach: Reach) -> String {
    let (from, to) = (format!("-i {PREFIX}+ -s {pool}"), format!("-o {PREFIX}+ -d {pool}"));
    let mut forward = Vec::new();
    let mut input = vec![format!("{from} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")];
    match reach {
        Reach::Beyond => {
            forward.push(format!("{from} -o {PREFIX}+ -j DROP"));
            forward.push(format!("{from} -d {LINK_LOCAL} -j DROP"));
            // The machine may be the one that resolves names.
            input.push(format!("{from} -p udp --dport 53 -j ACCEPT"));
            input.push(format!("{from} -p tcp --dport 53 -j ACCEPT"));
            input.push(format!("{from} -j DROP"));
        }
        Reach::Everything => input.push(format!("{from} -j ACCEPT")),
    }
    forward.push(format!("{from} -j ACCEPT"));
    forward.push(format!("{to} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
    forward.push(format!("{to} -j DROP"));
    let masquerade = format!("-s {pool} ! -o {PREFIX}+ -j MASQUERADE");
    let [(_, f, _), (_, i, _), (_, n, _)] = chains(pool);
    let rules = |chain: &str, rules: &[String]| {
        rules.iter().fold(String::new(), |text, rule| text + &format!("-A {chain} {rule}\n"))
    };
    format!(
        "*filter\n:{f} - [0:0]\n:{i} - [0:0]\n{}{}COMMIT\n*nat\n:{n} - [0:0]\n{}COMMIT\n",
        rules(&f, &forward),
        rules(&i, &input),
        rules(&n, &[masquerade]),
    )
}

/// For `nft -f`, which puts all of it in place at once.
fn for_nft(pool: Pool, reach: Reach) -> String {
    let table = format!("vessl_{:08x}", u32::from(pool.gateway()) - 1);
    let (from, to) =
        (format!("iifname \"{PREFIX}*\" ip saddr {pool}"), format!("oifname \"{PREFIX}*\" ip daddr {pool}"));
    let (forward, input) = match reach {
        Reach::Beyond => (
            format!("{from} oifname \"{PREFIX}*\" drop\n    {from} ip daddr {LINK_LOCAL} drop\n    "),
            format!("{from} meta l4proto {{ tcp, udp }} th dport 53 accept\n    {from} drop"),
        ),
        Reach::Everything => (String::new(), format!("{from} accept")),
    };
    format!(
        "add table ip {table}\ndelete table ip {table}\ntable ip {table} {{
  chain forward {{
    type filter hook forward priority filter - 5
    {forward}{from} accept
    {to} ct state established,related accept
    {to} drop
  }}
  chain input {{
    type filter hook input priority filter - 5
    {from} ct state established,related accept
    {input}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat
    ip saddr {pool} oifname != \"{PREFIX}*\" masquerade
  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_closed_unless_it_is_opened_and_every_rule_is_of_the_pool() {
        let pool: Pool = "10.246.0.0/16".parse().unwrap();
        for (reach, drops) in [(Reach::Beyond, 4), (Reach::Everything, 1)] {
            for text in [for_iptables(pool, reach), for_nft(pool, reach)] {
                assert_eq!(text.to_lowercase().matches("drop").count(), drops, "{text}");
                assert_eq!(text.contains("169.254.0.0/16"), reach == Reach::Beyond, "{text}");
                let rules = text.lines().filter(|line| {
                    ["accept", "drop", "masquerade"].iter().any(|end| line.to_lowercase().ends_with(end))
                });
                assert!(rules.clone().count() >= 6, "{text}");
                rules.for_each(|rule| assert!(rule.contains("10.246.0.0/16"), "{rule}"));
            }
        }
        assert!(chains(pool).iter().all(|(_, name, _)| name.len() < 29 && name.ends_with("0af60000")));
    }
}
