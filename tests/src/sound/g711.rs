//! μ-law and A-law by ITU-T G.711.

/// Encodes one sample as μ-law, the bits inverted as they go on the wire.
#[must_use]
pub fn encode_ulaw(sample: i16) -> u8 {
    const BIAS: i32 = 0x84;
    const CLIP: i32 = 32_635;
    let sign = if sample < 0 { 0x80u8 } else { 0 };
    let magnitude = i32::from(sample).abs().min(CLIP) + BIAS;
    // The segment is the position of the highest bit above bit 7.
    let exponent = (31 - magnitude.leading_zeros()).saturating_sub(7);
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    !(sign | u8::try_from(exponent << 4).unwrap_or(0x70) | u8::try_from(mantissa).unwrap_or(0))
}

/// Decodes one μ-law octet.
#[must_use]
pub fn decode_ulaw(octet: u8) -> i16 {
    let octet = !octet;
    let exponent = u32::from(octet >> 4 & 0x07);
    let magnitude = (((i16::from(octet & 0x0f) << 3) + 0x84) << exponent) - 0x84;
    if octet & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

/// Decodes one A-law octet.
#[must_use]
pub fn decode_alaw(octet: u8) -> i16 {
    let octet = octet ^ 0x55;
    let exponent = u32::from(octet >> 4 & 0x07);
    let mantissa = i16::from(octet & 0x0f) << 4;
    let magnitude = match exponent {
        0 => mantissa + 8,
        _ => (mantissa + 0x108) << (exponent - 1),
    };
    if octet & 0x80 == 0 {
        -magnitude
    } else {
        magnitude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulaw_reproduces_every_code_word() {
        for octet in 0..=u8::MAX {
            let sample = decode_ulaw(octet);
            // 0x7f is negative zero, which encodes as positive zero.
            let expected = if octet == 0x7f { 0xff } else { octet };
            assert_eq!(encode_ulaw(sample), expected, "code word {octet:#04x}");
        }
    }

    #[test]
    fn known_values_of_the_recommendation() {
        assert_eq!(decode_ulaw(0x80), 32_124);
        assert_eq!(decode_ulaw(0x00), -32_124);
        assert_eq!(decode_ulaw(0xff), 0);
        assert_eq!(decode_alaw(0xd5), 8);
        assert_eq!(decode_alaw(0xaa), 32_256);
        assert_eq!(decode_alaw(0x2a), -32_256);
    }
}
