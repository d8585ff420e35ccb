//! Ports of the machine that lead to `tcp` ports of runs: one each while the run runs.
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use vessl_reach::door::Dialed;

use super::forward::both_ways;
use super::{BREATH, prepare};
use crate::control::{Control, PortOf};

/// Most connections at the same time, of all `tcp` ports together.
const CONNECTIONS: usize = 2048;

/// Listens for what is offered, until the server stops.
pub(super) async fn keep(control: Control, ip: IpAddr, range: RangeInclusive<u16>) {
    let (mut offered, stopping) = (control.tcp_ports(), control.stopping());
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open: HashMap<PortOf, AbortHandle> = HashMap::new();
    loop {
        let wanted: Vec<PortOf> = {
            let offered = offered.borrow_and_update();
            let ports =
                offered.iter().map(|(run, ports)| ports.iter().map(|port| PortOf { run: *run, port: *port }));
            ports.flatten().collect()
        };
        open.retain(|of, listening| {
            let stays = wanted.contains(of);
            if !stays {
                listening.abort();
                control.tcp_port_is_at(*of, None);
            }
            stays
        });
        for of in wanted {
            if open.contains_key(&of) {
                continue;
            }
            match listen(of, ip, &range).await {
                Ok((listener, at)) => {
                    let accepting = accept(control.clone(), listener, of, Arc::clone(&room));
                    open.insert(of, tokio::spawn(accepting).abort_handle());
                    control.tcp_port_is_at(of, Some(at));
                }
                Err(error) => {
                    let (run, port) = (of.run.0, of.port);
                    tracing::warn!(run, port, %error, "no port of `tcp_ports` is free for this one");
                }
            }
        }
        tokio::select! {
            changed = offered.changed() => if changed.is_err() { return },
            () = stopping.cancelled() => break,
        }
    }
    for (_, listening) in open {
        listening.abort();
    }
}

/// Listens at a port of the range, at the same one each time if that is free.
async fn listen(
    of: PortOf,
    ip: IpAddr,
    range: &RangeInclusive<u16>,
) -> io::Result<(TcpListener, SocketAddr)> {
    let count = u64::from(range.end() - range.start()) + 1;
    let first = of.run.0.wrapping_mul(31).wrapping_add(u64::from(of.port)) % count;
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for nth in 0..count {
        let offset = u16::try_from((first + nth) % count).unwrap_or_default();
        match TcpListener::bind((ip, range.start() + offset)).await {
            Ok(listener) => {
                let at = listener.local_addr()?;
                return Ok((listener, at));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn accept(control: Control, listener: TcpListener, of: PortOf, room: Arc<Semaphore>) {
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                prepare(&stream);
                let control = control.clone();
                tokio::spawn(async move {
                    connect(&control, stream, of).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to a port of a run could not be taken");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

/// Leads a connection to the program; without one it is closed, as it is where nobody listens.
async fn connect(control: &Control, stream: TcpStream, of: PortOf) {
    let stopping: CancellationToken = control.stopping();
    let Ok(way) = control.way_to_tcp_port(of).await else { return };
    match way.dial().await {
        Ok(Dialed::Tcp(inside)) => both_ways(stream, inside, &stopping).await,
        Ok(Dialed::Unix(inside)) => both_ways(stream, inside, &stopping).await,
        Err(why) => tracing::debug!(run = of.run.0, port = of.port, ?why, "a connection leads nowhere"),
    }
}
