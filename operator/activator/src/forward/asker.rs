//! Asking other activators for what is no request of a client, over connections of HTTP/2 of their
//! own. Answers are lines of JSON.

use std::path::PathBuf;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use h2::SendStream;
use h2::client::ResponseFuture;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use rouse_core::membership::Member;
use rouse_peer::ConnectError;
use serde::de::DeserializeOwned;

use super::Refused;
use super::link::{Links, PeerDialer};
use super::token::TokenFile;
use crate::body::PeerBody;
use crate::headers;
use crate::ndjson::decode;

/// Asks other activators.
#[derive(Debug)]
pub(super) struct Asker {
    dialer: PeerDialer,
    token: TokenFile,
    links: Links,
}

impl Asker {
    pub fn new(token_file: PathBuf, dialer: PeerDialer) -> Self {
        Self { dialer, token: TokenFile::new(token_file), links: Links::default() }
    }

    /// Begins a POST to `path` of `member`; the body is to be sent.
    pub async fn post(
        &self,
        member: &Member,
        path: &str,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Refused> {
        let token = self.token.read().map_err(Refused::Token)?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{path}", member.peer))
            .header(headers::PEER_TOKEN, token)
            .body(())
            .map_err(|_| ConnectError::Address(member.peer.clone()))?;
        let mut sender = self.links.to(member).sender(member, &self.dialer, || ()).await?;
        Ok(sender.send_request(request, false)?)
    }

    /// The lines of an answer. None where the other side lives and does not take the question: it
    /// may be the token that it does not know.
    pub async fn lines<T: DeserializeOwned + Send + 'static>(
        &self,
        response: ResponseFuture,
    ) -> Result<Option<BoxStream<'static, T>>, Refused> {
        let response = response.await?;
        if response.status() != StatusCode::OK {
            self.token.forget();
            return Ok(None);
        }
        Ok(Some(decode(PeerBody::new(response.into_body()).into_data_stream()).boxed()))
    }
}
