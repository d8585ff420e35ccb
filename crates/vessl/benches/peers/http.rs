//! A plain HTTP client with kept connections, as any program would use one.
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::Outcome;
use crate::world::World;

/// Where runs are.
pub(crate) const RUNS: &str = "/v1/organizations/default/projects/default/runs";

/// One connection.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    token: String,
}

impl Connection {
    /// Connects to the server of a world; needs a runtime.
    pub(crate) async fn open(world: &World) -> Outcome<Self> {
        let stream = TcpStream::connect(&world.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, host: world.address.clone(), token: format!("Bearer {}", world.token) })
    }

    /// Posts JSON and reads the whole answer as JSON.
    pub(crate) async fn post(&mut self, path: &str, body: Bytes, wanted: StatusCode) -> Outcome<Value> {
        let request = self.request(Method::POST, path).header(header::CONTENT_TYPE, "application/json");
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(Full::new(body))?).await?;
        let status = answer.status();
        let text = answer.into_body().collect().await?.to_bytes();
        if status != wanted {
            return Err(format!("`{path}`: {status} {}", String::from_utf8_lossy(&text)).into());
        }
        Ok(serde_json::from_slice(&text)?)
    }

    /// Gets a log and counts its bytes.
    pub(crate) async fn log(&mut self, path: &str) -> Outcome<usize> {
        let request = self.request(Method::GET, path).header(header::ACCEPT, "application/vnd.vessl.log");
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(Full::default())?).await?;
        if answer.status() != StatusCode::OK {
            return Err(format!("`{path}`: {}", answer.status()).into());
        }
        let (mut body, mut all) = (answer.into_body(), 0);
        while let Some(frame) = body.frame().await {
            all += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(all)
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, &self.token)
    }
}

/// A runtime with one thread for the clients.
pub(crate) fn runtime() -> Outcome<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
