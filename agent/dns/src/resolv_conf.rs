//! PURE: the name servers in a `resolv.conf`.

use std::net::{IpAddr, SocketAddr};

/// The name servers listed, in order, with the port that they all have.
pub(crate) fn name_servers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().map(|line| line.split(['#', ';']).next().unwrap_or(""));
    let values = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    // An IPv6 address may name its link (`fe80::1%eth0`), which is of no use to a socket address.
    let ips = values.filter_map(|value| value.split('%').next()?.parse::<IpAddr>().ok());
    ips.map(|ip| SocketAddr::new(ip, 53)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_name_servers_are_read() {
        let text = "# by hand\nsearch example.org\nnameserver 192.0.2.1 # first\n\
                    nameserver fd00::53\noptions ndots:5\nnameserver nonsense\n ;nameserver 1.1.1.1";
        let servers: Vec<String> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[fd00::53]:53"]);
    }
}
