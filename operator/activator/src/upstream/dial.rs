//! Making connections: over TCP, or whatever a test puts in its place.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection.
pub type Stream = Box<dyn Io>;

/// What a connection can do.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

type Dial = dyn Fn(SocketAddr) -> BoxFuture<'static, io::Result<Stream>> + Send + Sync;

/// Makes connections.
#[derive(Clone)]
pub struct Dialer(Arc<Dial>);

impl Dialer {
    /// Makes connections over TCP.
    pub fn tcp() -> Self {
        Self::new(|address| {
            async move {
                let stream = TcpStream::connect(address).await?;
                // Requests are small and waited for.
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as Stream)
            }
            .boxed()
        })
    }

    /// Makes connections by `dial`.
    pub fn new(
        dial: impl Fn(SocketAddr) -> BoxFuture<'static, io::Result<Stream>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(dial))
    }

    pub(crate) async fn dial(&self, address: SocketAddr) -> io::Result<Stream> {
        (self.0)(address).await
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialer")
    }
}
