//! Connections over TLS.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use runtime::Streams;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_util::sync::CancellationToken;

use super::{Identity, hear, soon, tls};
use crate::config::ServerConfig;
use crate::server::channels::PROTOCOLS;
use crate::server::connections::{Limits, serve};
use crate::server::exec::{Session, Wanted, carry};
use crate::server::upgrade::agree;
use crate::server::{Body, Streams as Background, text};

/// What the test server's handlers wait for and tell.
#[derive(Default)]
struct Gate {
    arrived: Notify,
    go: Notify,
}

struct TestServer {
    address: std::net::SocketAddr,
    gate: Arc<Gate>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

/// `/slow` waits for the gate, `/exec` is a process that never ends, else there is "hello".
async fn answer(
    request: Request<Incoming>,
    gate: Arc<Gate>,
    streams: Background,
) -> Response<Body> {
    match request.uri().path() {
        "/slow" => {
            gate.arrived.notify_one();
            gate.go.notified().await;
            text(StatusCode::OK, "slow")
        }
        "/exec" => {
            let agreed = match agree(request, &PROTOCOLS) {
                Ok(agreed) => agreed,
                Err(response) => return response,
            };
            let wanted = Wanted { stdin: true, stdout: true, stderr: false, tty: false };
            let nothing = Streams { stdin: None, stdout: None, stderr: None };
            let open =
                async { Ok(Session { streams: nothing, exit: std::future::pending().boxed() }) };
            let (response, task) =
                agreed.split(move |socket| carry(socket, open, wanted, Duration::from_secs(60)));
            streams.spawn(task);
            response
        }
        _ => text(StatusCode::OK, "hello"),
    }
}

impl TestServer {
    async fn start(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (gate, shutdown) = (Arc::new(Gate::default()), CancellationToken::new());
        let config = ServerConfig {
            listen: address,
            tls: Arc::clone(&tls().server),
            client_names: vec!["api".into()],
            client_organizations: vec!["masters".into()],
        };
        let streams = Background::new(shutdown.clone());
        let (own, token) = (Arc::clone(&gate), shutdown.clone());
        let task = tokio::spawn(async move {
            let background = streams.clone();
            let answer = move |request| answer(request, Arc::clone(&own), background.clone());
            serve(listener, &config, limits, answer, token).await;
            streams.ended().await;
        });
        Self { address, gate, shutdown, task }
    }

    async fn connect(&self, identity: Option<Identity>) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let connector = TlsConnector::from(tls().client(identity));
        connector.connect(ServerName::try_from("node").unwrap(), stream).await.unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        soon("the server's end", self.task).await.unwrap();
    }
}

fn api() -> Option<Identity> {
    Some(tls().identity("api", "none"))
}

async fn get(stream: TlsStream<TcpStream>, path: &str) -> (StatusCode, Bytes) {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driving = tokio::spawn(connection);
    let request = Request::get(path).header("host", "node").body(Empty::<Bytes>::new()).unwrap();
    let response = soon("an answer", sender.send_request(request)).await.unwrap();
    let code = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    drop(sender);
    soon("the connection's end", driving).await.unwrap().unwrap();
    (code, body)
}

async fn websocket(
    stream: TlsStream<TcpStream>,
    protocols: &str,
) -> Result<(WebSocketStream<TlsStream<TcpStream>>, String), u16> {
    let mut request = "wss://node/exec".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    let joined = Box::pin(tokio_tungstenite::client_async(request, stream));
    match soon("a WebSocket", joined).await {
        Ok((socket, response)) => {
            let chosen = response.headers()["sec-websocket-protocol"].to_str().unwrap();
            Ok((socket, chosen.to_owned()))
        }
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
            Err(response.status().as_u16())
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn clients_are_known_by_their_certificates() {
    let server = TestServer::start(Limits::default()).await;
    for (identity, code, wanted) in [
        (Some(("api", "x")), StatusCode::OK, "hello"),
        (Some(("bob", "masters")), StatusCode::OK, "hello"),
        (
            Some(("bob", "x")),
            StatusCode::FORBIDDEN,
            "Forbidden: user \"bob\" may not use this kubelet\n",
        ),
        (None, StatusCode::UNAUTHORIZED, "Unauthorized\n"),
    ] {
        let shown = identity.map(|(name, organization)| tls().identity(name, organization));
        let (got, body) = get(server.connect(shown).await, "/").await;
        assert_eq!((got, &body[..]), (code, wanted.as_bytes()), "{identity:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_better_protocol_is_chosen() {
    let server = TestServer::start(Limits::default()).await;
    for (offered, wanted) in [
        ("v4.channel.k8s.io", Ok("v4.channel.k8s.io")),
        ("v4.channel.k8s.io, v5.channel.k8s.io", Ok("v5.channel.k8s.io")),
        ("base64.channel.k8s.io,v5.channel.k8s.io", Ok("v5.channel.k8s.io")),
        ("channel.k8s.io", Err(400)),
    ] {
        let got = websocket(server.connect(api()).await, offered).await;
        let got = match got {
            Ok((mut socket, chosen)) => {
                assert_eq!(hear(&mut socket).await.unwrap(), (1, "".into()));
                Ok(chosen)
            }
            Err(code) => Err(code),
        };
        assert_eq!(got.as_deref().map_err(|code| *code), wanted, "{offered}");
    }
    let (code, _) = get(server.connect(api()).await, "/exec").await;
    assert_eq!(code, StatusCode::BAD_REQUEST, "no WebSocket");
    server.stop().await;
}

#[tokio::test]
async fn streams_count_as_connections() {
    let server = TestServer::start(Limits { connections_max: 1, ..Limits::default() }).await;
    let first = server.connect(api()).await;
    let (mut socket, _) = websocket(first, "v5.channel.k8s.io").await.unwrap();
    assert_eq!(hear(&mut socket).await.unwrap(), (1, "".into()));
    let mut second = Box::pin(server.connect(api()));
    let waited = tokio::time::timeout(Duration::from_millis(100), &mut second).await;
    assert!(waited.is_err(), "there is room for one");
    drop(socket);
    let second = soon("room", second).await;
    assert_eq!(get(second, "/").await.0, StatusCode::OK);
    server.stop().await;
}

#[tokio::test]
async fn who_says_nothing_is_sent_away() {
    let headers = Duration::from_millis(50);
    let server = TestServer::start(Limits { headers, ..Limits::default() }).await;
    let mut stream = server.connect(api()).await;
    let mut rest = Vec::new();
    soon("the connection's end", stream.read_to_end(&mut rest)).await.ok();
    server.stop().await;
    let handshake = Duration::from_millis(50);
    let server = TestServer::start(Limits { handshake, ..Limits::default() }).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let end = soon("the connection's end", stream.read(&mut [0; 8])).await;
    assert_eq!(end.unwrap_or(0), 0);
    server.stop().await;
}

#[tokio::test]
async fn at_shutdown_requests_end_well_and_streams_at_once() {
    let server = TestServer::start(Limits::default()).await;
    let (mut socket, _) =
        websocket(server.connect(api()).await, "v5.channel.k8s.io").await.unwrap();
    assert_eq!(hear(&mut socket).await.unwrap(), (1, "".into()));
    let slow = tokio::spawn(get(server.connect(api()).await, "/slow"));
    soon("the request", server.gate.arrived.notified()).await;
    server.shutdown.cancel();
    assert!(!slow.is_finished() && !server.task.is_finished());
    server.gate.go.notify_one();
    assert_eq!(slow.await.unwrap(), (StatusCode::OK, "slow".into()));
    let end = soon("the stream's end", futures::StreamExt::next(&mut socket)).await;
    assert!(end.is_none_or(|message| message.is_err()));
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut() {
    let drain = Duration::from_millis(50);
    let server = TestServer::start(Limits { drain, ..Limits::default() }).await;
    let stream = server.connect(api()).await;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driving = tokio::spawn(connection);
    let request = Request::get("/slow").body(Empty::<Bytes>::new()).unwrap();
    let asked = tokio::spawn(async move { sender.send_request(request).await });
    soon("the request", server.gate.arrived.notified()).await;
    server.stop().await;
    assert!(asked.await.unwrap().is_err());
    drop(driving);
}
