use std::net::Ipv4Addr;

use hickory_proto::rr::{Name, RData, RecordType};
use proptest::prelude::*;

use super::*;

fn question(edns_bytes: Option<u16>) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 0x1234;
    message.metadata.recursion_desired = true;
    let name = Name::from_ascii("dB.ns.svc.cluster.local.").unwrap();
    message.queries.push(Query::query(name, RecordType::A));
    if let Some(bytes) = edns_bytes {
        let mut edns = Edns::new();
        edns.set_max_payload(bytes);
        message.edns = Some(edns);
    }
    message.to_vec().unwrap()
}

fn many(count: u8) -> Reply {
    let name: Name = "db.ns.svc.cluster.local.".parse().unwrap();
    let record =
        |octet| Record::from_rdata(name.clone(), 5, RData::from(Ipv4Addr::new(10, 244, 0, octet)));
    Reply {
        code: ResponseCode::NoError,
        answers: (0..count).map(record).collect(),
        additionals: Vec::new(),
        authorities: Vec::new(),
    }
}

fn answered(edns_bytes: Option<u16>, transport: Transport, count: u8) -> (Message, usize) {
    let bytes = Question::read(&question(edns_bytes), transport).unwrap().answer(many(count));
    (Message::from_vec(&bytes).unwrap(), bytes.len())
}

#[test]
fn answers_repeat_the_question_and_its_number() {
    let (message, _) = answered(None, Transport::Udp, 1);
    let metadata = &message.metadata;
    assert_eq!((metadata.id, metadata.message_type), (0x1234, MessageType::Response));
    assert!(metadata.recursion_desired && metadata.recursion_available && metadata.authoritative);
    assert_eq!(message.queries[0].name.to_string(), "dB.ns.svc.cluster.local.");
    assert!(message.edns.is_none(), "only those who speak EDNS are spoken to in it");
}

#[test]
fn long_answers_are_cut_to_what_the_client_can_take() {
    for (edns_bytes, length_max) in
        [(None, 512), (Some(400), 512), (Some(800), 800), (Some(4096), 1232)]
    {
        let (message, length) = answered(edns_bytes, Transport::Udp, 200);
        assert!(message.metadata.truncation, "{edns_bytes:?}");
        assert!(length <= length_max, "{length} for {edns_bytes:?}");
        assert!(message.answers.len() > 15, "{} for {edns_bytes:?}", message.answers.len());
        assert_eq!(message.edns.is_some(), edns_bytes.is_some());
    }
    let (message, _) = answered(Some(4096), Transport::Udp, 60);
    assert!(!message.metadata.truncation);
    let (message, _) = answered(None, Transport::Tcp, 200);
    assert_eq!((message.metadata.truncation, message.answers.len()), (false, 200));
}

#[test]
fn what_is_no_question_is_told_so() {
    let code = |bytes: &[u8]| {
        let answer = Question::read(bytes, Transport::Udp).unwrap_err();
        (!answer.is_empty()).then(|| Message::from_vec(&answer).unwrap().metadata.response_code)
    };
    let mut message = Message::from_vec(&question(None)).unwrap();
    message.metadata.op_code = OpCode::Update;
    assert_eq!(code(&message.to_vec().unwrap()), Some(ResponseCode::NotImp));
    let mut message = Message::from_vec(&question(None)).unwrap();
    message.queries[0].query_class = DNSClass::CH;
    assert_eq!(code(&message.to_vec().unwrap()), Some(ResponseCode::Refused));
    message.queries.clear();
    assert_eq!(code(&message.to_vec().unwrap()), Some(ResponseCode::FormErr));
    let mut message = Message::from_vec(&question(Some(1232))).unwrap();
    message.edns.as_mut().unwrap().set_version(1);
    // 16 means BADVERS here and BADSIG in signed messages.
    let bad_version = code(&message.to_vec().unwrap()).map(u16::from);
    assert_eq!(bad_version, Some(ResponseCode::BADVERS.into()));
    let mut message = Message::from_vec(&question(None)).unwrap();
    message.metadata.message_type = MessageType::Response;
    assert_eq!(code(&message.to_vec().unwrap()), None, "answers are not answered");
    assert_eq!(code(&question(None)[..20]), Some(ResponseCode::FormErr));
    assert_eq!(code(b""), None);
    assert_eq!(code(b"x"), None);
}

proptest! {
    /// Whatever comes, reading it ends, and what is sent back is a message or nothing.
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let answer = match Question::read(&bytes, Transport::Udp) {
            Ok(question) => question.answer(many(3)),
            Err(answer) => answer,
        };
        prop_assert!(answer.is_empty() || answer.len() >= 12);
    }
}
