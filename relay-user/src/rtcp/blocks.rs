//! What RTCP packets contain behind the sender's SSRC.

use super::{Heard, RtcpError, Translator, octets};

/// The octets of a report block (RFC 3550, section 6.4.1).
const REPORT_BLOCK: usize = 24;

impl Translator {
    /// The report blocks of a sender or receiver report.
    pub(super) fn report_blocks(&self, blocks: &mut [u8], count: u8) -> Result<(), RtcpError> {
        let blocks = blocks
            .get_mut(..REPORT_BLOCK * usize::from(count))
            .ok_or(RtcpError::Truncated)?;
        for block in blocks.chunks_exact_mut(REPORT_BLOCK) {
            if let Some(heard) = self.heard(octets(block, 0)?) {
                heard.extended_sequence(octets(block, 8)?);
            }
        }
        Ok(())
    }

    /// The chunks of a source description (RFC 3550, section 6.5).
    pub(super) fn source_description(
        &self,
        mut content: &mut [u8],
        count: u8,
    ) -> Result<(), RtcpError> {
        for _ in 0..count {
            self.own(octets(content, 0)?);
            // Items until one of type zero, then up to the next word.
            let mut at = 4;
            loop {
                match content.get(at).ok_or(RtcpError::Truncated)? {
                    0 => break,
                    _ => {
                        let length = content.get(at + 1).ok_or(RtcpError::Truncated)?;
                        at += 2 + usize::from(*length);
                    }
                }
            }
            let end = (at + 4) & !3;
            content = content.get_mut(end..).ok_or(RtcpError::Truncated)?;
        }
        Ok(())
    }

    /// The control information of transport-layer feedback (RFC 4585, section 6.2; RFC 5104,
    /// section 4.2). `source` is the stream that the packet is about, if we know it.
    pub(super) fn transport_feedback(
        &self,
        format: u8,
        source: Option<&Heard>,
        control: &mut [u8],
    ) -> Result<(), RtcpError> {
        match format {
            // Generic NACK: a sequence number and a bit mask of the following ones.
            1 => {
                if !control.len().is_multiple_of(4) {
                    return Err(RtcpError::Truncated);
                }
                if let Some(heard) = source {
                    for entry in control.chunks_exact_mut(4) {
                        heard.sequence(octets(entry, 0)?);
                    }
                }
            }
            // TMMBR names the senders that it asks.
            3 => self.each_heard(control)?,
            // TMMBN names those that asked.
            4 => self.each_own(control)?,
            _ => {}
        }
        Ok(())
    }

    /// The control information of payload-specific feedback (RFC 4585, section 6.3; RFC 5104,
    /// section 4.3).
    pub(super) fn payload_feedback(&self, format: u8, control: &mut [u8]) -> Result<(), RtcpError> {
        match format {
            // FIR, TSTR and VBCM requests name the senders that they ask, TSTN those that asked.
            4 | 5 => self.each_heard(control),
            6 => self.each_own(control),
            // REMB (application layer): an identifier, a count and the senders.
            15 if control.first_chunk::<4>() == Some(b"REMB") => {
                let count = usize::from(*control.get(4).ok_or(RtcpError::Truncated)?);
                for index in 0..count {
                    self.heard(octets(control, 8 + 4 * index)?);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn each_heard(&self, entries: &mut [u8]) -> Result<(), RtcpError> {
        if !entries.len().is_multiple_of(8) {
            return Err(RtcpError::Truncated);
        }
        for entry in entries.chunks_exact_mut(8) {
            self.heard(octets(entry, 0)?);
        }
        Ok(())
    }

    fn each_own(&self, entries: &mut [u8]) -> Result<(), RtcpError> {
        if !entries.len().is_multiple_of(8) {
            return Err(RtcpError::Truncated);
        }
        for entry in entries.chunks_exact_mut(8) {
            self.own(octets(entry, 0)?);
        }
        Ok(())
    }

    /// The blocks of an extended report (RFC 3611, section 4).
    pub(super) fn extended_report(&self, mut blocks: &mut [u8]) -> Result<(), RtcpError> {
        while !blocks.is_empty() {
            let [kind, _, high, low] = *octets::<4>(blocks, 0)?;
            let length = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
            let (block, following) = blocks
                .split_at_mut_checked(length)
                .ok_or(RtcpError::Truncated)?;
            let content = block.get_mut(4..).unwrap_or_default();
            match kind {
                // Loss RLE, duplicate RLE, packet receipt times, statistics summary: the source,
                // the first sequence number and the one after the last.
                1 | 2 | 3 | 6 => {
                    if let Some(heard) = self.heard(octets(content, 0)?) {
                        heard.sequence(octets(content, 4)?);
                        heard.sequence(octets(content, 6)?);
                    }
                }
                // DLRR answers the receiver reference times of those that it names.
                5 => {
                    if !content.len().is_multiple_of(12) {
                        return Err(RtcpError::Truncated);
                    }
                    for answer in content.chunks_exact_mut(12) {
                        self.heard(octets(answer, 0)?);
                    }
                }
                // VoIP metrics.
                7 => {
                    self.heard(octets(content, 0)?);
                }
                _ => {}
            }
            blocks = following;
        }
        Ok(())
    }
}
