//! The WebSocket of the sample Function. What a frame is, a library knows.

use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::interval;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::{Body, InFlight, held, never};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Agrees to change the protocol, if that is asked for. The connection counts as in flight.
pub fn accept(
    mut request: Request<Incoming>,
    every: Option<Duration>,
    guard: InFlight,
) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::new()));
    let key = request.headers().get(SEC_WEBSOCKET_KEY);
    let accepted =
        key.and_then(|key| HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok());
    let Some(accepted) = accepted else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response.map(|body| held(body.map_err(never), guard));
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _guard = guard;
        let Ok(io) = upgrade.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, None).await;
        if let Err(error) = talk(socket, every).await {
            eprintln!("websocket: {error}");
        }
    });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    response.map(|body| body.map_err(never).boxed())
}

/// Until the other side has closed; the library answers pings, and the last word.
async fn talk(mut socket: Socket, every: Option<Duration>) -> Result<(), Error> {
    let mut ticks = every.map(interval);
    let mut count = 0;
    loop {
        let tick = async {
            match &mut ticks {
                Some(ticks) => drop(ticks.tick().await),
                None => pending().await,
            }
        };
        tokio::select! {
            heard = socket.next() => match heard.transpose()? {
                Some(message @ (Message::Text(_) | Message::Binary(_))) => {
                    socket.send(message).await?;
                }
                Some(_) => {}
                None => return Ok(()),
            },
            () = tick => {
                count += 1;
                socket.send(Message::text(format!("count {count}"))).await?;
            }
        }
    }
}
