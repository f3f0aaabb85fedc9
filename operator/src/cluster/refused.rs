//! What an API server's refusals mean for the user, and what to do about each.

use kube::client::{AuthError, UpgradeConnectionError};
use kube::core::Status;

use super::{Cluster, DEV};
use crate::exit::Failure;

/// How Rouse comes into a cluster.
const INSTALL: &str = "install it by `helm install rouse charts/rouse --namespace rouse-system \
    --create-namespace` or `kubectl apply -f manifests/install.yaml`";
/// The right to read.
pub const VIEW: &str = "the role `view` there";

impl Cluster {
    /// What an answer of the API server means for who may read the namespace.
    pub fn refused(&self, error: kube::Error, doing: &str) -> anyhow::Error {
        self.refused_in(error, doing, &self.place(false), VIEW)
    }

    /// What an answer of the API server means for who wanted to do something somewhere, which takes
    /// that `right`.
    pub fn refused_in(
        &self,
        error: kube::Error,
        doing: &str,
        place: &str,
        right: &str,
    ) -> anyhow::Error {
        let (server, read) = (&self.server, &self.read);
        if let Some(why) = login(&error) {
            return not_logged_in(&why, read).into();
        }
        match code_of(&error) {
            Some(401) => Failure::Forbidden(format!(
                "the API server at {server} does not know you ({read}): log in again"
            )),
            Some(403) => {
                Failure::Forbidden(format!("you may not {doing} in {place}: ask for {right}"))
            }
            Some(404) => self.not_found(&error),
            None if is_unreached(&error) => Failure::NoCluster(format!(
                "the API server at {server} is not reached ({read}): {}. Start the cluster, or \
                 choose another by --context or KUBECONFIG; {DEV}",
                innermost(&error)
            )),
            _ => return anyhow::Error::new(error).context("asking the API server"),
        }
        .into()
    }

    /// What is not there: an object, its namespace, or Rouse.
    fn not_found(&self, error: &kube::Error) -> Failure {
        let (server, read) = (&self.server, &self.read);
        match error {
            kube::Error::Api(status) if is_of_object(status) => {
                let details = status.details.as_ref();
                match details.filter(|it| it.kind == "namespaces").map(|it| &it.name) {
                    Some(name) => Failure::Missing(format!(
                        "there is no namespace {name} ({read}): make it by `kubectl create \
                         namespace {name}`, or choose another with -n"
                    )),
                    None => Failure::Missing(format!("the API server says: {}", status.message)),
                }
            }
            kube::Error::Api(_) => Failure::NoCluster(format!(
                "the cluster at {server} ({read}) knows nothing of rouse.dev: {INSTALL}, or choose \
                 another cluster by --context; {DEV}"
            )),
            _ => Failure::Missing("what was asked has gone meanwhile: try again".to_owned()),
        }
    }
}

/// Why there is no client for a cluster that was read.
pub fn no_client(error: kube::Error, server: &str, read: &str) -> anyhow::Error {
    if let Some(why) = login(&error) {
        return not_logged_in(&why, read).into();
    }
    let (kube::Error::ProxyProtocolDisabled { proxy_url, .. }
    | kube::Error::ProxyProtocolUnsupported { proxy_url }) = &error
    else {
        return anyhow::Error::new(error).context("making a client");
    };
    Failure::NoCluster(format!(
        "the API server at {server} ({read}) is to be asked through the proxy {proxy_url}, and rouse \
         speaks through none: name its host in NO_PROXY if it is reached without, or run `kubectl proxy` \
         and name that as the server"
    ))
    .into()
}

fn not_logged_in(why: &str, read: &str) -> Failure {
    Failure::Forbidden(format!(
        "logging in by the kubeconfig failed ({read}): {why}: does `kubectl get ns` work?"
    ))
}

/// Why somebody could not log in, if that is it.
fn login(error: &kube::Error) -> Option<String> {
    let first: &(dyn std::error::Error + 'static) = error;
    let mut chain = std::iter::successors(Some(first), |error| error.source());
    let error = chain.find_map(|error| error.downcast_ref::<AuthError>())?;
    Some(match error {
        AuthError::AuthExecStart(error) => format!("its program can't be started ({error})"),
        AuthError::AuthExecRun { cmd, out } => {
            let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            format!("{cmd} ended with {}: {said}", out.status)
        }
        other => other.to_string(),
    })
}

/// Whether what was asked for is not there, though its kind is known.
pub fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 && is_of_object(status))
}

/// Whether it is told of an object. A kind that is not known is told as a page that is not there.
fn is_of_object(status: &Status) -> bool {
    status.reason == "NotFound" && status.details.as_ref().is_some_and(|it| !it.name.is_empty())
}

/// The status that the API server answered with.
pub fn code_of(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => {
            Some(status.as_u16())
        }
        _ => None,
    }
}

fn is_unreached(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_))
}

/// The last cause: what the system said.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::cluster_at;
    use super::*;

    fn cluster() -> Cluster {
        cluster_at("http://127.0.0.1:1")
    }

    #[tokio::test]
    async fn errors_say_what_to_do() {
        let cluster = cluster();
        let error = |code| {
            let status = Status { code, ..Status::default() };
            cluster.refused(kube::Error::Api(Box::new(status)), "get functions").to_string()
        };
        assert!(error(401).contains("log in"));
        assert!(error(403).contains("you may not get functions in namespace shop"));
        assert!(error(403).contains("role `view`"));
        assert!(error(404).contains("helm install rouse"));
        assert_eq!(error(500), "asking the API server");
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_apart_from_a_cluster_without_rouse() {
        let cluster = cluster();
        let error = |kind: &str, name: &str| {
            let message = format!("{kind} {name:?} not found");
            let status = json!({"status": "Failure", "message": message, "reason": "NotFound",
                "details": {"name": name, "kind": kind}, "code": 404, "metadata": {}});
            let status: Status = serde_json::from_value(status).unwrap();
            let error = cluster.refused(kube::Error::Api(Box::new(status)), "patch functions");
            assert!(matches!(error.downcast_ref(), Some(Failure::Missing(_))), "{error:?}");
            error.to_string()
        };
        assert!(error("namespaces", "shop").contains("`kubectl create namespace shop`"));
        assert!(error("pods", "hello-x").ends_with("pods \"hello-x\" not found"));
    }

    #[tokio::test]
    async fn who_may_not_forward_ports_is_told_which_right_is_missing() {
        let upgrade = UpgradeConnectionError::ProtocolSwitch(hyper::StatusCode::FORBIDDEN);
        let error = kube::Error::UpgradeConnection(upgrade);
        let right = "`create` on pods/portforward";
        let text = cluster().refused_in(error, "forward ports of pods", "shop", right).to_string();
        assert!(text.starts_with("you may not forward ports of pods in shop"), "{text}");
        assert!(text.ends_with("ask for `create` on pods/portforward"), "{text}");
    }

    #[tokio::test]
    async fn who_can_t_log_in_is_told_why_wherever_that_came_up() {
        let cluster = cluster();
        let auth = || AuthError::AuthExecStart(std::io::ErrorKind::NotFound.into());
        for error in [kube::Error::Auth(auth()), kube::Error::Service(Box::new(auth()))] {
            let error = cluster.refused(error, "get functions");
            assert!(matches!(error.downcast_ref(), Some(Failure::Forbidden(_))), "{error:?}");
            let said = error.to_string();
            assert!(said.contains("not found") && said.contains("`kubectl get ns`"), "{said}");
        }
        let proxy_url = Box::new("http://proxy.corp:3128".parse().unwrap());
        let error = kube::Error::ProxyProtocolUnsupported { proxy_url };
        let said = no_client(error, "https://far", "context far of config").to_string();
        assert!(said.contains("NO_PROXY") && said.contains("proxy.corp"), "{said}");
    }
}
