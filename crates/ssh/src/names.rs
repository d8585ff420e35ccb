//! Words of the protocol as the system says them: signals, hosts.
use std::net::IpAddr;

use russh::Sig;
use rustix::process::Signal;
use vessl_core::door::Target;

/// The number of a signal; nothing for one that the system does not know.
pub(crate) fn signal(name: &Sig) -> Option<i32> {
    let signal = match name {
        Sig::ABRT => Signal::ABORT,
        Sig::ALRM => Signal::ALARM,
        Sig::FPE => Signal::FPE,
        Sig::HUP => Signal::HUP,
        Sig::ILL => Signal::ILL,
        Sig::INT => Signal::INT,
        Sig::KILL => Signal::KILL,
        Sig::PIPE => Signal::PIPE,
        Sig::QUIT => Signal::QUIT,
        Sig::SEGV => Signal::SEGV,
        Sig::TERM => Signal::TERM,
        Sig::USR1 => Signal::USR1,
        Sig::Custom(name) => match name.as_str() {
            "USR2" => Signal::USR2,
            "WINCH" => Signal::WINCH,
            "CONT" => Signal::CONT,
            "STOP" => Signal::STOP,
            "TSTP" => Signal::TSTP,
            _ => return None,
        },
    };
    Some(signal.as_raw())
}

/// Where a connection goes that somebody asks for; `None` for a name that must be looked up.
pub(crate) fn dialled(host: &str, port: u16) -> Option<Target> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.eq_ignore_ascii_case("localhost") {
        return Some(Target::Port(port));
    }
    host.parse().ok().map(|address: IpAddr| Target::Address((address, port).into()))
}

/// Where to listen for somebody. Whoever asks for every address gets the loopback one, as with `GatewayPorts no`.
pub(crate) fn listened(host: &str, port: u16) -> Target {
    match host.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() => Target::Address((address, port).into()),
        _ => Target::Port(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_numbers_of_the_system() {
        assert_eq!(signal(&Sig::INT), Some(2));
        assert_eq!(signal(&Sig::KILL), Some(9));
        assert_eq!(signal(&Sig::Custom("USR2".to_owned())), Some(12));
        assert_eq!(signal(&Sig::Custom("info@openssh.com".to_owned())), None);
    }

    #[test]
    fn hosts_are_loopback_addresses_or_names() {
        let address = |text: &str| Some(Target::Address(text.parse().unwrap()));
        assert_eq!(dialled("localhost", 80), Some(Target::Port(80)));
        assert_eq!(dialled("127.0.0.1", 80), address("127.0.0.1:80"));
        assert_eq!(dialled("::1", 80), address("[::1]:80"));
        assert_eq!(dialled("[::1]", 80), address("[::1]:80"));
        assert_eq!(dialled("example.com", 80), None);
        for all in ["", "*", "0.0.0.0", "::", "localhost"] {
            assert_eq!(listened(all, 5), Target::Port(5), "{all}");
        }
        assert_eq!(Some(listened("127.0.0.2", 5)), address("127.0.0.2:5"));
    }
}
