//! Below which amounts a node is under pressure. PURE.
//!
//! Source: the kubelet's `--eviction-hard`, whose syntax and defaults these are.

use std::str::FromStr;

use objects::quantity::Quantity;

use crate::machine::Free;

/// The least that must be free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Least {
    /// Bytes, inodes or process ids.
    Amount(i64),
    /// Thousandths of a percent of all there is.
    PercentMillis(i64),
}

impl Least {
    const NOTHING: Self = Self::Amount(0);

    fn is_short(self, free: i64, all: i64) -> bool {
        match self {
            Self::Amount(least) => free < least,
            // What could not be measured is not short.
            Self::PercentMillis(_) if all <= 0 => false,
            Self::PercentMillis(percent) => {
                i128::from(free) * 100_000 < i128::from(all) * i128::from(percent)
            }
        }
    }
}

/// When a node is under pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvictionThresholds {
    memory: Least,
    storage: Least,
    inodes: Least,
    pids: Least,
}

impl Default for EvictionThresholds {
    fn default() -> Self {
        Self {
            memory: Least::Amount(100 << 20),
            storage: Least::PercentMillis(10_000),
            inodes: Least::PercentMillis(5_000),
            pids: Least::Amount(1000),
        }
    }
}

/// Why a list of thresholds was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// Not `SIGNAL<AMOUNT`.
    #[error("{0:?} is not a threshold: give SIGNAL<AMOUNT, such as nodefs.available<10%")]
    Shape(String),
    /// No such signal.
    #[error(
        "there is no signal {0:?}: there are memory.available, nodefs.available, \
         nodefs.inodesFree and pid.available"
    )]
    Signal(String),
    /// Neither a quantity nor a share.
    #[error("{0:?} is neither a quantity, such as 100Mi, nor a share of 0% to 100%")]
    Amount(String),
}

impl FromStr for EvictionThresholds {
    type Err = ThresholdError;

    /// Reads `memory.available<100Mi,nodefs.available<10%`. A signal that is not named is not
    /// watched, as with the kubelet.
    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let nothing = Least::NOTHING;
        let mut thresholds =
            Self { memory: nothing, storage: nothing, inodes: nothing, pids: nothing };
        for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            let (signal, amount) =
                one.split_once('<').ok_or_else(|| ThresholdError::Shape(one.to_owned()))?;
            let least = match signal {
                "memory.available" => &mut thresholds.memory,
                "nodefs.available" => &mut thresholds.storage,
                "nodefs.inodesFree" => &mut thresholds.inodes,
                "pid.available" => &mut thresholds.pids,
                _ => return Err(ThresholdError::Signal(signal.to_owned())),
            };
            *least = parse_amount(amount)?;
        }
        Ok(thresholds)
    }
}

fn parse_amount(text: &str) -> Result<Least, ThresholdError> {
    let wrong = || ThresholdError::Amount(text.to_owned());
    let quantity = |text: &str| Quantity::parse(text).map_err(|_| wrong());
    let least = match text.strip_suffix('%') {
        Some(share) => Least::PercentMillis(quantity(share)?.milli_value()),
        None => Least::Amount(quantity(text)?.value()),
    };
    match least {
        Least::PercentMillis(0..=100_000) | Least::Amount(0..) => Ok(least),
        _ => Err(wrong()),
    }
}

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    pub(crate) pids: bool,
}

impl EvictionThresholds {
    /// Compares what is free with what must be.
    pub(crate) fn pressure(&self, free: Free, memory_bytes: i64, storage_bytes: i64) -> Pressure {
        Pressure {
            memory: self.memory.is_short(free.memory_bytes, memory_bytes),
            disk: self.storage.is_short(free.storage_bytes, storage_bytes)
                || self.inodes.is_short(free.inodes, free.inodes_all),
            pids: self.pids.is_short(free.pids, free.pids_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(memory_bytes: i64, storage_bytes: i64, inodes: i64, pids: i64) -> Free {
        Free { memory_bytes, storage_bytes, inodes, inodes_all: 1000, pids, pids_max: 10_000 }
    }

    fn short(thresholds: &str, free: Free) -> (bool, bool, bool) {
        let thresholds = match thresholds {
            "" => EvictionThresholds::default(),
            text => text.parse().expect("thresholds"),
        };
        let pressure = thresholds.pressure(free, 1 << 31, 1000);
        (pressure.memory, pressure.disk, pressure.pids)
    }

    #[test]
    fn pressure_is_what_is_below_the_thresholds() {
        for (thresholds, free, wanted) in [
            ("", free(1 << 30, 500, 500, 5000), (false, false, false)),
            ("", free(1 << 20, 500, 500, 5000), (true, false, false)),
            ("", free(1 << 30, 99, 500, 5000), (false, true, false)),
            ("", free(1 << 30, 500, 49, 5000), (false, true, false)),
            ("", free(1 << 30, 500, 500, 999), (false, false, true)),
            ("nodefs.available<0.5%", free(0, 5, 0, 0), (false, false, false)),
            ("nodefs.available<0.5%", free(0, 4, 0, 0), (false, true, false)),
            (
                "memory.available<1Gi,pid.available<51%",
                free(1 << 29, 0, 0, 5099),
                (true, false, true),
            ),
            ("nodefs.inodesFree<100", free(0, 0, 99, 0), (false, true, false)),
        ] {
            assert_eq!(short(thresholds, free), wanted, "{thresholds} {free:?}");
        }
    }

    #[test]
    fn what_is_no_threshold_is_refused() {
        for (text, part) in [
            ("nodefs.available", "is not a threshold"),
            ("nodefs.available>10%", "is not a threshold"),
            ("imagefs.size<10%", "there is no signal"),
            ("nodefs.available<101%", "neither a quantity"),
            ("nodefs.available<-1", "neither a quantity"),
            ("memory.available<lots", "neither a quantity"),
        ] {
            let error = text.parse::<EvictionThresholds>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
