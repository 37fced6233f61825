//! Certificates.

use deadpool_redis::redis::ConnectionAddr;

/// The driver's reading of the certificates, which it gives away only as part of an address.
pub(super) struct Tls(ConnectionAddr);

impl Tls {
    pub(super) fn address(&self, host: String, port: u16) -> ConnectionAddr {
        let tls_params = match &self.0 {
            ConnectionAddr::TcpTls { tls_params, .. } => tls_params.clone(),
            _ => None,
        };
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params }
    }
}

fn nowhere() -> ConnectionAddr {
    ConnectionAddr::TcpTls { host: String::new(), port: 0, insecure: false, tls_params: None }
}

#[cfg(not(feature = "tls"))]
impl Tls {
    pub(super) fn new(_config: &crate::config::RedisConfig) -> celeriac_core::Result<Self> {
        Ok(Self(nowhere()))
    }
}

#[cfg(feature = "tls")]
mod certificates {
    use std::borrow::Cow;

    use celeriac_core::{Error, Result};
    use deadpool_redis::redis::{Client, ClientTlsConfig, IntoConnectionInfo, RedisError, TlsCertificates};

    use super::{Tls, nowhere};
    use crate::config::{Certificates, Pem, RedisConfig};

    impl Tls {
        pub(crate) fn new(config: &RedisConfig) -> Result<Self> {
            if !config.servers.iter().any(|server| server.tls) {
                return Ok(Self(nowhere()));
            }
            // The driver takes the process's cryptography, and panics where the features of all crates together leave it open.
            if rustls::crypto::CryptoProvider::get_default().is_none() {
                // Another thread may have been first.
                let _ = rustls::crypto::ring::default_provider().install_default();
            }
            let Certificates { authority, certificate, key } = &config.certificates;
            let root_cert = authority.as_ref().map(|pem| read("`ssl_ca_certs`", pem, "CERTIFICATE")).transpose()?;
            let client_tls = match (certificate, key) {
                (Some(certificate), key) => {
                    let client_key = match key {
                        Some(key) => read("`ssl_keyfile`", key, "PRIVATE KEY")?,
                        None => read("`ssl_certfile`, without an `ssl_keyfile`,", certificate, "PRIVATE KEY")?,
                    };
                    Some(ClientTlsConfig {
                        client_cert: read("`ssl_certfile`", certificate, "CERTIFICATE")?,
                        client_key,
                    })
                }
                _ => None,
            };
            if root_cert.is_none() && client_tls.is_none() {
                return Ok(Self(nowhere()));
            }
            let unreadable = |error: RedisError| {
                let why = "`ssl_ca_certs`, `ssl_certfile` or `ssl_keyfile` cannot be read as PEM";
                Error::config("open", why).with_source(error.to_string())
            };
            let info = nowhere().into_connection_info().map_err(unreadable)?;
            let client = Client::build_with_tls(info, TlsCertificates { client_tls, root_cert }).map_err(unreadable)?;
            Ok(Self(client.get_connection_info().addr().clone()))
        }
    }

    /// The driver reads a file without any certificate as one that trusts nobody.
    fn read(option: &str, pem: &Pem, holds: &str) -> Result<Vec<u8>> {
        let (bytes, place) = match pem {
            Pem::Bytes(bytes) => (bytes.clone(), Cow::Borrowed("")),
            Pem::File(path) => {
                let unreadable = |error: std::io::Error| {
                    Error::config("open", format!("{option} cannot be read from `{}`", path.display()))
                        .with_source(error)
                };
                (std::fs::read(path).map_err(unreadable)?, Cow::Owned(format!(", in `{}`,", path.display())))
            }
        };
        let text = String::from_utf8_lossy(&bytes);
        let begins =
            |line: &str| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{holds}-----"));
        if text.lines().any(begins) {
            Ok(bytes)
        } else {
            Err(Error::config("open", format!("{option}{place} has no `-----BEGIN ... {holds}-----`: it must be PEM")))
        }
    }
}
