//! A handler of Lambda as the tests want one: an echo for events, a few answers for requests.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(handle)).await
}

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let event = event.payload;
    if let Some(seconds) = event["sleep"].as_u64() {
        tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
    }
    if let Some(bytes) = event["large"].as_u64().and_then(|bytes| usize::try_from(bytes).ok()) {
        return Ok("x".repeat(bytes - 2).into());
    }
    let Some(path) = event["rawPath"].as_str() else { return Ok(event) };
    match path {
        "/fail" => return Err("on purpose".into()),
        "/print" => println!("printed {}", event["rawQueryString"].as_str().unwrap_or_default()),
        "/wait" => tokio::time::sleep(std::time::Duration::from_millis(300)).await,
        "/binary" => {
            return Ok(json!({
                "statusCode": 200,
                "headers": {"content-type": "image/png"},
                "body": event["body"],
                "isBase64Encoded": event["isBase64Encoded"],
            }));
        }
        _ => {}
    }
    let cookies = event["cookies"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let cookies = cookies.collect::<Vec<_>>().join(",");
    Ok(json!({
        "statusCode": 201,
        "headers": {"content-type": "text/plain"},
        "cookies": ["a=1; Secure", "b=2"],
        "body": format!("hello from rust {cookies}"),
    }))
}
