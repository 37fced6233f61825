//! `Certificates`: a certificate authority of the test's own, and what it has signed.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// Whether a TLS server asks its clients for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientCertificate {
    /// Clients without a certificate of the server's authority are refused.
    Required,
    /// It does not ask.
    NotAsked,
}

/// Files in PEM: an authority, a server's certificate for `127.0.0.1` and `localhost`, and a client's. Each server's authority is another.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Certificates {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The server's certificate.
    pub server: PathBuf,
    /// The server's private key.
    pub server_key: PathBuf,
    /// A client's certificate.
    pub client: PathBuf,
    /// The client's private key.
    pub client_key: PathBuf,
}

impl Certificates {
    /// Writes a new set to `folder`.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn generate(folder: &Path) -> Self {
        let files = Self::in_folder(folder);
        let write = |path: &Path, pem: &str| std::fs::write(path, pem).expect("a certificate can be written");
        let mut authority = named("celeriac test authority", &[]);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = key();
        write(&files.ca, &authority.self_signed(&key).expect("an authority signs itself").pem());
        let issuer = Issuer::new(authority, key);
        let signed = |name: &str, usage, certificate: &Path, private: &Path| {
            let mut leaf = named(name, &["localhost", "127.0.0.1"]);
            leaf.extended_key_usages = vec![usage];
            leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            leaf.use_authority_key_identifier_extension = true;
            let key = self::key();
            write(certificate, &leaf.signed_by(&key, &issuer).expect("the authority signs").pem());
            write(private, &key.serialize_pem());
        };
        signed("server", ExtendedKeyUsagePurpose::ServerAuth, &files.server, &files.server_key);
        signed("client", ExtendedKeyUsagePurpose::ClientAuth, &files.client, &files.client_key);
        files
    }

    /// Where the set is that was written to `folder`.
    pub(super) fn in_folder(folder: &Path) -> Self {
        let [ca, server, server_key, client, client_key] =
            ["ca.crt", "server.crt", "server.key", "client.crt", "client.key"].map(|name| folder.join(name));
        Self { ca, server, server_key, client, client_key }
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key pair")
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).expect("names of hosts");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
