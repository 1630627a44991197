use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn dual_stack_gives_one_of_each_family_in_order() {
    let mut ipam = Ipam::default();
    ipam.set_ranges(&[net("10.244.3.0/24"), net("fd00:3::/64")]);
    let ips: Vec<String> = ipam.allocate().unwrap().iter().map(IpAddr::to_string).collect();
    assert_eq!(ips, ["10.244.3.2", "fd00:3::2"]);
}

#[test]
fn a_freed_address_comes_last() {
    let mut ipam = Ipam::default();
    ipam.set_ranges(&[net("10.0.0.0/29")]);
    // .2 to .6: without network, node and broadcast.
    let all: Vec<IpAddr> = (0..5).map(|_| ipam.allocate().unwrap()[0]).collect();
    assert_eq!(ipam.allocate(), Err(net("10.0.0.0/29")));
    ipam.release(all[3]);
    ipam.release(all[1]);
    assert_eq!(ipam.allocate().unwrap(), [all[3]]);
    assert_eq!(ipam.allocate().unwrap(), [all[1]]);
    assert_eq!(ipam.allocate(), Err(net("10.0.0.0/29")));
}

#[test]
fn an_exhausted_family_takes_nothing_from_the_other() {
    let mut ipam = Ipam::default();
    ipam.set_ranges(&[net("fd00::/64"), net("10.0.0.0/32")]);
    let first = ipam.allocate().unwrap();
    assert_eq!(ipam.allocate(), Err(net("10.0.0.0/32")));
    ipam.release(first[1]);
    assert!(ipam.allocate().is_ok());
}

#[test]
fn after_a_restart_it_goes_on_above_what_is_used() {
    let mut ipam = Ipam::default();
    ipam.claim("10.0.0.4".parse().unwrap());
    ipam.set_ranges(&[net("10.0.0.0/29")]);
    let next: Vec<String> = (0..4).map(|_| ipam.allocate().unwrap()[0].to_string()).collect();
    assert_eq!(next, ["10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.3"]);
}

#[derive(Debug, Clone)]
enum Step {
    Attach,
    Detach(usize),
    Restart,
    Ranges(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Attach),
        3 => any::<usize>().prop_map(Step::Detach),
        1 => Just(Step::Restart),
        1 => any::<bool>().prop_map(Step::Ranges),
    ]
}

proptest! {
    /// No address is given twice at once, whatever the order of attaching, detaching, restarting
    /// and changing ranges; and what is free can be had.
    #[test]
    fn no_address_is_given_twice(steps in proptest::collection::vec(step(), 1..80)) {
        let one = [net("10.0.0.0/28")];
        let two = [net("10.0.0.0/28"), net("fd00::/120")];
        let mut ranges: &[IpNet] = &one;
        let mut ipam = Ipam::default();
        ipam.set_ranges(ranges);
        let mut pods: BTreeMap<usize, Vec<IpAddr>> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Attach => match ipam.allocate() {
                    Ok(ips) => {
                        for ip in &ips {
                            prop_assert!(pods.values().all(|held| !held.contains(ip)), "{ip} twice");
                        }
                        prop_assert_eq!(ips.len(), ranges.len());
                        pods.insert(number, ips);
                    }
                    Err(_) => prop_assert!(pods.len() >= 13, "{} of 13 in use", pods.len()),
                },
                Step::Detach(which) => {
                    let key = pods.keys().nth(which % pods.len().max(1)).copied();
                    for ip in key.and_then(|key| pods.remove(&key)).into_iter().flatten() {
                        ipam.release(ip);
                    }
                }
                Step::Restart => {
                    ipam = Ipam::default();
                    pods.values().flatten().for_each(|ip| ipam.claim(*ip));
                    ipam.set_ranges(ranges);
                }
                Step::Ranges(dual) => {
                    ranges = if dual { &two } else { &one };
                    ipam.set_ranges(ranges);
                }
            }
        }
    }
}
