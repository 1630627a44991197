use super::*;

#[test]
fn what_is_written_is_read_back() {
    for ip in ["10.96.0.10", "fd00::10", "0.0.0.0", "::1"] {
        let ip: IpAddr = ip.parse().unwrap();
        assert_eq!(decode_ip(encode_ip(ip)), ip);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for scope in [Scope::Internal, Scope::External] {
                let key = FrontendKey { ip, port: 443, protocol, scope };
                assert_eq!(decode_key(&encode_key(&key)), key);
            }
            for local in [true, false] {
                let backend = Backend { ip, port: 8443, service_id: 7, protocol, local };
                assert_eq!(decode_backend(&encode_backend(&backend)), backend);
            }
        }
    }
    for (host_only, local) in [(false, false), (true, false), (false, true), (true, true)] {
        let frontend = Frontend {
            service_id: 1,
            first_slot: 2,
            slot_count: 3,
            affinity_timeout_secs: 4,
            host_only,
            local,
        };
        assert_eq!(decode_frontend(&encode_frontend(&frontend)), frontend);
    }
}

#[test]
fn networks_are_read_back_in_both_families() {
    for net in ["10.244.0.0/24", "192.168.7.1/32", "fd00:1::/64", "0.0.0.0/0"] {
        let net: IpNet = net.parse().unwrap();
        for kind in [NetworkKind::Pods, NetworkKind::Node] {
            assert_eq!(decode_network(&encode_net(net), encode_kind(kind)), (net, kind));
        }
    }
}

#[test]
fn addresses_are_in_network_order_as_the_programs_read_them() {
    let words = encode_ip("10.96.0.10".parse().unwrap());
    assert_eq!(words[..3], [0, 0, layout::MAPPED_PREFIX_BE]);
    assert_eq!(words[3].to_ne_bytes(), [10, 96, 0, 10]);
}
