//! TLS, by rustls and with the cryptography that the whole program has: no other crate's choice of it matters here.

#[cfg(not(feature = "tls"))]
pub(super) use absent::Tls;
#[cfg(feature = "tls")]
pub(super) use present::Tls;

#[cfg(not(feature = "tls"))]
mod absent {
    use std::io;

    use tokio::net::TcpStream;

    use super::super::stream::Socket;
    use crate::config::AmqpConfig;

    pub(crate) struct Tls;

    impl Tls {
        #[expect(clippy::unnecessary_wraps, reason = "as with TLS")]
        pub(crate) fn new(_config: &AmqpConfig) -> celeriac_core::Result<Self> {
            Ok(Self)
        }

        /// The configuration is checked before: no server takes TLS.
        pub(crate) async fn wrap(&self, _host: &str, _socket: TcpStream) -> io::Result<Box<dyn Socket>> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}

#[cfg(feature = "tls")]
mod present {
    use std::borrow::Cow;
    use std::io;
    use std::sync::Arc;

    use celeriac_core::{Error, Result};
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;

    use super::super::stream::Socket;
    use crate::config::{AmqpConfig, Certificates, Pem};

    pub(crate) struct Tls(Option<TlsConnector>);

    impl Tls {
        /// Reads the certificates, if any server takes TLS.
        pub(crate) fn new(config: &AmqpConfig) -> Result<Self> {
            if !config.servers.iter().any(|server| server.tls) {
                return Ok(Self(None));
            }
            let Certificates { authority, certificate, key } = &config.certificates;
            let roots = match authority {
                Some(pem) => roots(certificates("`ssl_ca_certs`", pem)?, "`ssl_ca_certs`")?,
                None => system_roots()?,
            };
            let unusable =
                |why: &'static str| move |error: rustls::Error| Error::config("open", why).with_source(error);
            let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(unusable("TLS cannot be set up"))?
                .with_root_certificates(roots);
            let client = match certificate {
                None => builder.with_no_client_auth(),
                Some(certificate) => {
                    let key = match key {
                        Some(key) => private_key("`ssl_keyfile`", key)?,
                        None => private_key("`ssl_certfile`, without an `ssl_keyfile`,", certificate)?,
                    };
                    let chain = certificates("`ssl_certfile`", certificate)?;
                    let why = "`ssl_certfile` and `ssl_keyfile` do not belong together, or cannot be used";
                    builder.with_client_auth_cert(chain, key).map_err(unusable(why))?
                }
            };
            Ok(Self(Some(TlsConnector::from(Arc::new(client)))))
        }

        pub(crate) async fn wrap(&self, host: &str, socket: TcpStream) -> io::Result<Box<dyn Socket>> {
            let Some(connector) = &self.0 else { return Err(io::ErrorKind::Unsupported.into()) };
            let name = ServerName::try_from(host.to_owned())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            Ok(Box::new(connector.connect(name, socket).await?))
        }
    }

    fn roots(certificates: Vec<CertificateDer<'static>>, option: &str) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate).map_err(|error| {
                Error::config("open", format!("{option} holds a certificate that is none of an authority"))
                    .with_source(error)
            })?;
        }
        Ok(roots)
    }

    /// What of the system's certificates can be read. One that cannot is passed over, as everywhere.
    fn system_roots() -> Result<RootCertStore> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            let why = "the system has no certificates of authorities, and neither `SSL_CERT_FILE` nor `ssl_ca_certs` names some";
            let source = found.errors.first().map(ToString::to_string).unwrap_or_default();
            return Err(Error::config("open", why).with_source(source));
        }
        Ok(roots)
    }

    fn certificates(option: &str, pem: &Pem) -> Result<Vec<CertificateDer<'static>>> {
        let (bytes, place) = read(option, pem)?;
        let all: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let all = all.map_err(|error| {
            Error::config("open", format!("{option}{place} cannot be read as PEM")).with_source(error.to_string())
        })?;
        if all.is_empty() { Err(nothing(option, &place, "CERTIFICATE")) } else { Ok(all) }
    }

    fn private_key(option: &str, pem: &Pem) -> Result<PrivateKeyDer<'static>> {
        let (bytes, place) = read(option, pem)?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| nothing(option, &place, "PRIVATE KEY"))
    }

    fn nothing(option: &str, place: &str, holds: &str) -> Error {
        Error::config("open", format!("{option}{place} has no `-----BEGIN ... {holds}-----`: it must be PEM"))
    }

    fn read<'a>(option: &str, pem: &'a Pem) -> Result<(Cow<'a, [u8]>, String)> {
        match pem {
            Pem::Bytes(bytes) => Ok((Cow::Borrowed(bytes), String::new())),
            Pem::File(path) => {
                let unreadable = |error: io::Error| {
                    Error::config("open", format!("{option} cannot be read from `{}`", path.display()))
                        .with_source(error)
                };
                Ok((Cow::Owned(std::fs::read(path).map_err(unreadable)?), format!(", in `{}`,", path.display())))
            }
        }
    }
}
