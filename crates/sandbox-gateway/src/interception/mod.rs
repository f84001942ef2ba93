//! TLS interception for the hosts of secrets.
//!
//! The guest has placeholders instead of the values. For the hosts of secrets, and for no others,
//! the proxy terminates the guest's TLS with a certificate of the sandbox's own authority. Then it
//! opens TLS to the real host and replaces the placeholders. It verifies the host's certificate
//! with the authorities that this host trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
//!
//! Used by `proxy`.

mod authority_parts;
mod certificate_authority;
mod error;
mod interceptor;
mod substitute;

pub use authority_parts::{AuthorityParts, PrivateBytes};
pub use certificate_authority::CertificateAuthority;
pub use error::InterceptionError;
pub use interceptor::Interceptor;
pub(crate) use interceptor::server_name;
pub(crate) use substitute::InsertedValues;
pub use substitute::Secrets;
