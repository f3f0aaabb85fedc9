//! A handler of AWS Lambda. Requests come as events of an HTTP API (payload 2.0), those of Triggers with
//! `format: Lambda` as what AWS sends.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let event = event.payload;
    if event.get("rawPath").is_none() {
        println!("took an event: {event}");
        return Ok(event);
    }
    Ok(json!({
        "statusCode": 200,
        "headers": {"content-type": "text/plain; charset=utf-8"},
        "body": "Hello from Rust\n",
    }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(handle)).await
}
