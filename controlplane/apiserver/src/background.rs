//! What the server does besides answering: following its own indexes, and sweeping.

use std::sync::Arc;

use store::{Event, List, WatchError};
use tracing::Instrument;

use crate::aggregation;
use crate::crd;
use crate::encode;
use crate::flow;
use crate::server::Server;

/// Loads the indexes and starts the tasks that keep them up to date, until shutdown.
pub(crate) fn start(server: &Arc<Server>) {
    follow(server, "rbac.authorization.k8s.io/", |server, key, record| {
        let object = record.map(encode::parse);
        server.rbac.apply(key, object.as_ref());
    });
    follow(server, "/services/", |server, key, record| {
        let object = record.map(encode::parse);
        server.allocations.observe(key, object.as_ref());
    });
    follow(server, "apiextensions.k8s.io/customresourcedefinitions/", |server, key, record| {
        let object = record.map(encode::parse);
        crd::apply(server, key, object.as_ref());
    });
    follow(server, "flowcontrol.apiserver.k8s.io/", |server, key, record| {
        let object = record.map(encode::parse);
        server.flow.apply(key, object.as_ref());
    });
    follow(server, aggregation::SCOPE, |server, key, record| {
        server.aggregation.apply(key, record);
    });
    let conditions = flow::status::run(server.clone());
    tokio::spawn(conditions.instrument(tracing::info_span!("flow schemas")));
    let definitions = crd::run(server.clone());
    tokio::spawn(definitions.instrument(tracing::info_span!("definitions")));
    // Sweeps what has expired, forgets the past and gives disk space back.
    let now_secs = || u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    let maintenance = server.store.clone().maintain(now_secs, server.shutdown.clone());
    tokio::spawn(maintenance.instrument(tracing::info_span!("store maintenance")));
}

type Apply = fn(&Server, &str, Option<&store::Record>);

/// Applies what is there in a scope now, and everything that happens to it from now on.
fn follow(server: &Arc<Server>, scope: &'static str, apply: Apply) {
    let server = server.clone();
    let mut revision = load(&server, scope, apply);
    tokio::spawn(
        async move {
            loop {
                let mut watch = match server.store.watch(scope, revision) {
                    Ok(watch) => watch,
                    Err(_) => {
                        revision = load(&server, scope, apply);
                        continue;
                    }
                };
                loop {
                    let events = tokio::select! {
                        () = server.shutdown.cancelled() => return,
                        events = watch.next() => events,
                    };
                    match events {
                        Ok(events) => {
                            for event in events.iter() {
                                match event {
                                    Event::Created(new) | Event::Updated(new, _) => {
                                        apply(&server, &new.key, Some(new));
                                    }
                                    Event::Deleted(last, _) => apply(&server, &last.key, None),
                                }
                            }
                        }
                        Err(WatchError::Closed) => return,
                        // History has moved on: what is there now says it all but for what is
                        // gone, which these indexes only keep too long.
                        Err(WatchError::TooSlow { .. }) => {
                            revision = load(&server, scope, apply);
                            break;
                        }
                    }
                }
            }
        }
        .instrument(tracing::info_span!("index", scope)),
    );
}

fn load(server: &Server, scope: &str, apply: Apply) -> u64 {
    let query = List { scope, ..List::default() };
    match server.store.list(&query) {
        Ok(page) => {
            for record in &page.records {
                apply(server, &record.key, Some(record));
            }
            page.revision
        }
        Err(_) => server.store.revision(),
    }
}
