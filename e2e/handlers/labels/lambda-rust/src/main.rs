//! Draws labels, and counts by a cookie how many a customer has asked for.

mod labels;

use cookie::Cookie;
use lambda_http::http::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use lambda_http::{Body, Error, Request, RequestExt, Response, run, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(answer)).await
}

async fn answer(request: Request) -> Result<Response<Body>, Error> {
    if request.uri().path() == "/echo" {
        let mut echo = Response::builder();
        if let Some(kind) = request.headers().get(CONTENT_TYPE) {
            echo = echo.header(CONTENT_TYPE, kind);
        }
        return Ok(echo.body(request.into_body())?);
    }
    let seen = seen(&request) + 1;
    let parameters = request.query_string_parameters();
    let text = parameters.first("text").unwrap_or("nothing");
    println!("label {seen} for {text}");
    let picture = labels::picture(text)?;
    Ok(Response::builder()
        .header(CONTENT_TYPE, "image/png")
        .header(SET_COOKIE, format!("seen={seen}; Path=/"))
        .header(SET_COOKIE, "shop=rouse")
        .body(picture.into())?)
}

/// How many labels a customer has seen, as a cookie says.
fn seen(request: &Request) -> u32 {
    let cookies = request.headers().get_all(COOKIE).iter().filter_map(|it| it.to_str().ok());
    let mut cookies = cookies.flat_map(Cookie::split_parse).flatten();
    cookies
        .find(|cookie| cookie.name() == "seen")
        .and_then(|cookie| cookie.value().parse().ok())
        .unwrap_or(0)
}
