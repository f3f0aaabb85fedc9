//! Listens on $PORT.

use axum::Router;
use axum::body::Bytes;
use axum::routing::get;
use tokio::net::TcpListener;

async fn hello() -> &'static str {
    "Hello from Rust\n"
}

async fn echo(body: Bytes) -> Bytes {
    body
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::var("PORT")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, Router::new().fallback(get(hello).post(echo))).await?;
    Ok(())
}
