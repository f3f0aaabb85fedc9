//! Who gets in over HTTP.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::oneshot;

use super::*;
use crate::api::{Addresses, Api, ApiOptions};

fn request(headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::get("/api/v1/namespaces");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

#[tokio::test]
async fn only_who_has_the_token_and_is_no_browser_gets_in() {
    let api = Api::start(ApiOptions::default()).unwrap();
    let bearer = format!("Bearer {}", api.shared.token);
    let check = |headers: &[(&str, &str)]| {
        check(&api.shared, &request(headers)).map_err(|refusal| refusal.code.as_u16())
    };
    let token = ("authorization", bearer.as_str());
    for host in ["127.0.0.1:8001", "localhost", "[::1]:80", "127.9.9.9"] {
        assert_eq!(check(&[("host", host), token]), Ok(()), "{host}");
    }
    for host in ["example.com", "localhost.example.com", "", "192.168.0.1:80", "[2001:db8::1]:80"] {
        assert_eq!(check(&[("host", host), token]), Err(403), "{host}");
    }
    let host = ("host", "127.0.0.1:8001");
    assert_eq!(check(&[host]), Err(401));
    assert_eq!(check(&[host, ("authorization", "Bearer x")]), Err(401));
    assert_eq!(check(&[host, token, ("origin", "http://127.0.0.1:8001")]), Err(403));
    assert_eq!(check(&[host, token, ("sec-fetch-site", "none")]), Err(403));
}

#[tokio::test]
async fn a_client_with_its_kubeconfig_is_served_until_the_end() {
    let api = Api::start(ApiOptions::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = {
        let api = api.clone();
        tokio::spawn(async move { api.serve(listener, async { drop(stopped.await) }).await })
    };
    let addresses = Addresses { api: address, functions: "127.0.0.1:8080".parse().unwrap() };
    let config = Kubeconfig::from_yaml(&api.kubeconfig(addresses, "default")).unwrap();
    let extension = &config.clusters[0].cluster.as_ref().unwrap().extensions.as_ref().unwrap()[0];
    assert_eq!(extension.name, "rouse.dev");
    assert_eq!(extension.extension, serde_json::json!({"address": "http://127.0.0.1:8080"}));
    let options = KubeConfigOptions::default();
    drop(rustls::crypto::ring::default_provider().install_default());
    let config = kube::Config::from_custom_kubeconfig(config, &options).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let namespaces = kube::Api::<Namespace>::all(client.clone());
    assert_eq!(namespaces.list(&ListParams::default()).await.unwrap().items.len(), 1);
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
    assert!(namespaces.list(&ListParams::default()).await.is_err());
}

#[tokio::test]
async fn it_is_served_on_this_machine_only() {
    let api = Api::start(ApiOptions::default()).unwrap();
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let error = api.serve(listener, std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("loopback"), "{error}");
}
