//! Several servers on one etcd cluster (docs/decisions/0022).
//!
//! ```text
//! PREFIX/records/KEY   a version without its revision (value.rs)
//! PREFIX/clock         touched by every write: its revision is that of the last write
//! PREFIX/format        "1"
//! ```
//!
//! A write is one transaction on one record and the clock, so a revision has one record's change.
//! The clock tells a reader how far its own view must have come before it may answer.

mod value;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, DeleteOptions, EventType, GetOptions,
    Identity, KeyValue, KvClient, TlsOptions, Txn, TxnOp, TxnOpResponse, TxnResponse, WatchOptions,
    WatchResponse, WatchStream,
};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};

use crate::backend::{Attempt, Changes, Followed, Loaded, Remote, SharedBackend};
use crate::encryption::Encryption;
use crate::error::StoreError;
use crate::record::{Record, Write};

/// What this build writes and understands under `PREFIX/format`.
const FORMAT: u64 = 1;

/// Records asked for at once while loading; halved when they are too big for one answer.
const PAGE: i64 = 500;

/// Largest answer taken from etcd: a page of ordinary records is 1.5 MB, a single one at most 3.
const ANSWER_LIMIT_BYTES: usize = 64 << 20;

/// How long one request may take. A write that took longer may still have happened.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long connecting to one endpoint may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A silent connection is probed so often, and given up after as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How to reach etcd.
#[derive(Debug, Clone)]
pub struct EtcdConfig {
    /// `http://HOST:PORT` or `https://…` of the cluster's members.
    pub endpoints: Vec<String>,
    /// Separates clusters that share one etcd: `/skeg`.
    pub prefix: String,
    /// PEM file with the authority of the members' certificates, for `https`.
    pub ca_file: Option<PathBuf>,
    /// PEM files with our certificate and its key.
    pub identity_files: Option<(PathBuf, PathBuf)>,
}

/// The store in an etcd cluster.
#[derive(Clone)]
pub struct EtcdBackend {
    client: Client,
    kv: KvClient,
    prefix: String,
    name: String,
    encryption: Arc<Encryption>,
}

impl std::fmt::Debug for EtcdBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdBackend").field("name", &self.name).finish_non_exhaustive()
    }
}

impl EtcdBackend {
    /// Connects, and claims the prefix if nothing is there yet.
    ///
    /// # Errors
    /// [`StoreError::Backend`] if etcd does not answer, [`StoreError::Newer`] if a newer skeg uses
    /// the prefix, [`StoreError::Io`] for the files.
    pub async fn open(config: EtcdConfig) -> Result<Self, StoreError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(KEEP_ALIVE, KEEP_ALIVE)
            .with_keep_alive_while_idle(true)
            // A member cut off from the others must not answer from an old state.
            .with_require_leader(true);
        if let Some(tls) = tls(&config).await? {
            options = options.with_tls(tls);
        }
        let name = format!("etcd {}{}", config.endpoints.join(","), config.prefix);
        let client = within("connect to etcd", Client::connect(&config.endpoints, Some(options)));
        let client = client.await?;
        let kv = client.kv_client().max_decoding_message_size(ANSWER_LIMIT_BYTES);
        let encryption = Arc::default();
        let backend = Self { client, kv, prefix: config.prefix, name, encryption };
        backend.check_format().await?;
        Ok(backend)
    }

    /// The same backend with values encrypted. Every server on the cluster needs the same keys.
    #[must_use]
    pub fn encrypted(self, encryption: Arc<Encryption>) -> Self {
        Self { encryption, ..self }
    }

    async fn check_format(&self) -> Result<(), StoreError> {
        let key = self.at("/format");
        let claim = Txn::new()
            .when([Compare::version(key.clone(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key.clone(), FORMAT.to_string(), None)])
            .or_else([TxnOp::get(key.clone(), None)]);
        let answer = within("claim the prefix", self.kv.clone().txn(claim)).await?;
        let Some(found) = single(&answer) else { return Ok(()) };
        let text = String::from_utf8_lossy(found.value()).into_owned();
        match text.parse() {
            Ok(format) if format <= FORMAT => Ok(()),
            Ok(found) => {
                Err(StoreError::Newer { path: self.name.clone().into(), found, known: FORMAT })
            }
            Err(_) => Err(self.damaged(&key, "it is not a format number")),
        }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    fn records(&self) -> String {
        self.at("/records/")
    }

    fn damaged(&self, key: &str, reason: &str) -> StoreError {
        StoreError::Damaged { path: self.name.clone().into(), reason: format!("{key}: {reason}") }
    }

    fn record(&self, found: &KeyValue) -> Result<Record, StoreError> {
        let shown = String::from_utf8_lossy(found.key()).into_owned();
        let key = shown.strip_prefix(&self.records());
        let key = key.ok_or_else(|| self.damaged(&shown, "it is outside the records"))?;
        let stored = value::decode(found.value());
        let stored = stored.ok_or_else(|| self.damaged(&shown, "the value is not a version"))?;
        let payload = stored.open(key, &self.encryption);
        let payload = payload.map_err(|reason| self.damaged(&shown, reason))?;
        let (revision, created) = (number(found.mod_revision()), number(found.create_revision()));
        Ok(Record::from_payload(key.into(), revision, created, &payload))
    }

    async fn load_all(&self) -> Result<Loaded, StoreError> {
        let mut records = Vec::new();
        let revision = self.each_record(|_, _, record| records.push(record)).await?;
        Ok(Loaded { records, revision })
    }

    /// Goes through all records as of one revision, which is returned.
    async fn each_record(
        &self,
        mut each: impl FnMut(&Self, &KeyValue, Record),
    ) -> Result<u64, StoreError> {
        let end = prefix_end(&self.records());
        let mut next = self.records().into_bytes();
        let (mut revision, mut limit) = (0, PAGE);
        loop {
            let options =
                GetOptions::new().with_range(end.clone()).with_limit(limit).with_revision(revision);
            let mut kv = self.kv.clone();
            let page = kv.get(next.clone(), Some(options));
            let page = match within("load from etcd", page).await {
                // Too big for one answer, perhaps.
                Err(_) if limit > 1 => {
                    limit /= 2;
                    continue;
                }
                page => page?,
            };
            revision = revision.max(page.header().map_or(0, etcd_client::ResponseHeader::revision));
            for found in page.kvs() {
                each(self, found, self.record(found)?);
            }
            match page.kvs().last() {
                Some(last) if page.more() => {
                    next = last.key().to_vec();
                    next.push(0);
                }
                Some(_) | None => return Ok(number(revision)),
            }
        }
    }

    async fn attempt_now(&self, key: &str, write: &Write) -> Result<Attempt, StoreError> {
        let at = format!("{}{key}", self.records());
        let clock = TxnOp::put(self.at("/clock"), "", None);
        let keys_only = || Some(GetOptions::new().with_keys_only());
        let put =
            |payload| TxnOp::put(at.clone(), value::encode(key, payload, &self.encryption), None);
        let is_at = |revision: u64| {
            let revision = i64::try_from(revision).unwrap_or(i64::MAX);
            Compare::mod_revision(at.clone(), CompareOp::Equal, revision)
        };
        let (condition, operations) = match write {
            Write::Create(payload) => {
                let absent = Compare::version(at.clone(), CompareOp::Equal, 0);
                (absent, vec![put(payload), TxnOp::get(at.clone(), keys_only()), clock])
            }
            Write::Update(payload, expected) => {
                let get = TxnOp::get(at.clone(), keys_only());
                (is_at(*expected), vec![put(payload), get, clock])
            }
            // Asks what was there before it deletes it, in the same transaction.
            Write::Delete(_, expected) => {
                let get = TxnOp::get(at.clone(), keys_only());
                (is_at(*expected), vec![get, TxnOp::delete(at.clone(), None), clock])
            }
        };
        let txn = Txn::new()
            .when([condition])
            .and_then(operations)
            .or_else([TxnOp::get(at.clone(), None)]);
        let answer = within("write to etcd", self.kv.clone().txn(txn)).await?;
        let found = single(&answer);
        if !answer.succeeded() {
            let current = found.map(|found| self.record(&found)).transpose()?;
            return Ok(Attempt::Refused(current.map(Arc::new)));
        }
        let revision = number(answer.header().map_or(0, etcd_client::ResponseHeader::revision));
        let created = found.map_or(revision, |found| number(found.create_revision()));
        Ok(Attempt::Done { revision, created })
    }

    async fn follow_from(&self, after: u64) -> Result<Changes, StoreError> {
        let start = i64::try_from(after + 1).unwrap_or(i64::MAX);
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(start)
            // A group of changes may be larger than one message.
            .with_fragment();
        let mut client = self.client.watch_client().max_decoding_message_size(ANSWER_LIMIT_BYTES);
        let watch = within("watch etcd", client.watch(self.records(), Some(options))).await?;
        let follow = |(backend, mut watch): (Self, WatchStream)| async {
            let followed = backend.next_followed(&mut watch).await;
            Some((followed, (backend, watch)))
        };
        Ok(stream::unfold((self.clone(), watch), follow).boxed())
    }

    async fn next_followed(&self, watch: &mut WatchStream) -> Result<Followed, StoreError> {
        match watch.message().await {
            Ok(Some(message)) if message.compact_revision() > 0 => Ok(Followed::Forgotten),
            Ok(Some(message)) if message.canceled() => {
                Err(failed("watch etcd", message.cancel_reason()))
            }
            Ok(Some(message)) => self.changes(&message).map(Followed::Changes),
            Ok(None) => Err(failed("watch etcd", "the connection was closed")),
            Err(error) => Err(failed("watch etcd", &error)),
        }
    }

    fn changes(&self, message: &WatchResponse) -> Result<Vec<Remote>, StoreError> {
        let found = message.events().iter().filter_map(|event| Some((event, event.kv()?)));
        let changes = found.map(|(event, found)| match event.event_type() {
            EventType::Put => Ok(Remote::Put(Arc::new(self.record(found)?))),
            EventType::Delete => {
                let shown = String::from_utf8_lossy(found.key()).into_owned();
                let key = shown.strip_prefix(&self.records()).unwrap_or_default();
                Ok(Remote::Deleted { key: key.into(), revision: number(found.mod_revision()) })
            }
        });
        changes.collect()
    }

    async fn last_write_now(&self) -> Result<u64, StoreError> {
        // Gets are linearizable unless asked otherwise.
        let mut kv = self.kv.clone();
        let answer = within("read the clock from etcd", kv.get(self.at("/clock"), None)).await?;
        Ok(answer.kvs().first().map_or(0, |clock| number(clock.mod_revision())))
    }

    async fn reseal_now(&self) -> Result<usize, StoreError> {
        let mut resealed = 0;
        for record in self.stale().await? {
            let (key, write) = (&record.key, Write::Update(record.payload(), record.revision));
            // Refused: somebody else has written it meanwhile, and so encrypted it.
            if let Attempt::Done { .. } = self.attempt_now(key, &write).await? {
                resealed += 1;
            }
        }
        Ok(resealed)
    }

    async fn stale(&self) -> Result<Vec<Record>, StoreError> {
        let mut stale = Vec::new();
        self.each_record(|backend, found, record| {
            if value::decode(found.value())
                .is_some_and(|stored| stored.is_stale(&record.key, &backend.encryption))
            {
                stale.push(record);
            }
        })
        .await?;
        Ok(stale)
    }

    async fn compact_to(&self, revision: u64) -> Result<(), StoreError> {
        let revision = i64::try_from(revision).unwrap_or(i64::MAX);
        match within("compact etcd", self.kv.clone().compact(revision, None)).await {
            Ok(_) => Ok(()),
            // Another server was faster.
            Err(StoreError::Backend { reason, .. }) if reason.contains("compacted") => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl SharedBackend for EtcdBackend {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn load(&self) -> BoxFuture<'_, Result<Loaded, StoreError>> {
        self.load_all().boxed()
    }

    fn attempt<'a>(
        &'a self,
        key: &'a str,
        write: &'a Write,
    ) -> BoxFuture<'a, Result<Attempt, StoreError>> {
        self.attempt_now(key, write).boxed()
    }

    fn follow(&self, after: u64) -> BoxFuture<'_, Result<Changes, StoreError>> {
        self.follow_from(after).boxed()
    }

    fn last_write(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.last_write_now().boxed()
    }

    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        self.compact_to(revision).boxed()
    }

    fn reseal(&self) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.reseal_now().boxed()
    }

    fn size_bytes(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        async {
            let mut client = self.client.maintenance_client();
            let status = within("ask etcd for its size", client.status()).await?;
            Ok(number(status.db_size()))
        }
        .boxed()
    }

    fn clear(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async {
            let options = DeleteOptions::new().with_prefix();
            let mut kv = self.kv.clone();
            within("clear etcd", kv.delete(self.records(), Some(options))).await.map(drop)
        }
        .boxed()
    }
}

async fn tls(config: &EtcdConfig) -> Result<Option<TlsOptions>, StoreError> {
    if config.ca_file.is_none() && config.identity_files.is_none() {
        return Ok(None);
    }
    let read = async |path: &PathBuf| {
        let failed = |source| StoreError::Io { operation: "read", path: path.clone(), source };
        tokio::fs::read(path).await.map_err(failed)
    };
    let mut tls = TlsOptions::new();
    if let Some(path) = &config.ca_file {
        tls = tls.ca_certificate(Certificate::from_pem(read(path).await?));
    }
    if let Some((certificate, key)) = &config.identity_files {
        tls = tls.identity(Identity::from_pem(read(certificate).await?, read(key).await?));
    }
    Ok(Some(tls))
}

/// The one version that a transaction asked for.
fn single(answer: &TxnResponse) -> Option<KeyValue> {
    answer.op_responses().into_iter().find_map(|response| match response {
        TxnOpResponse::Get(get) => get.kvs().first().cloned(),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
    })
}

/// Bounds a request, and names it in its error.
async fn within<T>(
    operation: &'static str,
    request: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failed(operation, &error)),
        Err(_) => Err(failed(operation, "etcd does not answer")),
    }
}

fn failed(operation: &'static str, reason: impl ToString) -> StoreError {
    StoreError::Backend { operation, reason: reason.to_string() }
}

/// etcd's numbers are never negative.
fn number(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The first key after all that start with `prefix`, which ends in `/`.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
