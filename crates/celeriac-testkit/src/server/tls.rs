//! `Certificates`: a certificate authority of the test's own, and what it has signed.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

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
        let write = |name: &str, pem: &str| {
            let path = folder.join(name);
            std::fs::write(&path, pem).expect("a certificate can be written");
            path
        };
        let mut authority = named("celeriac test authority", &[]);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = key();
        let ca = write("ca.crt", &authority.self_signed(&key).expect("an authority signs itself").pem());
        let issuer = Issuer::new(authority, key);
        let signed = |name: &str, usage| {
            let mut leaf = named(name, &["localhost", "127.0.0.1"]);
            leaf.extended_key_usages = vec![usage];
            leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            leaf.use_authority_key_identifier_extension = true;
            let key = self::key();
            let certificate = leaf.signed_by(&key, &issuer).expect("the authority signs");
            (write(&format!("{name}.crt"), &certificate.pem()), write(&format!("{name}.key"), &key.serialize_pem()))
        };
        let (server, server_key) = signed("server", ExtendedKeyUsagePurpose::ServerAuth);
        let (client, client_key) = signed("client", ExtendedKeyUsagePurpose::ClientAuth);
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
