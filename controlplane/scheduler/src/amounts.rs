//! Amounts of resources as integers: CPU in thousandths, everything else in units. PURE.

use std::collections::BTreeMap;

use objects::facts::Resources;

/// Names and amounts; absent is zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<String, i64>);

impl Amounts {
    /// From quantities.
    pub fn of(resources: &Resources) -> Self {
        let amount = |name: &str, quantity: &objects::quantity::Quantity| match name {
            "cpu" => quantity.milli_value(),
            _ => quantity.value(),
        };
        Self(resources.iter().map(|(name, q)| (name.clone(), amount(name, q))).collect())
    }

    /// The amount of one resource.
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Sets the amount of one resource.
    pub fn set(&mut self, name: &str, amount: i64) {
        self.0.insert(name.to_string(), amount);
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let entry = self.0.entry(name.clone()).or_insert(0);
            *entry = entry.saturating_add(*amount);
        }
    }

    /// Takes all of `other` away.
    pub fn sub(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let entry = self.0.entry(name.clone()).or_insert(0);
            *entry = entry.saturating_sub(*amount);
        }
    }

    /// Names and amounts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }
}
