//! The TLS configuration of both sides of an intercepted connection.

use std::sync::Arc;

use rustls::client::ClientConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, pki_types};

use super::certificate_authority::CertificateAuthority;
use super::error::InterceptionError;
use super::substitute::Secrets;
use sandbox_spec::domain::DomainName;

/// Intercepts TLS connections to the hosts of secrets.
#[derive(Debug)]
pub struct Interceptor {
    secrets: Secrets,
    authority: CertificateAuthority,
    client: ClientConfig,
}

impl Interceptor {
    /// Returns an interceptor that trusts the authorities of this host.
    ///
    /// # Errors
    ///
    /// If there are none.
    pub fn new(
        secrets: Secrets,
        authority: CertificateAuthority,
    ) -> Result<Self, InterceptionError> {
        let mut roots = RootCertStore::empty();
        // Unreadable certificate files are ignored.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(InterceptionError::NoTrustedAuthority);
        }
        Self::with_roots(secrets, authority, roots)
    }

    /// Returns an interceptor that trusts these authorities.
    ///
    /// # Errors
    ///
    /// If the TLS library rejects its own defaults.
    pub fn with_roots(
        secrets: Secrets,
        authority: CertificateAuthority,
        roots: RootCertStore,
    ) -> Result<Self, InterceptionError> {
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            secrets,
            authority,
            client,
        })
    }

    /// Returns the secrets.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Returns the authority that the guest trusts.
    pub fn authority(&self) -> &CertificateAuthority {
        &self.authority
    }

    /// Returns the TLS configuration towards a host. It offers these protocols (ALPN).
    pub(crate) fn client_config(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = self.client.clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }

    /// Returns the TLS configuration towards the guest, with a certificate for `host`. It accepts
    /// only `protocol` (ALPN).
    ///
    /// # Errors
    ///
    /// If the certificate cannot be issued.
    pub(crate) fn server_config(
        &self,
        host: &DomainName,
        protocol: Option<&[u8]>,
    ) -> Result<Arc<ServerConfig>, InterceptionError> {
        let certificate = self.authority.certificate_for(host)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certificate)));
        config.alpn_protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
        // Each connection has its own configuration, so no session can be resumed.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

/// Returns the name for the ClientHello and the verification of the certificate.
pub(crate) fn server_name(host: &DomainName) -> Option<pki_types::ServerName<'static>> {
    pki_types::ServerName::try_from(host.as_str().to_owned()).ok()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
