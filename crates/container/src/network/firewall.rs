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

/// Our chain for what leaves the machine.
const MASQUERADE: &str = "VESSL-POSTROUTING";

/// Chains of ours, the table in which each is, and what leads there.
const CHAINS: [(&str, &str, &str); 3] = [
    ("filter", "VESSL-FORWARD", "FORWARD"),
    ("filter", "VESSL-INPUT", "INPUT"),
    ("nat", MASQUERADE, "POSTROUTING"),
];

/// Writes the rules.
pub(super) fn write(pool: Pool, reach: Reach) -> io::Result<()> {
    match (find("iptables"), find("iptables-restore"), find("nft")) {
        (Some(iptables), Some(restore), _) => {
            run(Command::new(restore).args(["-w", "5", "--noflush"]), &for_iptables(reach))?;
            let ask = |table: &str, words: &[&str]| {
                let mut command = Command::new(&iptables);
                command.args(["-w", "5", "-t", table]).args(words);
                run(&mut command, "")
            };
            // Not emptied like the others: another server may have another pool.
            let masquerade = masquerade(pool);
            let masquerade: Vec<&str> = masquerade.split(' ').collect();
            let _ = ask("nat", &["-N", MASQUERADE]);
            if ask("nat", &[&["-C"], &masquerade[..]].concat()).is_err() {
                ask("nat", &[&["-A"], &masquerade[..]].concat())?;
            }
            for (table, chain, from) in CHAINS {
                if ask(table, &["-C", from, "-j", chain]).is_err() {
                    ask(table, &["-I", from, "-j", chain])?;
                }
            }
            Ok(())
        }
        (_, _, Some(nft)) => run(Command::new(nft).args(["-f", "-"]), &for_nft(pool, reach)),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "neither `iptables` nor `nft` is installed")),
    }
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

/// For `iptables-restore --noflush`, which puts all of it in place at once.
fn for_iptables(reach: Reach) -> String {
    let ours = format!("{PREFIX}+");
    let mut forward = Vec::new();
    let mut input = vec![format!("-i {ours} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")];
    match reach {
        Reach::Beyond => {
            forward.push(format!("-i {ours} -o {ours} -j DROP"));
            forward.push(format!("-i {ours} -d {LINK_LOCAL} -j DROP"));
            // The machine may be the one that resolves names.
            input.push(format!("-i {ours} -p udp --dport 53 -j ACCEPT"));
            input.push(format!("-i {ours} -p tcp --dport 53 -j ACCEPT"));
            input.push(format!("-i {ours} -j DROP"));
        }
        Reach::Everything => input.push(format!("-i {ours} -j ACCEPT")),
    }
    forward.push(format!("-i {ours} -j ACCEPT"));
    forward.push(format!("-o {ours} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
    forward.push(format!("-o {ours} -j DROP"));
    let chain = |name: &str, rules: &[String]| {
        rules.iter().fold(String::new(), |text, rule| text + &format!("-A {name} {rule}\n"))
    };
    format!(
        "*filter\n:VESSL-FORWARD - [0:0]\n:VESSL-INPUT - [0:0]\n{}{}COMMIT\n",
        chain("VESSL-FORWARD", &forward),
        chain("VESSL-INPUT", &input),
    )
}

/// The rule that gives what leaves a pool the machine's address.
fn masquerade(pool: Pool) -> String {
    format!("{MASQUERADE} -s {pool} ! -o {PREFIX}+ -j MASQUERADE")
}

/// For `nft -f`, which puts all of it in place at once.
fn for_nft(pool: Pool, reach: Reach) -> String {
    let ours = format!("\"{PREFIX}*\"");
    // Another server may have another pool.
    let nat = format!("vessl_{:08x}", u32::from(pool.gateway()));
    let (forward, input) = match reach {
        Reach::Beyond => (
            format!(
                "iifname {ours} oifname {ours} drop\n    iifname {ours} ip daddr {LINK_LOCAL} drop\n    "
            ),
            format!("iifname {ours} meta l4proto {{ tcp, udp }} th dport 53 accept\n    iifname {ours} drop"),
        ),
        Reach::Everything => (String::new(), format!("iifname {ours} accept")),
    };
    format!(
        "add table inet vessl\ndelete table inet vessl\ntable inet vessl {{
  chain forward {{
    type filter hook forward priority filter - 5
    {forward}iifname {ours} accept
    oifname {ours} ct state established,related accept
    oifname {ours} drop
  }}
  chain input {{
    type filter hook input priority filter - 5
    iifname {ours} ct state established,related accept
    {input}
  }}
}}
add table ip {nat}\ndelete table ip {nat}\ntable ip {nat} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat
    ip saddr {pool} oifname != {ours} masquerade
  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_closed_unless_it_is_opened() {
        let pool = "10.246.0.0/16".parse().unwrap();
        for text in [for_iptables(Reach::Beyond), for_nft(pool, Reach::Beyond)] {
            assert!(text.contains("169.254.0.0/16"), "{text}");
            assert_eq!(text.to_lowercase().matches("drop").count(), 4, "{text}");
        }
        assert!(for_nft(pool, Reach::Beyond).contains("ip saddr 10.246.0.0/16 "));
        assert_eq!(masquerade(pool), "VESSL-POSTROUTING -s 10.246.0.0/16 ! -o vsl+ -j MASQUERADE");
        for text in [for_iptables(Reach::Everything), for_nft(pool, Reach::Everything)] {
            assert_eq!(text.to_lowercase().matches("drop").count(), 1, "{text}");
        }
    }
}
