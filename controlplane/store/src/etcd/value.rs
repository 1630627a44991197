//! A version as etcd holds it: expiry (seconds since 1970, 0 for none) as u64, the revision's place
//! as u32, both little-endian, then the JSON without the revision, which only etcd
//! knows; encrypted if it is to be.

use bytes::Bytes;

use crate::encryption::{Encryption, NO_KEY};
use crate::record::Payload;

/// A version whose JSON may be encrypted.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    expires_at_secs: Option<u64>,
    revision_at: u32,
    json: &'a [u8],
}

pub(super) fn encode(key: &str, payload: &Payload, encryption: &Encryption) -> Vec<u8> {
    let json = encryption.seal(key, &payload.json);
    let mut value = Vec::with_capacity(12 + json.len());
    value.extend_from_slice(&payload.expires_at_secs.unwrap_or(0).to_le_bytes());
    value.extend_from_slice(&payload.revision_at.to_le_bytes());
    value.extend_from_slice(&json);
    value
}

/// `None` for bytes that are no version.
pub(super) fn decode(value: &[u8]) -> Option<Stored<'_>> {
    let (expires, rest) = value.split_first_chunk()?;
    let (revision_at, json) = rest.split_first_chunk()?;
    let expires = u64::from_le_bytes(*expires);
    Some(Stored {
        expires_at_secs: (expires != 0).then_some(expires),
        revision_at: u32::from_le_bytes(*revision_at),
        json,
    })
}

impl Stored<'_> {
    pub(super) fn open(&self, key: &str, encryption: &Encryption) -> Result<Payload, &'static str> {
        let json = encryption.open(key, self.json).ok_or(NO_KEY)?;
        if self.revision_at as usize > json.len() {
            return Err("the value is not a version");
        }
        Ok(Payload {
            json: Bytes::copy_from_slice(&json),
            revision_at: self.revision_at,
            expires_at_secs: self.expires_at_secs,
        })
    }

    pub(super) fn is_stale(&self, key: &str, encryption: &Encryption) -> bool {
        encryption.is_stale(key, self.json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_damage_is_seen() {
        let none = Encryption::default();
        for payload in [Payload::new("{}", 1), Payload::new("", 0).expiring(7)] {
            let stored = encode("/secrets/a/b", &payload, &none);
            assert_eq!(decode(&stored).unwrap().open("/secrets/a/b", &none), Ok(payload));
        }
        let cut = &encode("/secrets/a/b", &Payload::new("{}", 2), &none)[..13];
        assert!(decode(cut).unwrap().open("/secrets/a/b", &none).is_err());
        assert!(decode(b"short").is_none());
    }
}
