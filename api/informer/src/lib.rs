//! List + watch → one shared, indexed view per process; a work queue; carrying out API actions.
