//! What others ask of a worker: streams to serve and to let go.

use std::sync::Arc;

use io_uring::opcode;

use super::{CANCEL, PORT, Queues, State};
use crate::slow::mailbox::Command;

impl State {
    /// Does what others asked for. Looked at for each record of the ring, so that nothing is called
    /// where nobody did.
    #[inline]
    pub(super) fn commands(&mut self, queues: &mut Queues<'_>) {
        if !self.start.mailbox.commands.is_empty() {
            self.take_commands(queues);
        }
    }

    #[cold]
    fn take_commands(&mut self, queues: &mut Queues<'_>) {
        let mailbox = Arc::clone(&self.start.mailbox);
        while let Some(command) = mailbox.commands.pop() {
            match command {
                Command::Install { prepared, ports } => {
                    let key = prepared.key;
                    self.table.install(*prepared);
                    if let Some(ports) = ports
                        && !self.ports.has(&key)
                    {
                        for socket in ports {
                            let number = self.ports.add(key, socket);
                            self.rearm.push(PORT | u64::from(number));
                        }
                    }
                }
                Command::Remove { key, done } => {
                    self.table.remove(&key);
                    for number in self.ports.close(&key, done.as_ref()) {
                        let receive = PORT | u64::from(number);
                        let armed = !self.rearm.contains(&receive);
                        self.rearm.retain(|waiting| *waiting != receive);
                        if armed {
                            let cancel = opcode::AsyncCancel::new(receive).build();
                            self.push(queues, &cancel.user_data(CANCEL));
                        } else {
                            self.ports.ended(number);
                        }
                    }
                }
            }
        }
    }
}
