//! `vessl run ssh-proxy`, which OpenSSH starts where only the API is reached: bytes as they are.
use bytes::BytesMut;
use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::several::{RunName, find, run_name};
use super::session::{InputFrom, input, lost};
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::session::Session;

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// Arguments.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  ssh -o ProxyCommand='vessl run ssh-proxy %r' 100000000001@any")]
pub(crate) struct SshProxy {
    /// Id or name of the run
    #[arg(value_parser = run_name, value_name = "ID")]
    run: RunName,
}

/// Passes bytes on until the server ends the connection.
pub(crate) async fn perform(args: &SshProxy, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    let id = find(&mut client, &args.run).await?;
    let (mut from, mut to) = tokio::io::split(client.ssh(id).await?);
    let mut pieces = input(InputFrom::Stdin);
    let outwards = async {
        while let Some(piece) = pieces.recv().await {
            if to.write_all(&piece).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
        std::future::pending().await
    };
    let inwards = async {
        let mut bytes = BytesMut::with_capacity(PIECE);
        loop {
            bytes.reserve(PIECE);
            if from.read_buf(&mut bytes).await.map_err(|error| lost(&error))? == 0 {
                return Ok(exit::OK);
            }
            session.out.raw(&bytes.split())?;
        }
    };
    tokio::select! {
        ended = inwards => ended,
        never = outwards => never,
    }
}
