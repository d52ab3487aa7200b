//! Which request fields tell who is asking, or make an application answer as if asked for something else.
//!
//! A request that carries one of the first kind is not answered from a shared cache, and what answers it is not stored,
//! unless the key covers the field. Fields of the second kind are part of every key.

use http::header::{self, HeaderName};

/// Fields that carry a credential, or what a proxy in front made of one.
pub(crate) static CREDENTIALS: [HeaderName; 36] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("apikey"),
    HeaderName::from_static("x-auth-token"),
    HeaderName::from_static("x-access-token"),
    HeaderName::from_static("x-session-token"),
    HeaderName::from_static("x-csrf-token"),
    HeaderName::from_static("x-xsrf-token"),
    HeaderName::from_static("private-token"),
    HeaderName::from_static("x-amz-security-token"),
    HeaderName::from_static("x-remote-user"),
    HeaderName::from_static("remote-user"),
    HeaderName::from_static("x-authenticated-user"),
    HeaderName::from_static("x-webauth-user"),
    HeaderName::from_static("x-user"),
    HeaderName::from_static("x-user-id"),
    HeaderName::from_static("x-forwarded-user"),
    HeaderName::from_static("x-forwarded-email"),
    HeaderName::from_static("x-forwarded-groups"),
    HeaderName::from_static("x-forwarded-preferred-username"),
    HeaderName::from_static("x-forwarded-access-token"),
    HeaderName::from_static("x-forwarded-client-cert"),
    HeaderName::from_static("x-client-cert"),
    HeaderName::from_static("x-ssl-cert"),
    HeaderName::from_static("x-ssl-client-cert"),
    HeaderName::from_static("client-cert"),
    HeaderName::from_static("client-cert-chain"),
    HeaderName::from_static("cf-access-jwt-assertion"),
    HeaderName::from_static("cf-access-authenticated-user-email"),
    HeaderName::from_static("tailscale-user-login"),
    HeaderName::from_static("dpop"),
    HeaderName::from_static("x-apigateway-api-userinfo"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("ocp-apim-subscription-key"),
];

/// The one of them that is no obstacle where responses say themselves who may have them (RFC 9111 §3.5), and the one that
/// even there is meant for whoever stands here (RFC 9110 §11.7.2).
pub(crate) static PROXY_CREDENTIALS: [HeaderName; 1] = [header::PROXY_AUTHORIZATION];

/// Families of such fields, by how their names begin.
const FAMILIES: &[&str] = &[
    "x-auth-request-",
    "x-amzn-oidc-",
    "x-goog-iap-",
    "x-goog-authenticated-user-",
    "x-ms-client-principal",
    "x-ms-token-",
    "x-authentik-",
    "x-consumer-",
    "x-pomerium-",
    "x-vouch-",
];

/// Fields by which a request asks for another host, path, scheme or method than its request line says.
pub(crate) static OVERRIDES: [HeaderName; 25] = [
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-path"),
    HeaderName::from_static("x-forwarded-uri"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("x-forwarded-protocol"),
    HeaderName::from_static("x-envoy-original-path"),
    HeaderName::from_static("x-replaced-path"),
    HeaderName::from_static("x-http-host-override"),
    HeaderName::from_static("x-url-scheme"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-original-uri"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-scheme"),
    HeaderName::from_static("front-end-https"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
];

/// Whether a field belongs to one of the families. Asked for fields that are not known by their whole name.
pub(crate) fn is_of_a_family(name: &str) -> bool {
    name.starts_with("x-") && FAMILIES.iter().any(|family| name.starts_with(family))
}
