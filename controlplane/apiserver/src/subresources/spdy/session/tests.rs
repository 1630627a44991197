//! Sessions over a connection in memory, with a client made of the same codec.

use tokio::io::DuplexStream;

use super::*;

const SYN_STREAM: [u8; 4] = [0x80, 3, 0, 1];
const BOUND: Duration = Duration::from_secs(10);

struct Client {
    io: DuplexStream,
    deflater: Deflater,
}

impl Client {
    async fn open(&mut self, id: u32, fin: bool, kind: &str) {
        let block = self.deflater.block(&[("streamType", kind)]);
        let length = u32::try_from(block.len() + 10).unwrap().to_be_bytes();
        let mut out = SYN_STREAM.to_vec();
        out.extend([u8::from(fin), length[1], length[2], length[3]]);
        out.extend(id.to_be_bytes());
        out.extend([0; 6]);
        out.extend(block);
        self.io.write_all(&out).await.unwrap();
    }

    async fn data(&mut self, id: u32, fin: bool, bytes: &[u8]) {
        self.io.write_all(&frame::data_head(id, fin, bytes.len())).await.unwrap();
        self.io.write_all(bytes).await.unwrap();
    }

    /// The next frame: its head and body.
    async fn next(&mut self) -> (Head, Vec<u8>) {
        let mut first = [0; HEAD_BYTES];
        self.io.read_exact(&mut first).await.unwrap();
        let head = frame::head(first).unwrap();
        let (Head::Data { length, .. } | Head::Control { length, .. }) = head;
        let mut body = vec![0; length];
        self.io.read_exact(&mut body).await.unwrap();
        (head, body)
    }
}

fn session() -> (Client, Streams, tokio::task::JoinHandle<io::Result<()>>) {
    let (ours, theirs) = tokio::io::duplex(256 * 1024);
    let (streams, work) = begin(ours);
    let work = tokio::spawn(async { tokio::time::timeout(BOUND, work).await.expect("ends") });
    (Client { io: theirs, deflater: Deflater::new() }, streams, work)
}

fn kind(head: Head) -> u16 {
    match head {
        Head::Control { kind, .. } => kind,
        Head::Data { .. } => 0,
    }
}

#[tokio::test]
async fn streams_are_opened_written_and_half_closed() {
    let (mut client, mut streams, work) = session();
    client.open(1, true, "error").await;
    client.open(3, false, "data").await;
    let mut error = streams.next().await.unwrap();
    let mut data = streams.next().await.unwrap();
    assert_eq!((error.id, error.header("streamtype")), (1, "error"));
    assert_eq!((data.id, data.header("streamtype"), data.header("port")), (3, "data", ""));
    assert_eq!(error.reader.next().await, Some(Piece::End));
    // Larger than a piece: it comes in several.
    let sent: Vec<u8> = (0..70_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    client.data(3, true, &sent).await;
    let mut got = Vec::new();
    while let Some(Piece::Data(piece)) = data.reader.next().await {
        got.extend_from_slice(&piece);
    }
    assert_eq!(got, sent);
    // The other direction is still open.
    data.writer.send(Bytes::from_static(b"answer")).await.unwrap();
    data.writer.finish().await.unwrap();
    for _ in 0..2 {
        assert_eq!(kind(client.next().await.0), 2, "a reply to each stream");
    }
    assert_eq!(client.next().await.1, b"answer");
    assert_eq!(client.next().await.0, Head::Data { id: 3, fin: true, length: 0 });
    streams.close().await;
    assert_eq!(kind(client.next().await.0), 7, "a good-bye");
    drop(client);
    work.await.unwrap().unwrap();
}

#[tokio::test]
async fn pings_are_answered_and_bad_streams_refused() {
    let (mut client, mut streams, _work) = session();
    client.io.write_all(&frame::ping(5)).await.unwrap();
    let (head, body) = client.next().await;
    assert_eq!((kind(head), body), (6, vec![0, 0, 0, 5]));
    client.open(2, false, "data").await;
    assert_eq!(client.next().await.1, [0, 0, 0, 2, 0, 0, 0, 1]);
    client.data(9, false, b"lost").await;
    assert_eq!(client.next().await.1, [0, 0, 0, 9, 0, 0, 0, 2]);
    // What was refused has not disturbed the compression.
    client.open(11, false, "data").await;
    let mut stream = streams.next().await.unwrap();
    assert_eq!(stream.header("streamtype"), "data");
    client.io.write_all(&frame::rst_stream(11, Status::Cancel)).await.unwrap();
    assert_eq!(stream.reader.next().await, Some(Piece::Reset));
    assert_eq!(stream.reader.next().await, None);
}

#[tokio::test]
async fn the_end_of_the_connection_ends_the_streams() {
    let (mut client, mut streams, work) = session();
    client.open(1, false, "data").await;
    let mut stream = streams.next().await.unwrap();
    drop(client);
    assert_eq!(stream.reader.next().await, None);
    work.await.unwrap().unwrap();
    assert!(streams.next().await.is_none());
}

#[tokio::test]
async fn too_many_streams_are_refused() {
    let (mut client, mut streams, _work) = session();
    let mut kept = Vec::new();
    for index in 0..u32::try_from(STREAMS_MAX).unwrap() {
        client.open(2 * index + 1, false, "data").await;
        kept.push(streams.next().await.unwrap());
        assert_eq!(kind(client.next().await.0), 2);
    }
    let next = 2 * u32::try_from(STREAMS_MAX).unwrap() + 1;
    client.open(next, false, "data").await;
    let (head, body) = client.next().await;
    assert_eq!((kind(head), body[7]), (3, 3));
    // One that is forgotten makes room.
    kept[0].writer.forget();
    client.open(next + 2, false, "data").await;
    assert_eq!(kind(client.next().await.0), 2);
}

#[tokio::test]
async fn nonsense_ends_the_session() {
    let (mut client, _streams, work) = session();
    client.io.write_all(b"\x80\x02\x00\x01\x00\x00\x00\x00").await.unwrap();
    assert!(work.await.unwrap().is_err());
}
