//! Translates RTCP between the legs, in place and without allocation (RFC 3550, section 6; RFC 4585;
//! RFC 5104; RFC 3611).
//!
//! What a leg says about itself is translated as its stream towards the other leg is. What it
//! reports about the stream that it hears is led back to what the other leg sent: SSRC and sequence
//! numbers. Reception statistics themselves stay the reporter's.

mod blocks;
mod error;
#[cfg(test)]
mod tests;

pub use error::RtcpError;

/// The stream that the sender of an RTCP packet sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Its SSRC, `None` while no RTP packet told it; then every sender is taken for it.
    pub ssrc_in: Option<u32>,
    /// As the other leg hears it.
    pub ssrc_out: u32,
    /// Added to RTP timestamps, modulo 2^32.
    pub timestamp_offset: u32,
}

/// The stream that the sender of an RTCP packet hears, and that its reports are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// As the sender hears it.
    pub ssrc_out: u32,
    /// As the other leg sends it.
    pub ssrc_in: u32,
    /// Extended sequence numbers as heard less those as sent, modulo 2^32.
    pub sequence_shift: u32,
}

/// How the RTCP of one leg becomes the other's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translator {
    pub sent: Sent,
    /// `None` while the other leg has sent nothing.
    pub heard: Option<Heard>,
}

/// Packet types (RFC 3550, section 12.1; RFC 4585, section 6.1; RFC 3611, section 2).
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const APPLICATION: u8 = 204;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const EXTENDED_REPORT: u8 = 207;

/// The octets of a packet's header: version, padding and count, type, length.
const HEADER: usize = 4;

impl Translator {
    /// Translates a compound packet, or a packet of reduced size (RFC 5506). After an error some of
    /// it may be translated: it is not to be sent.
    ///
    /// # Errors
    /// [`RtcpError`] for what is not RTCP, or contradicts its own lengths (RFC 3550, section A.2).
    pub fn translate(&self, compound: &mut [u8]) -> Result<(), RtcpError> {
        if compound.is_empty() {
            return Err(RtcpError::Truncated);
        }
        let mut rest = compound;
        while !rest.is_empty() {
            let Some([first, kind, high, low]) = rest.first_chunk::<HEADER>().copied() else {
                return Err(RtcpError::Truncated);
            };
            if first >> 6 != 2 {
                return Err(RtcpError::Version);
            }
            if !(192..=223).contains(&kind) {
                return Err(RtcpError::Type);
            }
            let length = HEADER + 4 * usize::from(u16::from_be_bytes([high, low]));
            let Some((packet, following)) = rest.split_at_mut_checked(length) else {
                return Err(RtcpError::Truncated);
            };
            let mut content = packet.get_mut(HEADER..).unwrap_or_default();
            if first & 0x20 != 0 {
                // Padding is the last packet's alone, and a multiple of four octets.
                let padding = usize::from(content.last().copied().unwrap_or(0));
                if !following.is_empty() || padding == 0 || padding % 4 != 0 {
                    return Err(RtcpError::Padding);
                }
                let kept = content
                    .len()
                    .checked_sub(padding)
                    .ok_or(RtcpError::Padding)?;
                content = content.get_mut(..kept).unwrap_or_default();
            }
            self.packet(kind, first & 0x1f, content)?;
            rest = following;
        }
        Ok(())
    }

    fn packet(&self, kind: u8, count: u8, content: &mut [u8]) -> Result<(), RtcpError> {
        match kind {
            SENDER_REPORT => {
                let (ours, report) = self.sender(content)?;
                let timestamp = octets::<4>(report, 8)?;
                if ours {
                    let offset = self.sent.timestamp_offset;
                    *timestamp = u32::from_be_bytes(*timestamp)
                        .wrapping_add(offset)
                        .to_be_bytes();
                }
                self.report_blocks(report.get_mut(20..).ok_or(RtcpError::Truncated)?, count)
            }
            RECEIVER_REPORT => {
                let (_, report) = self.sender(content)?;
                self.report_blocks(report, count)
            }
            SOURCE_DESCRIPTION => self.source_description(content, count),
            GOODBYE => {
                for index in 0..usize::from(count) {
                    self.own(octets(content, 4 * index)?);
                }
                Ok(())
            }
            APPLICATION => {
                let (_, name) = self.sender(content)?;
                octets::<4>(name, 0).map(|_| ())
            }
            TRANSPORT_FEEDBACK => {
                let (_, feedback) = self.sender(content)?;
                let source = self.heard(octets(feedback, 0)?);
                let control = feedback.get_mut(4..).unwrap_or_default();
                self.transport_feedback(count, source, control)
            }
            PAYLOAD_FEEDBACK => {
                let (_, feedback) = self.sender(content)?;
                self.heard(octets(feedback, 0)?);
                let control = feedback.get_mut(4..).unwrap_or_default();
                self.payload_feedback(count, control)
            }
            EXTENDED_REPORT => {
                let (_, reports) = self.sender(content)?;
                self.extended_report(reports)
            }
            // Whatever else is registered passes as it is.
            _ => Ok(()),
        }
    }

    /// Translates the sender's SSRC at the beginning of `content`; whether it is the stream's, and
    /// the rest.
    fn sender<'a>(&self, content: &'a mut [u8]) -> Result<(bool, &'a mut [u8]), RtcpError> {
        let (ssrc, rest) = content
            .split_first_chunk_mut::<4>()
            .ok_or(RtcpError::Truncated)?;
        Ok((self.own(ssrc), rest))
    }

    /// Translates `ssrc` if it is that of the stream that the leg sends.
    fn own(&self, ssrc: &mut [u8; 4]) -> bool {
        let known = self.sent.ssrc_in;
        let ours = known.is_none_or(|known| known == u32::from_be_bytes(*ssrc));
        if ours {
            *ssrc = self.sent.ssrc_out.to_be_bytes();
        }
        ours
    }

    /// Translates `ssrc` if it is that of the stream that the leg hears, and returns that stream.
    fn heard(&self, ssrc: &mut [u8; 4]) -> Option<&Heard> {
        let heard = self
            .heard
            .as_ref()
            .filter(|heard| heard.ssrc_out == u32::from_be_bytes(*ssrc))?;
        *ssrc = heard.ssrc_in.to_be_bytes();
        Some(heard)
    }
}

impl Heard {
    /// A sequence number as it was sent.
    fn sequence(&self, octets: &mut [u8; 2]) {
        let shift = self.sequence_shift as u16;
        *octets = u16::from_be_bytes(*octets)
            .wrapping_sub(shift)
            .to_be_bytes();
    }

    /// An extended sequence number as it was sent. A reporter that counts its cycles from another
    /// packet on than we do would fall below zero; it keeps none then.
    fn extended_sequence(&self, octets: &mut [u8; 4]) {
        let sent = u32::from_be_bytes(*octets).wrapping_sub(self.sequence_shift);
        let sent = if sent > i32::MAX as u32 {
            sent & 0xffff
        } else {
            sent
        };
        *octets = sent.to_be_bytes();
    }
}

/// `N` octets of `content` at `offset`.
fn octets<const N: usize>(content: &mut [u8], offset: usize) -> Result<&mut [u8; N], RtcpError> {
    content
        .get_mut(offset..)
        .and_then(|rest| rest.first_chunk_mut::<N>())
        .ok_or(RtcpError::Truncated)
}
