//! `vessl run port-forward`.
use std::net::{IpAddr, Ipv4Addr};

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use tokio::net::{TcpListener, TcpStream};
use vessl_core::ids::RunId;

use super::super::several::{RunName, find, run_name};
use crate::client::Client;
use crate::commands::completion;
use crate::error::{Error, Kind, Result};
use crate::exit::{self, Exit};
use crate::output::{Format, Out};
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "Listens on this machine until Ctrl-C, or until the run has ended; every connection goes to the port of the run's own loopback address. \
Without LOCAL it is the same number here, or a free one if that is taken; 0 takes a free one.

Examples:
  vessl run port-forward 100000000001 8888
  vessl run port-forward my-run 18501:8501 6006
  vessl run port-forward my-run 0:5432 --address 0.0.0.0"
)]
pub(crate) struct PortForward {
    /// Id or name of the run
    #[arg(value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    run: RunName,
    /// Ports: the run's, or this machine's and the run's
    #[arg(required = true, value_name = "[LOCAL:]REMOTE", value_parser = ports)]
    ports: Vec<Ports>,
    /// Address of this machine to listen at; others than a loopback one let everybody in who can reach it
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
}

/// A port here, if it was named, and one in the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ports {
    local: Option<u16>,
    remote: u16,
}

fn ports(text: &str) -> Result<Ports, String> {
    let wrong = || format!("`{text}` is not `REMOTE` or `LOCAL:REMOTE` with ports from 1 to 65535");
    let (local, remote) = match text.split_once(':') {
        Some((local, remote)) => (Some(local.parse().map_err(|_| wrong())?), remote),
        None => (None, text),
    };
    let remote = remote.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    Ok(Ports { local, remote })
}

/// Forwards until Ctrl-C.
pub(crate) async fn perform(args: &PortForward, session: &Session) -> Result<Exit> {
    let (mut client, out) = (session.client().await?, &session.out);
    let id = find(&mut client, &args.run).await?;
    let mut forwarding = tokio::task::JoinSet::new();
    for ports in &args.ports {
        let listener = listen(args.address, *ports).await?;
        let local = listener.local_addr().map_err(Error::os("listen"))?;
        match out.format() {
            Format::Table => out.text(&format!("{local} -> port {} of run {}\n", ports.remote, id.0))?,
            _ => out.data_line(&serde_json::json!({ "local": local, "port": ports.remote, "run": id }))?,
        }
        forwarding.spawn(accept(listener, client.another(), (id, ports.remote), out.clone()));
    }
    tokio::select! {
        ended = forwarding.join_next() => match ended {
            Some(Ok(Err(error))) => Err(error),
            _ => Ok(exit::OK),
        },
        pressed = tokio::signal::ctrl_c() => {
            pressed.map_err(Error::os("wait for Ctrl-C"))?;
            Ok(exit::OK)
        }
    }
}

async fn listen(address: IpAddr, ports: Ports) -> Result<TcpListener> {
    let wanted = ports.local.unwrap_or(ports.remote);
    match TcpListener::bind((address, wanted)).await {
        Err(_) if ports.local.is_none() => TcpListener::bind((address, 0)).await.map_err(Error::os("listen")),
        Err(error) => Err(Error::os(&format!("listen at {address} port {wanted}"))(error)),
        Ok(listener) => Ok(listener),
    }
}

/// Takes connections until the run cannot be reached any more.
async fn accept(listener: TcpListener, client: Client, to: (RunId, u16), out: Out) -> Result<()> {
    let (over, mut ended) = tokio::sync::mpsc::channel(1);
    loop {
        let taken = tokio::select! {
            taken = listener.accept() => taken,
            Some(error) = ended.recv() => return Err(error),
        };
        let (stream, _) = taken.map_err(Error::os("take a connection"))?;
        let (client, out, over) = (client.another(), out.clone(), over.clone());
        tokio::spawn(async move {
            if let Err(error) = forward(stream, client, to).await {
                out.error(&error);
                if is_over(&error) {
                    let _ = over.send(error).await;
                }
            }
        });
    }
}

/// Whether no other connection will come through either.
fn is_over(error: &Error) -> bool {
    error.kind() == Kind::Refused && error.to_string().contains("has ended")
}

async fn forward(mut stream: TcpStream, mut client: Client, (id, port): (RunId, u16)) -> Result<()> {
    // Small answers shall not wait for more.
    let _ = stream.set_nodelay(true);
    let mut way = client.dial(id, port).await?;
    // Who hangs up in the middle is nothing to report.
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut way).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_one_or_two_numbers() {
        assert_eq!(ports("8501"), Ok(Ports { local: None, remote: 8501 }));
        assert_eq!(ports("1:2"), Ok(Ports { local: Some(1), remote: 2 }));
        assert_eq!(ports("0:2"), Ok(Ports { local: Some(0), remote: 2 }));
        for wrong in ["", "0", "a", "1:", ":1", "1:0", "65536", "1:2:3", "-1"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
    }
}
