//! WAV files: mono, 16 bits, linear.

use std::{fs, io, path::Path};

use super::SAMPLE_RATE;

/// Writes samples as a mono 16-bit WAV file.
///
/// # Errors
/// What the file system says.
pub fn write_wav(path: &Path, samples: &[i16]) -> io::Result<()> {
    let octets = u32::try_from(samples.len() * 2).map_err(io::Error::other)?;
    let rate = u32::try_from(SAMPLE_RATE).map_err(io::Error::other)?;
    let mut file = Vec::with_capacity(44 + samples.len() * 2);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(36 + octets).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    file.extend_from_slice(&16u32.to_le_bytes());
    file.extend_from_slice(&1u16.to_le_bytes());
    file.extend_from_slice(&1u16.to_le_bytes());
    file.extend_from_slice(&rate.to_le_bytes());
    file.extend_from_slice(&(rate * 2).to_le_bytes());
    file.extend_from_slice(&2u16.to_le_bytes());
    file.extend_from_slice(&16u16.to_le_bytes());
    file.extend_from_slice(b"data");
    file.extend_from_slice(&octets.to_le_bytes());
    for sample in samples {
        file.extend_from_slice(&sample.to_le_bytes());
    }
    fs::write(path, file)
}

/// Reads a mono 16-bit WAV file at 8 kHz, also one whose writer has not yet put the length into
/// the header.
///
/// # Errors
/// What the file system says; `InvalidData` for another format.
pub fn read_wav(path: &Path) -> io::Result<Vec<i16>> {
    let file = fs::read(path)?;
    let invalid = |what: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {what}", path.display()),
        )
    };
    if file.get(..4) != Some(b"RIFF") || file.get(8..12) != Some(b"WAVE") {
        return Err(invalid("not a WAV file"));
    }
    let mut at = 12;
    while let Some(head) = file.get(at..at + 8) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let end = at.saturating_add(8).saturating_add(length).min(file.len());
        let body = &file[at + 8..];
        match &head[..4] {
            b"fmt " => {
                let word = |index: usize| {
                    body.get(index..index + 2)
                        .map(|octets| u16::from_le_bytes([octets[0], octets[1]]))
                };
                if word(0) != Some(1) || word(2) != Some(1) || word(14) != Some(16) {
                    return Err(invalid("not mono 16-bit linear"));
                }
                if word(4) != Some(8_000) {
                    return Err(invalid("not at 8000 samples a second"));
                }
            }
            b"data" => {
                // A length of zero comes from a writer that is still at it.
                let body = if length == 0 {
                    body
                } else {
                    &file[at + 8..end]
                };
                return Ok(body
                    .chunks_exact(2)
                    .map(|octets| i16::from_le_bytes([octets[0], octets[1]]))
                    .collect());
            }
            _ => {}
        }
        at = end + length % 2;
    }
    Err(invalid("no sound in it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let path = std::env::temp_dir().join(format!("tl-wav-{}.wav", std::process::id()));
        let samples: Vec<i16> = (0..1000).map(|index| index * 31 % 9000 - 4500).collect();
        write_wav(&path, &samples).expect("written");
        let back = read_wav(&path);
        fs::remove_file(&path).expect("removed");
        assert_eq!(back.expect("read"), samples);
    }

    #[test]
    fn another_file_is_refused() {
        let path = std::env::temp_dir().join(format!("tl-nowav-{}.wav", std::process::id()));
        fs::write(&path, b"hello, this is not a sound file").expect("written");
        let back = read_wav(&path);
        fs::remove_file(&path).expect("removed");
        assert!(back.is_err());
    }
}
