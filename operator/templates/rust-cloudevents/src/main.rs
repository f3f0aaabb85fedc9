//! Takes CloudEvents on $PORT: attributes come as headers, the data as the body. An answer of 2xx says
//! that the event is done; after any other it comes again.

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use tokio::net::TcpListener;

async fn take(attributes: HeaderMap, data: String) -> String {
    let attribute =
        |name| attributes.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
    let (kind, id) = (attribute("ce-type"), attribute("ce-id"));
    println!("took {kind} {id} {data}");
    format!("took {id}\n")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::var("PORT")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, Router::new().fallback(post(take))).await?;
    Ok(())
}
