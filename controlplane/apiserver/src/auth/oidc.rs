//! Discovery of the token issuer, so that others can verify service-account tokens.

use serde_json::json;

use crate::answer::{self, Answer};
use crate::server::Server;

/// `/.well-known/openid-configuration`.
pub fn configuration(server: &Server, path: &str) -> Option<Answer> {
    if path != "/.well-known/openid-configuration" {
        return None;
    }
    let issuer = &server.config.service_account_issuer;
    let host = match server.config.advertise_address {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
    };
    let port = server.config.advertise_port;
    let body = json!({
        "issuer": issuer,
        "jwks_uri": format!("https://{host}:{port}/openid/v1/jwks"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [server.tokens.algorithm_name()],
    });
    Some(answer::bytes(200, "application/json", body.to_string()))
}

/// `/openid/v1/jwks`.
pub fn keys(server: &Server, path: &str) -> Option<Answer> {
    if path != "/openid/v1/jwks" {
        return None;
    }
    let body = json!({"keys": [server.tokens.public_key()]});
    Some(answer::bytes(200, "application/jwk-set+json", body.to_string()))
}
