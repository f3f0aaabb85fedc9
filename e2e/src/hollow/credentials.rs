//! Certificates and keys of a control plane that lives for minutes, and kubeconfigs.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// The files.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Certificate of the authority that signed the API server's.
    pub authority: PathBuf,
    /// Certificate of the API server.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Public half of the key that signs the tokens of ServiceAccounts.
    pub accounts_public: PathBuf,
    /// Its private half.
    pub accounts_key: PathBuf,
    /// The administrator's token, as the API server reads it.
    pub tokens: PathBuf,
}

/// The administrator's token. The API server that knows it listens on loopback, for minutes.
pub const ADMIN_TOKEN: &str = "hollow-admin";

impl Credentials {
    /// Issues everything for an API server at `address` into `folder`.
    pub fn issue(folder: &Path, address: Ipv4Addr) -> anyhow::Result<Self> {
        let files = Self {
            authority: folder.join("ca.crt"),
            certificate: folder.join("api.crt"),
            key: folder.join("api.key"),
            accounts_public: folder.join("accounts.pub"),
            accounts_key: folder.join("accounts.key"),
            tokens: folder.join("tokens.csv"),
        };
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "hollow");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_key = KeyPair::generate()?;
        std::fs::write(&files.authority, authority.self_signed(&authority_key)?.pem())?;
        let issuer = Issuer::new(authority, authority_key);
        let mut server = CertificateParams::new(vec![address.to_string()])?;
        server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        server.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        std::fs::write(&files.certificate, server.signed_by(&key, &issuer)?.pem())?;
        std::fs::write(&files.key, key.serialize_pem())?;
        let accounts = KeyPair::generate()?;
        std::fs::write(&files.accounts_public, accounts.public_key_pem())?;
        std::fs::write(&files.accounts_key, accounts.serialize_pem())?;
        std::fs::write(&files.tokens, format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n"))?;
        Ok(files)
    }
}

/// A kubeconfig for whoever has `token`.
pub fn kubeconfig(server: &str, authority: &Path, token: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: hollow, cluster: {{server: '{server}', certificate-authority: '{}'}}}}]
users: [{{name: hollow, user: {{token: '{token}'}}}}]
contexts: [{{name: hollow, context: {{cluster: hollow, user: hollow}}}}]
current-context: hollow
",
        authority.display()
    )
}
