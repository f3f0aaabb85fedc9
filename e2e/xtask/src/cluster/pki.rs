//! Issues the cluster's certificates and keys. Must not know the programs that use them beyond
//! their names. The authority and the key of service accounts stay as long as the root folder;
//! what the authority signs is issued again at each start, as the node's address may change.

use std::fs::{File, Permissions};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use super::layout::{API_PORT, API_SERVICE_IP, Layout, NODE};

/// Number of the set that [`issue`] writes: another number has running clusters write theirs anew.
const ISSUED: u32 = 2;
/// Name by which the API server shows itself to extension API servers.
pub const FRONT_PROXY: &str = "front-proxy-client";

/// Who a certificate is for: name, common name and groups, in Kubernetes' reading of them.
struct Client {
    name: &'static str,
    user: String,
    groups: &'static [&'static str],
}

/// The clients that talk to the API server by a kubeconfig of their own.
fn clients() -> Vec<Client> {
    let component = |name| Client { name, user: format!("system:{name}"), groups: &[] };
    let node = format!("system:node:{NODE}");
    vec![
        Client { name: "admin", user: "admin".to_owned(), groups: &["system:masters"] },
        component("kube-controller-manager"),
        component("kube-scheduler"),
        component("kube-proxy"),
        Client { name: "kubelet", user: node, groups: &["system:nodes"] },
    ]
}

/// Issues everything unless that was done for this address and the parts that run may hold it.
pub fn ensure(layout: &Layout, node: Ipv4Addr, something_runs: bool) -> Result<()> {
    let issued_for = layout.at("pki/issued");
    let now = format!("{ISSUED} {node}");
    if something_runs && std::fs::read_to_string(&issued_for).is_ok_and(|text| text == now) {
        return Ok(());
    }
    issue(layout, node)?;
    Ok(std::fs::write(issued_for, now)?)
}

/// Writes all certificates, keys and kubeconfigs for a node with this address.
fn issue(layout: &Layout, node: Ipv4Addr) -> Result<()> {
    let folder = layout.at("pki");
    std::fs::create_dir_all(&folder)?;
    std::fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
    service_account_key(layout)?;
    let authority = authority(layout, "ca", "rouse local cluster")?;
    let address = node.to_string();
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        API_SERVICE_IP,
        &address,
    ];
    server(&authority, layout, "kube-apiserver", &names)?;
    server(&authority, layout, "kubelet-server", &[NODE, "127.0.0.1", &address])?;
    let api_to_kubelet = Client {
        name: "kube-apiserver-to-kubelet",
        user: "kube-apiserver".to_owned(),
        groups: &["system:masters"],
    };
    client(&authority, layout, &api_to_kubelet)?;
    // An authority apart: whom it names, extension API servers take for the API server itself,
    // which may say on whose behalf it asks.
    let front = Client { name: FRONT_PROXY, user: FRONT_PROXY.to_owned(), groups: &[] };
    let front_authority = self::authority(layout, "front-proxy-ca", "rouse local front proxy")?;
    client(&front_authority, layout, &front)?;
    for each in clients() {
        let (certificate, key) = client(&authority, layout, &each)?;
        let path = match each.name {
            "admin" => layout.kubeconfig(),
            part => layout.part_kubeconfig(part),
        };
        let text = kubeconfig(&std::fs::read(layout.certificate("ca").0)?, &certificate, &key);
        write_secret(&path, &text)?;
    }
    Ok(())
}

fn authority(layout: &Layout, name: &str, common_name: &str) -> Result<Issuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let (certificate_path, key_path) = layout.certificate(name);
    let key = if key_path.is_file() {
        KeyPair::from_pem(&std::fs::read_to_string(&key_path)?)
            .with_context(|| format!("{} is no private key", key_path.display()))?
    } else {
        let key = KeyPair::generate()?;
        std::fs::write(certificate_path, params.self_signed(&key)?.pem())?;
        // Last, so that a key without a certificate can't be left behind.
        write_secret(&key_path, &key.serialize_pem())?;
        key
    };
    Ok(Issuer::new(params, key))
}

fn service_account_key(layout: &Layout) -> Result<()> {
    let (public_path, key_path) = layout.certificate("service-account");
    if key_path.is_file() {
        return Ok(());
    }
    let key = KeyPair::generate()?;
    std::fs::write(public_path, key.public_key_pem())?;
    write_secret(&key_path, &key.serialize_pem())
}

fn server(
    authority: &Issuer<'_, KeyPair>,
    layout: &Layout,
    name: &str,
    names: &[&str],
) -> Result<()> {
    let mut params =
        CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign(authority, layout, name, params)?;
    Ok(())
}

fn client(
    authority: &Issuer<'_, KeyPair>,
    layout: &Layout,
    client: &Client,
) -> Result<(String, String)> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for group in client.groups {
        params.distinguished_name.push(DnType::OrganizationName, *group);
    }
    params.distinguished_name.push(DnType::CommonName, client.user.as_str());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    sign(authority, layout, client.name, params)
}

fn sign(
    authority: &Issuer<'_, KeyPair>,
    layout: &Layout,
    name: &str,
    mut params: CertificateParams,
) -> Result<(String, String)> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?.pem();
    let (certificate_path, key_path) = layout.certificate(name);
    std::fs::write(certificate_path, &certificate)?;
    let key = key.serialize_pem();
    write_secret(&key_path, &key)?;
    Ok((certificate, key))
}

fn kubeconfig(authority: &[u8], certificate: &str, key: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
  - name: rouse-local
    cluster:
      server: https://127.0.0.1:{API_PORT}
      certificate-authority-data: {}
users:
  - name: rouse-local
    user:
      client-certificate-data: {}
      client-key-data: {}
contexts:
  - name: rouse-local
    context: {{cluster: rouse-local, user: rouse-local}}
current-context: rouse-local
",
        STANDARD.encode(authority),
        STANDARD.encode(certificate),
        STANDARD.encode(key)
    )
}

/// Writes a file that only its owner may read, from its first moment on.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_stays_and_the_rest_is_issued_again() {
        let root = std::env::temp_dir().join(format!("xtask-pki-{}", std::process::id()));
        let layout = Layout::new(&root).unwrap();
        std::fs::create_dir_all(layout.at("config")).unwrap();
        let read = |name| std::fs::read(layout.certificate(name).0).unwrap();
        let issue = |last| {
            ensure(&layout, Ipv4Addr::new(192, 0, 2, last), true).unwrap();
            (read("ca"), read("service-account"), read("kube-apiserver"))
        };
        let first = issue(1);
        let same = issue(1);
        let second = issue(9);
        let mode = std::fs::metadata(layout.certificate("ca").1).unwrap().permissions().mode();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(first, same);
        assert_eq!((&first.0, &first.1), (&second.0, &second.1));
        assert_ne!(first.2, second.2);
        assert_eq!(mode & 0o777, 0o600);
    }
}
