use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use informer::ViewWriter;
use objects::Revision;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

/// A server over views that the test writes, on a free port of the loopback.
struct Served {
    address: SocketAddr,
    services: ViewWriter<ServiceObject>,
    slices: ViewWriter<EndpointSlice>,
    dns: Dns,
    shutdown: CancellationToken,
}

impl Served {
    /// `upstream` is asked about other names; if none is given, `resolv.conf` does not exist.
    async fn new(upstreams: Vec<SocketAddr>) -> Self {
        let address = free_address().await;
        let config = Config {
            domain: "cluster.local".to_owned(),
            addresses: vec![address],
            upstreams,
            stub_domains: Vec::new(),
            resolv_conf: "/nonexistent/resolv.conf".into(),
            hold_dir: None,
        };
        let (service_view, services) = View::new(Vec::new());
        let (slice_view, slices) = View::new(vec![Views::by_service()]);
        let views = Views { services: service_view, slices: slice_view };
        let dns = Dns::new(config).unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn({
            let (dns, shutdown) = (dns.clone(), shutdown.clone());
            async move { dns.run(views, shutdown).await.unwrap() }
        });
        Self { address, services, slices, dns, shutdown }
    }

    fn sync(&self) {
        self.services.replace(Vec::new(), Revision(1));
        self.slices.replace(Vec::new(), Revision(1));
    }

    fn headless(&self, count: u8) {
        let service = json!({
            "metadata": { "namespace": "ns", "name": "db", "resourceVersion": "2" },
            "spec": { "clusterIP": "None" },
        });
        let endpoints: Vec<_> =
            (0..count).map(|octet| json!({ "addresses": [format!("10.244.0.{octet}")] })).collect();
        let slice = json!({
            "metadata": {
                "namespace": "ns", "name": "db-1", "resourceVersion": count.to_string(),
                "labels": { "kubernetes.io/service-name": "db" },
            },
            "addressType": "IPv4", "endpoints": endpoints,
        });
        self.slices.apply(serde_json::from_value(slice).unwrap());
        self.services.apply(serde_json::from_value(service).unwrap());
    }

    async fn ask(&self, name: &str, wanted: RecordType) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let asked = question(name, wanted);
        let mut answer = vec![0; 4096];
        // Sent again until the server listens.
        for _ in 0..100 {
            socket.send_to(&asked, self.address).await.unwrap();
            let received = timeout(Duration::from_millis(50), socket.recv(&mut answer)).await;
            if let Ok(Ok(length)) = received {
                return Message::from_vec(&answer[..length]).unwrap();
            }
        }
        panic!("no answer about {name}");
    }

    /// Asks until the answer is as wanted.
    async fn until(
        &self,
        name: &str,
        wanted: RecordType,
        reached: impl Fn(&Message) -> bool,
    ) -> Message {
        let asking = async {
            loop {
                let message = self.ask(name, wanted).await;
                if reached(&message) {
                    return message;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never so: {name}"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn free_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn question(name: &str, wanted: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(name.parse().unwrap(), wanted));
    message.to_vec().unwrap()
}

/// A name server that knows one address, which it gives for every name.
async fn upstream() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let asked = Message::from_vec(&buffer[..length]).unwrap();
            let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
            let name = asked.queries[0].name.clone();
            answer.queries = asked.queries;
            let data = RData::from(Ipv4Addr::new(192, 0, 2, 80));
            answer.answers.push(Record::from_rdata(name, 60, data));
            socket.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn answers_follow_the_cluster() {
    let served = Served::new(Vec::new()).await;
    let name = "db.ns.svc.cluster.local.";
    let early = served.ask(name, RecordType::A).await;
    assert_eq!(early.metadata.response_code, ResponseCode::ServFail, "nothing is known yet");
    served.sync();
    let is = |code| move |message: &Message| message.metadata.response_code == code;
    served.until(name, RecordType::A, is(ResponseCode::NXDomain)).await;
    served.headless(2);
    served.until(name, RecordType::A, |message| message.answers.len() == 2).await;
    let nodata = served.ask(name, RecordType::AAAA).await;
    assert_eq!(nodata.metadata.response_code, ResponseCode::NoError);
    assert!(nodata.answers.is_empty() && nodata.authorities.len() == 1);
    assert_eq!(
        served.dns.dump(),
        "db.ns.svc headless\n10-244-0-0.db.ns.svc 10.244.0.0\n10-244-0-1.db.ns.svc 10.244.0.1\n"
    );
    served.slices.remove(ObjectKey::new("ns", "db-1"), Revision(9));
    served.until(name, RecordType::A, is(ResponseCode::NXDomain)).await;
}

#[tokio::test]
async fn what_does_not_fit_a_datagram_comes_over_tcp() {
    let served = Served::new(Vec::new()).await;
    served.sync();
    served.headless(200);
    let name = "db.ns.svc.cluster.local.";
    let cut = served.until(name, RecordType::A, |message| !message.answers.is_empty()).await;
    assert!(cut.metadata.truncation);
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    // Two questions at once, and their answers.
    for _ in 0..2 {
        let asked = question(name, RecordType::A);
        stream.write_u16(u16::try_from(asked.len()).unwrap()).await.unwrap();
        stream.write_all(&asked).await.unwrap();
    }
    for _ in 0..2 {
        let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut answer).await.unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!((answer.metadata.truncation, answer.answers.len()), (false, 200));
    }
}

#[tokio::test]
async fn other_names_are_asked_of_others_and_aliases_are_followed() {
    let dead = free_address().await;
    let served = Served::new(vec![dead, upstream().await]).await;
    served.sync();
    let service = json!({
        "metadata": { "namespace": "ns", "name": "outside", "resourceVersion": "2" },
        "spec": { "type": "ExternalName", "externalName": "www.example.org" },
    });
    served.services.apply(serde_json::from_value(service).unwrap());
    let answer = served.ask("www.example.org.", RecordType::A).await;
    assert_eq!(answer.answers[0].data.to_string(), "192.0.2.80", "the second server is asked too");
    let name = "outside.ns.svc.cluster.local.";
    let answer = served.until(name, RecordType::A, |message| !message.answers.is_empty()).await;
    let lines: Vec<String> =
        answer.answers.iter().map(|record| format!("{} {}", record.name, record.data)).collect();
    assert_eq!(
        lines,
        ["outside.ns.svc.cluster.local. www.example.org.", "www.example.org. 192.0.2.80"]
    );
}

#[tokio::test]
async fn without_anybody_to_ask_the_answer_is_a_failure_never_an_absence() {
    let served = Served::new(Vec::new()).await;
    served.sync();
    let answer = served.ask("www.example.org.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    // Itself as the only server: a loop that is not entered.
    let looped = Served::new(vec![served.address]).await;
    let answer = looped.ask("www.example.org.", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let config = Config {
        domain: "cluster.local".to_owned(),
        addresses: vec![address],
        upstreams: Vec::new(),
        stub_domains: Vec::new(),
        resolv_conf: "/nonexistent".into(),
        hold_dir: None,
    };
    let views = Views {
        services: View::fixed([], Vec::new()),
        slices: View::fixed([], vec![Views::by_service()]),
    };
    let dns = Dns::new(config).unwrap();
    let error = dns.run(views, CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("listen on {address}"));
}
