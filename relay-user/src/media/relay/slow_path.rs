//! The workers, as the media plane uses them.

use relay_abi::flow::FlowKey;

use crate::slow::{SlowCounters, SlowError, SlowFlow, Workers, WorkersSnapshot};

/// [`Workers`], or in tests something that only notes what it is told.
pub(super) trait SlowPath: Send + Sync {
    fn install(&self, key: FlowKey, flow: SlowFlow) -> Result<(), SlowError>;
    fn remove(&self, key: &FlowKey) -> Result<(), SlowError>;
    fn read(&self, key: &FlowKey) -> Option<SlowCounters>;
    fn snapshot(&self) -> WorkersSnapshot;
}

impl SlowPath for Workers {
    fn install(&self, key: FlowKey, flow: SlowFlow) -> Result<(), SlowError> {
        self.install(key, flow)
    }

    fn remove(&self, key: &FlowKey) -> Result<(), SlowError> {
        self.remove(key)
    }

    fn read(&self, key: &FlowKey) -> Option<SlowCounters> {
        self.read(key)
    }

    fn snapshot(&self) -> WorkersSnapshot {
        self.snapshot()
    }
}
