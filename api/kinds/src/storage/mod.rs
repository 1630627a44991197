//! Storage classes, CSI drivers and their volumes.
//!
//! Source of behaviour: kubernetes `pkg/apis/storage` and `pkg/registry/storage`, v1.36.

mod attachment;
mod capacity;
mod class;
mod driver;
mod node;

pub(crate) use attachment::VolumeAttachment;
pub(crate) use capacity::CSIStorageCapacity;
pub(crate) use class::{StorageClass, VolumeAttributesClass};
pub(crate) use driver::CSIDriver;
pub(crate) use node::CSINode;
