//! PURE: messages as bytes.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record};

use crate::answer::Reply;

/// Longest answer over UDP to a client that does not say what it can take (RFC 1035).
const UDP_BYTES: u16 = 512;
/// Longest answer over UDP to anybody: what passes every link without fragments (DNS flag day
/// 2020).
const UDP_BYTES_MAX: u16 = 1232;

/// Over what a message came, which limits the answer's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
}

/// A question that came.
#[derive(Debug)]
pub(crate) struct Question {
    message: Message,
    transport: Transport,
}

impl Question {
    /// Reads a message. An `Err` is the answer to one that is not a question to be answered; an
    /// empty one is for messages that deserve none.
    pub(crate) fn read(bytes: &[u8], transport: Transport) -> Result<Self, Vec<u8>> {
        let message = match Message::from_vec(bytes) {
            Ok(message) => message,
            Err(_) => return Err(not_understood(bytes)),
        };
        // Answering answers would let two servers talk for ever.
        if message.metadata.message_type == MessageType::Response {
            return Err(Vec::new());
        }
        let question = Self { message, transport };
        let refuse = |code| Err(question.error(code));
        match &question.message.queries[..] {
            _ if question.message.metadata.op_code != OpCode::Query => refuse(ResponseCode::NotImp),
            _ if question.edns_version() > 0 => refuse(ResponseCode::BADVERS),
            [query] if matches!(query.query_class, DNSClass::IN | DNSClass::ANY) => Ok(question),
            [_] => refuse(ResponseCode::Refused),
            _ => refuse(ResponseCode::FormErr),
        }
    }

    /// What is asked.
    pub(crate) fn query(&self) -> &Query {
        &self.message.queries[0]
    }

    /// The client's number for it.
    pub(crate) fn id(&self) -> u16 {
        self.message.metadata.id
    }

    /// How it came.
    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }

    /// The answer with nothing but a code.
    pub(crate) fn error(&self, code: ResponseCode) -> Vec<u8> {
        let reply =
            Reply { code, answers: Vec::new(), additionals: Vec::new(), authorities: Vec::new() };
        self.write(reply, false)
    }

    /// The answer as bytes, cut where the client can take no more.
    pub(crate) fn answer(&self, reply: Reply) -> Vec<u8> {
        self.write(reply, true)
    }

    fn edns_version(&self) -> u8 {
        self.message.edns.as_ref().map_or(0, Edns::version)
    }

    fn write(&self, reply: Reply, authoritative: bool) -> Vec<u8> {
        let asked = &self.message.metadata;
        let mut message = Message::response(asked.id, asked.op_code);
        message.metadata.recursion_desired = asked.recursion_desired;
        message.metadata.checking_disabled = asked.checking_disabled;
        message.metadata.recursion_available = true;
        message.metadata.authoritative = authoritative;
        message.metadata.response_code = reply.code;
        message.queries.clone_from(&self.message.queries);
        message.answers = reply.answers;
        message.authorities = reply.authorities;
        message.additionals = reply.additionals;
        if let Some(asked) = &self.message.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_BYTES_MAX);
            edns.set_dnssec_ok(asked.flags().dnssec_ok);
            message.edns = Some(edns);
        }
        encode(message, self.length_max())
    }

    fn length_max(&self) -> u16 {
        match (self.transport, &self.message.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => UDP_BYTES,
            (Transport::Udp, Some(edns)) => edns.max_payload().clamp(UDP_BYTES, UDP_BYTES_MAX),
        }
    }
}

/// Encodes. Where not everything fits, first what only helps goes, then answers, and the message is
/// marked as cut. Some answers stay: old clients that know no TCP use the part they get.
fn encode(mut message: Message, length_max: u16) -> Vec<u8> {
    loop {
        // Names and texts come from the API, whose limits are DNS's own: this does not fail.
        let bytes = message.to_vec().unwrap_or_default();
        if bytes.len() <= usize::from(length_max) {
            return bytes;
        }
        if !message.additionals.is_empty() {
            message.additionals.clear();
        } else if !message.answers.is_empty() {
            message.metadata.truncation = true;
            let keep = message.answers.len() - message.answers.len().div_ceil(8);
            message.answers.truncate(keep);
        } else if !message.authorities.is_empty() {
            message.authorities.clear();
        } else {
            return bytes;
        }
    }
}

/// A message too broken to read is answered by its number alone.
fn not_understood(bytes: &[u8]) -> Vec<u8> {
    let Some(id) = message_id(bytes) else {
        return Vec::new();
    };
    // An answer that does not parse deserves none either.
    if bytes.get(2).is_none_or(|flags| flags & 0x80 != 0) {
        return Vec::new();
    }
    let message = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
    message.to_vec().unwrap_or_default()
}

/// The number of a message.
pub(crate) fn message_id(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|id| u16::from_be_bytes(*id))
}

/// The answers in a message from another server, and its code.
pub(crate) fn answers(bytes: &[u8]) -> Option<(ResponseCode, Vec<Record>)> {
    let message = Message::from_vec(bytes).ok()?;
    Some((message.metadata.response_code, message.answers))
}

#[cfg(test)]
mod tests;
