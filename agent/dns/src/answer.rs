//! PURE: from a question to its answer.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::query::{Service, Subject, subject};
use crate::records::{EndpointRecord, PortRecord, Records, ServiceRecord, reverse};

/// How long answers may be kept, and the absence of one. Short, because endpoints change.
const TTL_SECS: u32 = 5;
/// The version of the specification that these answers follow.
const VERSION: &str = "1.1.0";
/// Weight of all targets of one port together.
const SRV_WEIGHT: u16 = 100;

/// What this server stands for.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    /// The cluster's domain.
    pub(crate) domain: Name,
    /// Where this server listens.
    pub(crate) server_ips: Vec<IpAddr>,
}

/// What to do with a question.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Answer it.
    Reply(Reply),
    /// Answer it with this and with what the target has to say.
    Chase(Reply, Name),
    /// It is not about the cluster: ask others.
    Forward,
}

/// An answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Reply {
    /// Success, or that there is no such name, or that it is not known yet.
    pub(crate) code: ResponseCode,
    /// Answers.
    pub(crate) answers: Vec<Record>,
    /// What also helps.
    pub(crate) additionals: Vec<Record>,
    /// The zone's SOA record, when there is no answer.
    pub(crate) authorities: Vec<Record>,
}

/// What is known of a subject.
enum Found {
    /// The name does not exist.
    Nothing,
    /// The name exists, without a record of its own.
    Empty,
    /// Addresses, and ports that lead to them.
    Addresses(Vec<IpAddr>, Vec<Target>),
    /// Only ports.
    Ports(Vec<Target>),
    /// Another name.
    Alias(Name),
    /// The domain.
    Apex,
    /// The version of the specification.
    Version,
}

/// What an SRV record points at.
struct Target {
    name: Name,
    port: u16,
    weight: u16,
    ips: Vec<IpAddr>,
}

/// Answers a question about `name`. `turn` rotates the order of several answers, so that clients
/// that take the first one spread.
pub(crate) fn answer(
    records: &Records,
    zone: &Zone,
    name: &Name,
    wanted: RecordType,
    turn: usize,
) -> Outcome {
    if let Ok(net) = name.parse_arpa_name() {
        return reverse_answer(records, zone, name, wanted, net);
    }
    if !zone.domain.zone_of(name) {
        return Outcome::Forward;
    }
    if matches!(wanted, RecordType::AXFR | RecordType::IXFR) {
        return Outcome::Reply(zone.reply(ResponseCode::Refused));
    }
    let count = usize::from(name.num_labels() - zone.domain.num_labels());
    let labels: Vec<&[u8]> = name.iter().take(count).collect();
    let found = find(records, zone, &subject(&labels));
    match found {
        // What is not there may be there once everything has been seen.
        Found::Nothing if !records.synced => {
            Outcome::Reply(Reply { authorities: Vec::new(), ..zone.reply(ResponseCode::ServFail) })
        }
        Found::Nothing => Outcome::Reply(zone.reply(ResponseCode::NXDomain)),
        Found::Empty => Outcome::Reply(zone.reply(ResponseCode::NoError)),
        Found::Alias(target) => alias(zone, name, wanted, target),
        Found::Addresses(ips, targets) => {
            let mut reply = zone.reply(ResponseCode::NoError);
            reply.answers = address_records(name, &ips, wanted);
            if wanted == RecordType::SRV {
                add_targets(&mut reply, name, &targets);
            }
            finish(reply, turn)
        }
        Found::Ports(targets) => {
            let mut reply = zone.reply(ResponseCode::NoError);
            if matches!(wanted, RecordType::SRV | RecordType::ANY) {
                add_targets(&mut reply, name, &targets);
            }
            finish(reply, turn)
        }
        Found::Apex => finish(zone.apex(name, wanted), turn),
        Found::Version => {
            let mut reply = zone.reply(ResponseCode::NoError);
            if matches!(wanted, RecordType::TXT | RecordType::ANY) {
                let text = RData::TXT(TXT::new(vec![VERSION.to_owned()]));
                reply.answers.push(record(name, text));
            }
            finish(reply, turn)
        }
    }
}

fn find(records: &Records, zone: &Zone, subject: &Subject) -> Found {
    let exists = |exists: bool| if exists { Found::Empty } else { Found::Nothing };
    match subject {
        Subject::Domain => Found::Apex,
        Subject::Version => Found::Version,
        Subject::Server => Found::Addresses(zone.server_ips.clone(), Vec::new()),
        Subject::Branch => Found::Empty,
        Subject::Nothing => Found::Nothing,
        Subject::Namespace(namespace) => exists(records.has_services_in(namespace)),
        Subject::Pod(ip) => Found::Addresses(vec![*ip], Vec::new()),
        Subject::Service(service) => match records.service(service) {
            None => Found::Nothing,
            // By the specification; clients see that nobody is there.
            Some(ServiceRecord::Headless(endpoints)) if endpoints.is_empty() => Found::Nothing,
            Some(ServiceRecord::External(target)) => {
                Name::from_ascii(target).map_or(Found::Empty, |mut target| {
                    target.set_fqdn(true);
                    Found::Alias(target)
                })
            }
            Some(record) => Found::Addresses(ips(record), zone.targets(service, record, |_| true)),
        },
        Subject::Endpoint(service, hostname) => match records.service(service) {
            Some(ServiceRecord::Headless(endpoints)) => {
                let named = endpoints.iter().filter(|endpoint| endpoint.hostname == *hostname);
                let ips: Vec<IpAddr> = named.map(|endpoint| endpoint.ip).collect();
                if ips.is_empty() { Found::Nothing } else { Found::Addresses(ips, Vec::new()) }
            }
            _ => Found::Nothing,
        },
        Subject::Protocol(service, protocol) => {
            exists(has_port(records, service, |port| port.protocol == *protocol))
        }
        Subject::Port(service, protocol, name) => {
            let matches = |port: &PortRecord| {
                port.protocol == *protocol && port.name.eq_ignore_ascii_case(name)
            };
            let targets =
                records.service(service).map(|record| zone.targets(service, record, matches));
            match targets {
                Some(targets) if !targets.is_empty() => Found::Ports(targets),
                _ => Found::Nothing,
            }
        }
    }
}

fn has_port(records: &Records, service: &Service, wanted: impl Fn(&PortRecord) -> bool) -> bool {
    let wanted = |port: &PortRecord| !port.name.is_empty() && wanted(port);
    match records.service(service) {
        Some(ServiceRecord::Cluster { ports, .. }) => ports.iter().any(wanted),
        Some(ServiceRecord::Headless(endpoints)) => {
            endpoints.iter().flat_map(|endpoint| &endpoint.ports).any(wanted)
        }
        Some(ServiceRecord::External(_)) | None => false,
    }
}

/// Addresses of a Service, each once.
fn ips(record: &ServiceRecord) -> Vec<IpAddr> {
    match record {
        ServiceRecord::Cluster { ips, .. } => ips.clone(),
        ServiceRecord::Headless(endpoints) => {
            let mut ips: Vec<IpAddr> = endpoints.iter().map(|endpoint| endpoint.ip).collect();
            ips.sort_unstable();
            ips.dedup();
            ips
        }
        ServiceRecord::External(_) => Vec::new(),
    }
}

impl Zone {
    /// An answer without answers yet.
    fn reply(&self, code: ResponseCode) -> Reply {
        let authorities = vec![self.soa(&self.domain)];
        Reply { code, answers: Vec::new(), additionals: Vec::new(), authorities }
    }

    fn apex(&self, name: &Name, wanted: RecordType) -> Reply {
        let mut reply = self.reply(ResponseCode::NoError);
        if matches!(wanted, RecordType::SOA | RecordType::ANY) {
            reply.answers.push(self.soa(name));
        }
        if matches!(wanted, RecordType::NS | RecordType::ANY) {
            let server = self.below(&[b"ns", b"dns"]);
            reply.answers.push(record(name, RData::NS(NS(server.clone()))));
            reply.additionals = address_records(&server, &self.server_ips, RecordType::ANY);
        }
        reply
    }

    /// Serials do not matter: nobody transfers this zone.
    fn soa(&self, owner: &Name) -> Record {
        let server = self.below(&[b"ns", b"dns"]);
        let person = self.below(&[b"hostmaster"]);
        let minimum = TTL_SECS;
        let soa = SOA::new(server, person, 1, 7200, 1800, 86_400, minimum);
        record(owner, RData::SOA(soa))
    }

    /// A name below the domain. What the API holds are valid labels; a name that is too long all
    /// the same becomes the domain, which nobody mistakes for an answer.
    fn below(&self, labels: &[&[u8]]) -> Name {
        let labels = labels.iter().copied().chain(self.domain.iter());
        let mut name = Name::from_labels(labels).unwrap_or_else(|_| self.domain.clone());
        name.set_fqdn(true);
        name
    }

    fn service_name(&self, service: &Service) -> Name {
        self.below(&[service.name.as_bytes(), service.namespace.as_bytes(), b"svc"])
    }

    fn endpoint_name(&self, service: &Service, hostname: &str) -> Name {
        let (name, namespace) = (service.name.as_bytes(), service.namespace.as_bytes());
        self.below(&[hostname.as_bytes(), name, namespace, b"svc"])
    }

    /// What the ports of a Service that are `wanted` point at.
    fn targets(
        &self,
        service: &Service,
        record: &ServiceRecord,
        wanted: impl Fn(&PortRecord) -> bool,
    ) -> Vec<Target> {
        match record {
            ServiceRecord::Cluster { ips, ports } => {
                let ports = ports.iter().filter(|port| wanted(port));
                let target = |port: &PortRecord| Target {
                    name: self.service_name(service),
                    port: port.port,
                    weight: SRV_WEIGHT,
                    ips: ips.clone(),
                };
                ports.map(target).collect()
            }
            ServiceRecord::Headless(endpoints) => {
                let each = |endpoint: &EndpointRecord| -> Vec<Target> {
                    let ports = endpoint.ports.iter().filter(|port| wanted(port));
                    let target = |port: &PortRecord| Target {
                        name: self.endpoint_name(service, &endpoint.hostname),
                        port: port.port,
                        weight: 0,
                        ips: vec![endpoint.ip],
                    };
                    ports.map(target).collect()
                };
                let mut targets: Vec<Target> = endpoints.iter().flat_map(each).collect();
                let count = u16::try_from(targets.len()).unwrap_or(u16::MAX).max(1);
                targets.iter_mut().for_each(|target| target.weight = (SRV_WEIGHT / count).max(1));
                targets
            }
            ServiceRecord::External(_) => Vec::new(),
        }
    }
}

fn alias(zone: &Zone, name: &Name, wanted: RecordType, target: Name) -> Outcome {
    let mut reply = zone.reply(ResponseCode::NoError);
    reply.answers.push(record(name, RData::CNAME(CNAME(target.clone()))));
    reply.authorities.clear();
    if wanted == RecordType::CNAME {
        return Outcome::Reply(reply);
    }
    Outcome::Chase(reply, target)
}

fn reverse_answer(
    records: &Records,
    zone: &Zone,
    name: &Name,
    wanted: RecordType,
    net: ipnet::IpNet,
) -> Outcome {
    let Some(ip) = reverse(net) else {
        return Outcome::Forward;
    };
    let of_service = records.cluster_ip(ip).map(|service| zone.service_name(service));
    let of_endpoints =
        records.endpoints(ip).map(|(service, hostname)| zone.endpoint_name(service, hostname));
    let names: Vec<Name> = of_service.into_iter().chain(of_endpoints).collect();
    if names.is_empty() {
        return Outcome::Forward;
    }
    let mut reply = zone.reply(ResponseCode::NoError);
    if matches!(wanted, RecordType::PTR | RecordType::ANY) {
        reply.answers = names.into_iter().map(|to| record(name, RData::PTR(PTR(to)))).collect();
    }
    finish(reply, 0)
}

/// Rotates the answers, and drops the SOA record where there are some.
fn finish(mut reply: Reply, turn: usize) -> Outcome {
    if !reply.answers.is_empty() {
        reply.authorities.clear();
        let count = reply.answers.len();
        reply.answers.rotate_left(turn % count);
    }
    Outcome::Reply(reply)
}

fn address_records(name: &Name, ips: &[IpAddr], wanted: RecordType) -> Vec<Record> {
    let is_wanted = |ip: &&IpAddr| match wanted {
        RecordType::A => ip.is_ipv4(),
        RecordType::AAAA => ip.is_ipv6(),
        RecordType::ANY => true,
        _ => false,
    };
    ips.iter().filter(is_wanted).map(|ip| record(name, RData::from(*ip))).collect()
}

fn add_targets(reply: &mut Reply, name: &Name, targets: &[Target]) {
    for target in targets {
        let srv = SRV::new(0, target.weight, target.port, target.name.clone());
        reply.answers.push(record(name, RData::SRV(srv)));
        for address in address_records(&target.name, &target.ips, RecordType::ANY) {
            if !reply.additionals.contains(&address) {
                reply.additionals.push(address);
            }
        }
    }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL_SECS, data)
}

#[cfg(test)]
mod tests;
