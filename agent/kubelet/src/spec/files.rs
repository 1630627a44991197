//! `/etc/hosts`, `/etc/resolv.conf` and the host name of a pod. PURE.
//!
//! Source of behaviour: kubernetes pkg/kubelet/kubelet_pods.go (`hostsFileContent`,
//! `GeneratePodHostNameAndDomain`) and pkg/kubelet/network/dns/dns.go, v1.36.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

use crate::pod::PodExt;

/// Longest host name that Linux takes.
const HOSTNAME_MAX: usize = 63;
/// Limits of what pods' resolvers read. Source: pkg/apis/core/validation, `MaxDNSNameservers` …
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

/// The host name of a pod, and its domain if it has a subdomain.
pub(crate) fn hostname(pod: &Pod, cluster_domain: &str) -> (String, Option<String>) {
    let spec = PodExt::spec(pod);
    if let Some(name) = spec.hostname_override.as_deref().filter(|name| !name.is_empty()) {
        return (name.to_owned(), None);
    }
    let own = spec.hostname.as_deref().filter(|name| !name.is_empty()).unwrap_or(pod.name());
    let mut name = own;
    if name.len() > HOSTNAME_MAX {
        name = name[..name.floor_char_boundary(HOSTNAME_MAX)].trim_end_matches(['-', '.']);
    }
    let subdomain = spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty());
    let domain =
        subdomain.map(|subdomain| format!("{subdomain}.{}.svc.{cluster_domain}", pod.namespace()));
    (name.to_owned(), domain)
}

/// The host name that the kernel is told: fully qualified if the pod wants that.
pub(crate) fn uts_hostname(pod: &Pod, node_hostname: &str, cluster_domain: &str) -> String {
    if pod.is_host_network() && PodExt::spec(pod).hostname_override.is_none() {
        return node_hostname.to_owned();
    }
    match hostname(pod, cluster_domain) {
        (name, Some(domain)) if PodExt::spec(pod).set_hostname_as_fqdn == Some(true) => {
            format!("{name}.{domain}")
        }
        (name, _) => name,
    }
}

/// `/etc/hosts`. A pod on the node's network has the node's own, which is given.
pub(crate) fn hosts(
    pod: &Pod,
    addresses: &[IpAddr],
    node_hosts: Option<&str>,
    cluster_domain: &str,
) -> String {
    let mut text = match node_hosts {
        Some(own) => format!("# Kubernetes-managed hosts file (host network).\n{own}"),
        None => concat!(
            "# Kubernetes-managed hosts file.\n",
            "127.0.0.1\tlocalhost\n",
            "::1\tlocalhost ip6-localhost ip6-loopback\n",
            "fe00::0\tip6-localnet\n",
            "fe00::0\tip6-mcastprefix\n",
            "fe00::1\tip6-allnodes\n",
            "fe00::2\tip6-allrouters\n",
        )
        .to_owned(),
    };
    if node_hosts.is_none() {
        let (name, domain) = hostname(pod, cluster_domain);
        for address in addresses {
            match &domain {
                Some(domain) => {
                    text.push_str(&format!("{address}\t{name}.{domain}\t{name}\n"));
                }
                None => text.push_str(&format!("{address}\t{name}\n")),
            }
        }
    }
    let aliases = PodExt::spec(pod).host_aliases.as_deref().unwrap_or(&[]);
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or(&[]);
            text.push_str(&format!("{}\t{}\n", alias.ip, names.join("\t")));
        }
    }
    text
}

/// A resolver configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    pub(crate) nameservers: Vec<String>,
    pub(crate) searches: Vec<String>,
    pub(crate) options: Vec<String>,
}

/// Reads a `resolv.conf`.
pub(crate) fn parse_resolver(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or("");
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => resolver.nameservers.extend(words.next().map(str::to_owned)),
            // The last line of these wins.
            Some("search") => {
                let domains = words.map(|word| word.trim_end_matches('.').to_owned());
                resolver.searches = domains.filter(|word| !word.is_empty()).collect();
            }
            Some("options") => resolver.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    resolver
}

/// The resolver configuration of a pod.
pub(crate) fn resolver(
    pod: &Pod,
    node: &Resolver,
    cluster_dns: &[IpAddr],
    cluster_domain: &str,
) -> Resolver {
    let spec = PodExt::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let of_cluster = match policy {
        "None" => None,
        "ClusterFirstWithHostNet" => Some(true),
        "ClusterFirst" => Some(!pod.is_host_network()),
        _ => Some(false),
    };
    let mut made = match of_cluster {
        None => Resolver::default(),
        Some(true) if !cluster_dns.is_empty() => {
            let namespace = pod.namespace();
            let mut searches = vec![
                format!("{namespace}.svc.{cluster_domain}"),
                format!("svc.{cluster_domain}"),
                cluster_domain.to_owned(),
            ];
            searches.extend(node.searches.iter().cloned());
            Resolver {
                nameservers: cluster_dns.iter().map(ToString::to_string).collect(),
                searches,
                options: vec!["ndots:5".to_owned()],
            }
        }
        Some(_) => node.clone(),
    };
    if let Some(config) = &spec.dns_config {
        made.nameservers.extend(config.nameservers.iter().flatten().cloned());
        made.searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            made.options.retain(|known| known.split(':').next() != Some(name));
            made.options.push(match option.value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.clone(),
            });
        }
    }
    unique(&mut made.nameservers);
    unique(&mut made.searches);
    limit(&mut made);
    made
}

fn unique(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

fn limit(resolver: &mut Resolver) {
    resolver.nameservers.truncate(NAMESERVERS_MAX);
    resolver.searches.truncate(SEARCHES_MAX);
    while resolver.searches.join(" ").len() > SEARCH_CHARS_MAX {
        resolver.searches.pop();
    }
}

/// The text of a `resolv.conf`.
pub(crate) fn print_resolver(resolver: &Resolver) -> String {
    let mut text = String::new();
    if !resolver.searches.is_empty() {
        text.push_str(&format!("search {}\n", resolver.searches.join(" ")));
    }
    for server in &resolver.nameservers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !resolver.options.is_empty() {
        text.push_str(&format!("options {}\n", resolver.options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        serde_json::from_value(
            json!({"metadata": {"name": "web-0", "namespace": "n"}, "spec": spec}),
        )
        .unwrap()
    }

    #[test]
    fn host_names() {
        for (spec, wanted) in [
            (json!({}), "web-0"),
            (json!({"hostname": "h", "subdomain": "s"}), "h"),
            (
                json!({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true}),
                "h.s.n.svc.cluster.local",
            ),
            (json!({"hostNetwork": true}), "node"),
            (json!({"hostNetwork": true, "hostnameOverride": "o"}), "o"),
        ] {
            assert_eq!(uts_hostname(&pod(spec), "node", "cluster.local"), wanted);
        }
    }

    #[test]
    fn hosts_files() {
        let pod = pod(json!({"subdomain": "s",
            "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["a", "b.c"]}]}));
        let text = hosts(&pod, &["10.1.0.2".parse().unwrap()], None, "cluster.local");
        expect![[r#"
            # Kubernetes-managed hosts file.
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
            fe00::0	ip6-localnet
            fe00::0	ip6-mcastprefix
            fe00::1	ip6-allnodes
            fe00::2	ip6-allrouters
            10.1.0.2	web-0.s.n.svc.cluster.local	web-0

            # Entries added by HostAliases.
            192.0.2.9	a	b.c
        "#]]
        .assert_eq(&text);
        let text = hosts(&self::pod(json!({})), &[], Some("1.2.3.4 x\n"), "cluster.local");
        assert_eq!(text, "# Kubernetes-managed hosts file (host network).\n1.2.3.4 x\n");
    }

    #[test]
    fn resolver_policies() {
        let node =
            parse_resolver("# c\nnameserver 192.0.2.53\nsearch example.org. b\noptions rotate\n");
        let dns: Vec<IpAddr> = vec!["10.96.0.10".parse().unwrap()];
        let made = |spec| print_resolver(&resolver(&pod(spec), &node, &dns, "cluster.local"));
        assert_eq!(
            made(json!({})),
            "search n.svc.cluster.local svc.cluster.local cluster.local example.org b\n\
             nameserver 10.96.0.10\noptions ndots:5\n"
        );
        let of_node = "search example.org b\nnameserver 192.0.2.53\noptions rotate\n";
        assert_eq!(made(json!({"dnsPolicy": "Default"})), of_node);
        assert_eq!(made(json!({"hostNetwork": true})), of_node);
        assert!(
            made(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}))
                .contains("10.96.0.10")
        );
        assert_eq!(
            made(json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.1"],
                "searches": ["x"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}})),
            "search x\nnameserver 1.1.1.1\noptions ndots:2 edns0\n"
        );
        assert!(
            made(json!({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}}))
                .ends_with("options ndots:1\n")
        );
    }
}
