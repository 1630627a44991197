use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use objects::ObjectKey;
use proptest::prelude::*;

use super::*;
use crate::facts::{EndpointFacts, NodeFacts, PortFacts, ServiceFacts, SliceFacts, World};
use crate::ids::Ids;
use crate::plan::plan;
use crate::state::Protocol;

const NODES: [&str; 2] = ["n1", "n2"];

fn endpoint() -> impl Strategy<Value = EndpointFacts> {
    (1..9_u8, any::<bool>(), any::<bool>(), 0..2_usize).prop_map(|(octet, ready, serving, node)| {
        EndpointFacts {
            ip: IpAddr::V4(Ipv4Addr::new(10, 244, 0, octet)),
            ready,
            serving: serving || ready,
            terminating: !ready,
            node_name: Some(NODES[node].to_owned()),
            for_zones: Vec::new(),
            for_nodes: Vec::new(),
        }
    })
}

type Drawn = (bool, bool, u8, Option<u16>, Vec<EndpointFacts>);

fn service() -> impl Strategy<Value = Drawn> {
    let node_port = proptest::option::of(30_000..30_003_u16);
    let endpoints = proptest::collection::vec(endpoint(), 0..6);
    (any::<bool>(), any::<bool>(), 1..5_u8, node_port, endpoints)
}

fn world() -> impl Strategy<Value = World> {
    proptest::collection::btree_map(0..4_u8, service(), 0..4).prop_map(|services| {
        let mut world = World::default();
        for (name, (internal_local, external_local, ip, node_port, endpoints)) in services {
            let key = ObjectKey::new("ns", &format!("s{name}"));
            let port =
                PortFacts { name: String::new(), protocol: Protocol::Tcp, port: 80, node_port };
            let facts = ServiceFacts {
                cluster_ips: vec![IpAddr::V4(Ipv4Addr::new(10, 96, name, ip))],
                ports: vec![port],
                internal_local,
                external_local,
                ..ServiceFacts::default()
            };
            let slice = SliceFacts {
                service: key.clone(),
                ports: vec![(String::new(), Protocol::Tcp, 8080)],
                endpoints,
            };
            world.slices.insert(key.clone(), BTreeMap::from([("x".to_owned(), slice)]));
            world.services.insert(key, facts);
        }
        world
    })
}

fn node() -> NodeFacts {
    NodeFacts {
        name: NODES[0].to_owned(),
        addresses: vec![IpAddr::V4(Ipv4Addr::new(192, 168, 7, 1))],
        ..NodeFacts::default()
    }
}

proptest! {
    /// The law: the operations lead to what is desired, no prefix of them leaves a slot in use
    /// without a backend, and a second look finds nothing to do. The agent restarts in between.
    #[test]
    fn operations_lead_there_and_every_prefix_is_safe(worlds in proptest::collection::vec(world(), 1..5)) {
        let mut held = MapSet::default();
        for world in worlds {
            let mut ids = Ids::recover(&held);
            let desired = plan(&world, &node(), &mut ids);
            prop_assert_eq!(desired.fault(), None);
            for op in diff(&held, &desired) {
                held.apply(&op);
                prop_assert_eq!(held.fault(), None, "after {:?}", op);
            }
            prop_assert_eq!(&held, &desired);
            prop_assert_eq!(diff(&held, &desired), vec![]);
            // A restart recovers every number: nothing is written again.
            let again = plan(&world, &node(), &mut Ids::recover(&held));
            prop_assert_eq!(diff(&held, &again), vec![]);
        }
    }

    /// An id that is used in two generations means the same endpoint in both.
    #[test]
    fn ids_never_change_their_meaning(worlds in proptest::collection::vec(world(), 2..6)) {
        let mut ids = Ids::default();
        let mut meaning = BTreeMap::new();
        for world in worlds {
            let planned = plan(&world, &node(), &mut ids);
            for (id, backend) in &planned.backends {
                let place = (backend.ip, backend.port, backend.service_id);
                prop_assert_eq!(*meaning.entry(*id).or_insert(place), place);
            }
            ids.keep(&planned);
        }
    }
}
