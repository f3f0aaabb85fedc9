//! What the activator counts of Functions, as it shows it to everybody who asks: requests, and those
//! that are not answered yet.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Uri;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use rouse_peer::plain_client;

/// Names of the two families.
const REQUESTS: &str = "rouse_requests_total";
const IN_FLIGHT: &str = "rouse_requests_in_flight";
/// Bytes of all that is shown.
const MOST: usize = 16 << 20;

/// What is counted of one Function.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Requests that came for it.
    pub requests: f64,
    /// Those that are not answered to their end.
    pub in_flight: f64,
}

/// What is counted, by namespace and name.
pub type All = HashMap<(String, String), Counts>;

/// Asks for the counts.
pub struct Figures {
    client: Client<HttpConnector, Empty<Bytes>>,
    uri: Uri,
}

impl Figures {
    /// Those that are shown at `address`.
    pub fn at(address: SocketAddr) -> anyhow::Result<Self> {
        let uri = format!("http://{address}/metrics").parse().context("naming a port")?;
        Ok(Self { client: plain_client(Duration::from_secs(1)), uri })
    }

    /// The counts of now.
    pub async fn fetch(&self) -> anyhow::Result<All> {
        let answer = self.client.get(self.uri.clone()).await?;
        let body = Limited::new(answer.into_body(), MOST).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("reading the counts: {error}"))?;
        Ok(read(&String::from_utf8_lossy(&body.to_bytes())))
    }
}

fn read(text: &str) -> All {
    let mut all = All::new();
    for line in text.lines() {
        let Some((family, rest)) = line.split_once('{') else { continue };
        let Some((labels, value)) = rest.split_once("} ") else { continue };
        let of = (label(labels, "namespace"), label(labels, "function"));
        let (Some(namespace), Some(function)) = of else { continue };
        let Some(value) = value.split(' ').next().and_then(|value| value.parse::<f64>().ok())
        else {
            continue;
        };
        let counts = all.entry((namespace, function)).or_default();
        match family {
            REQUESTS => counts.requests += value,
            IN_FLIGHT => counts.in_flight += value,
            _ => {}
        }
    }
    all
}

fn label(labels: &str, name: &str) -> Option<String> {
    let (_, rest) = labels.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_added_up_by_function() {
        let text = "# HELP rouse_requests x\n\
                    rouse_requests_total{namespace=\"shop\",function=\"a\",class=\"2xx\"} 3\n\
                    rouse_requests_total{namespace=\"shop\",function=\"a\",class=\"5xx\"} 1 # {} 7\n\
                    rouse_requests_in_flight{namespace=\"shop\",function=\"a\"} 2\n\
                    rouse_other 1\n";
        let all = read(text);
        let counts = all[&("shop".to_owned(), "a".to_owned())];
        assert_eq!(counts, Counts { requests: 4.0, in_flight: 2.0 });
    }
}
