//! The log line of an open flow.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use super::entry::{Entry, Outcome};
use super::flow_start::FlowStart;
use super::writer::AccessLog;
use sandbox_spec::policy::RuleName;

/// An open flow. It counts bytes, and writes its log line when it is finished or dropped.
pub struct FlowEntry {
    log: Rc<AccessLog>,
    entry: Option<Entry>,
    began: Instant,
    up: Cell<u64>,
    down: Cell<u64>,
}

impl FlowEntry {
    /// Starts the line of a flow that `rule` allowed.
    pub fn begin(log: &Rc<AccessLog>, flow: FlowStart, rule: &RuleName) -> Self {
        Self {
            log: Rc::clone(log),
            entry: Some(flow.entry(Outcome::Allowed, rule.to_string(), None)),
            began: Instant::now(),
            up: Cell::new(0),
            down: Cell::new(0),
        }
    }

    /// Counts bytes from the guest.
    pub fn add_up(&self, bytes: u64) {
        self.up.set(self.up.get().saturating_add(bytes));
    }

    /// Counts bytes to the guest.
    pub fn add_down(&self, bytes: u64) {
        self.down.set(self.down.get().saturating_add(bytes));
    }

    /// Ends the flow, which writes its line.
    pub fn finish(self) {}
}

impl Drop for FlowEntry {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.log.write(&Entry {
                up: self.up.get(),
                down: self.down.get(),
                seconds: (self.began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
                ..entry
            });
        }
    }
}
