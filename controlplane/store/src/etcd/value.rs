//! A version as etcd holds it: expiry (seconds since 1970, 0 for none) as u64, the revision's place
//! as u32, both little-endian, then the JSON without the revision, which only etcd knows.

use bytes::Bytes;

use crate::record::Payload;

pub(super) fn encode(payload: &Payload) -> Vec<u8> {
    let mut value = Vec::with_capacity(12 + payload.json.len());
    value.extend_from_slice(&payload.expires_at_secs.unwrap_or(0).to_le_bytes());
    value.extend_from_slice(&payload.revision_at.to_le_bytes());
    value.extend_from_slice(&payload.json);
    value
}

pub(super) fn decode(value: &[u8]) -> Option<Payload> {
    let (expires, rest) = value.split_first_chunk()?;
    let (revision_at, json) = rest.split_first_chunk()?;
    let (expires, revision_at) = (u64::from_le_bytes(*expires), u32::from_le_bytes(*revision_at));
    (revision_at as usize <= json.len()).then(|| Payload {
        json: Bytes::copy_from_slice(json),
        revision_at,
        expires_at_secs: (expires != 0).then_some(expires),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_damage_is_seen() {
        for payload in [Payload::new("{}", 1), Payload::new("", 0).expiring(7)] {
            assert_eq!(decode(&encode(&payload)), Some(payload));
        }
        assert_eq!(decode(&encode(&Payload::new("{}", 2))[..13]), None);
        assert_eq!(decode(b"short"), None);
    }
}
