//! The API as `kubectl` sees it.

use std::path::Path;

use tokio::process::Command;
use tokio::sync::oneshot;

use super::*;

const FUNCTION: &str = "
apiVersion: rouse.dev/v1alpha1
kind: Function
metadata: {name: hello}
spec: {image: hello, port: 80}
";

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: a}]}
";

/// What `kubectl` says, and whether it was content.
async fn kubectl(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let program = std::env::var("ROUSE_KUBECTL").expect("ROUSE_KUBECTL is the path of kubectl");
    let run = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("HOME", folder)
        .env("KUBECONFIG", folder.join("kubeconfig"))
        .output();
    let output = timeout(SOON, run).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs kubectl: cargo xtask test"]
async fn kubectl_finds_its_way() {
    let api = Api::start(ApiOptions { seed: Some(SEED) }).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let address = listener.local_addr().unwrap();
    let addresses = Addresses { api: address, functions: address };
    let config = api.kubeconfig(addresses, "default");
    std::fs::write(folder.path().join("kubeconfig"), config).unwrap();
    std::fs::write(folder.path().join("hello.yaml"), FUNCTION).unwrap();
    std::fs::write(folder.path().join("web.yaml"), DEPLOYMENT).unwrap();
    let wrong = FUNCTION.replace("port: 80", "prot: 80");
    std::fs::write(folder.path().join("wrong.yaml"), wrong).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = {
        let api = api.clone();
        tokio::spawn(async move { api.serve(listener, async { drop(stopped.await) }).await })
    };
    for (words, content, expected) in [
        ("apply -f wrong.yaml", false, "unknown field \"spec.prot\""),
        ("apply -f hello.yaml", true, "function.rouse.dev/hello created"),
        ("apply -f hello.yaml", true, "function.rouse.dev/hello unchanged"),
        ("apply --server-side --force-conflicts -f hello.yaml", true, "serverside-applied"),
        ("get functions", true, "READY"),
        ("get fn hello -o wide", true, "REVISION"),
        ("get fn -A -o name", true, "function.rouse.dev/hello"),
        ("get fn hello -o jsonpath={.spec.port}", true, "80"),
        ("get namespaces", true, "default"),
        ("api-resources --api-group=rouse.dev", true, "triggers"),
        ("explain function.spec.scaling.idle.after", true, "How long after"),
        ("create deployment web --image=a", false, "use `kubectl apply -f`"),
        ("apply -f web.yaml", true, "deployment.apps/web created"),
        ("get pods", true, "Pending"),
        ("get all", true, "deployment.apps/web"),
        ("scale deployment web --replicas=0", true, "deployment.apps/web scaled"),
        ("get pods", true, "No resources found"),
        ("patch fn hello --type=merge -p {\"spec\":{\"port\":81}}", true, "patched"),
        ("label fn hello a=b", true, "labeled"),
        ("describe fn hello", true, "Port:"),
        ("get events", true, "No resources found"),
        ("patch fn hello --type=merge -p {\"spec\":{\"port\":0}}", false, "spec.port"),
        ("delete fn hello", true, "\"hello\" deleted"),
        ("delete deployment web --cascade=foreground", true, "\"web\" deleted"),
        ("get fn hello", false, "functions.rouse.dev \"hello\" not found"),
        ("version", true, "rouse-dev"),
    ] {
        let arguments: Vec<&str> = words.split(' ').collect();
        let (was_content, said) = kubectl(folder.path(), &arguments).await;
        assert_eq!(was_content, content, "{words}: {said}");
        assert!(said.contains(expected), "{words}: {said}");
    }
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}
