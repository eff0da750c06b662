use super::*;
use crate::media::SrtpSuite;

fn key(suite: SrtpSuite, mki: Option<&[u8]>) -> SrtpKey {
    SrtpKey {
        suite,
        master: (0..suite.master_length())
            .map(|octet| octet as u8 ^ 0x5a)
            .collect::<Vec<_>>()
            .into(),
        mki: mki.map(<[u8]>::to_vec),
    }
}

fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend(160u32.wrapping_mul(sequence.into()).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend((0..160).map(|octet| octet as u8));
    packet
}

fn rtcp(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([7; 20]);
    packet
}

fn protect(context: &mut Outbound, packet: &[u8]) -> Vec<u8> {
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len() + TRAILER, 0);
    let length = context
        .protect(&mut buffer, packet.len())
        .expect("protected");
    buffer.truncate(length);
    buffer
}

fn unprotect(context: &mut Inbound, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut buffer = packet.to_vec();
    let length = context.unprotect(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

const MKIS: [Option<&[u8]>; 3] = [None, Some(&[1]), Some(&[9, 8, 7, 6])];

#[test]
fn every_suite_round_trips_rtp_and_rtcp_with_and_without_mki() {
    for suite in SrtpSuite::ALL {
        for mki in MKIS {
            let key = key(suite, mki);
            let mut ours = Outbound::new(&key).expect("key fits");
            let mut theirs = Inbound::new(&key).expect("key fits");
            let tag = match suite {
                SrtpSuite::AesCm128HmacSha1_80 | SrtpSuite::AesCm256HmacSha1_80 => 10,
                SrtpSuite::AesCm128HmacSha1_32 | SrtpSuite::AesCm256HmacSha1_32 => 4,
                SrtpSuite::AeadAes128Gcm | SrtpSuite::AeadAes256Gcm => 16,
            };
            for sequence in 0..3 {
                let plain = rtp(7, sequence);
                let sealed = protect(&mut ours, &plain);
                assert_eq!(sealed.len(), plain.len() + tag + mki.map_or(0, <[u8]>::len));
                assert_eq!(sealed[..12], plain[..12]);
                assert_ne!(sealed[12..172], plain[12..]);
                assert_eq!(
                    unprotect(&mut theirs, &sealed),
                    Ok(plain),
                    "{suite:?} {mki:?}"
                );
            }

            let plain = rtcp(7);
            let mut buffer = plain.clone();
            buffer.resize(plain.len() + TRAILER, 0);
            let length = ours
                .protect_rtcp(&mut buffer, plain.len())
                .expect("protected");
            let tag = if tag == 16 { 16 } else { 10 };
            assert_eq!(length, plain.len() + 4 + tag + mki.map_or(0, <[u8]>::len));
            buffer.truncate(length);
            let mut replayed = buffer.clone();
            let length = theirs.unprotect_rtcp(&mut buffer).expect("authentic");
            assert_eq!(buffer[..length], plain, "{suite:?} {mki:?}");
            assert_eq!(theirs.unprotect_rtcp(&mut replayed), Err(SrtpError::Replay));
        }
    }
}

/// RFC 3711 gives the keystream (section B.2) and key derivation (B.3) only; the packet is the one
/// of libsrtp's own test with the master key and salt of B.3.
#[test]
fn the_master_key_of_rfc_3711_b_3_makes_the_known_packet() {
    let key = SrtpKey {
        suite: SrtpSuite::AesCm128HmacSha1_80,
        master: hex("e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6").into(),
        mki: None,
    };
    let plain = hex("800f1234decafbadcafebabe abababababababababababababababab");
    let sealed =
        hex("800f1234decafbadcafebabe 4e55dc4ce79978d88ca4d215949d2402 b78d6acc99ea179b8dbb");
    assert_eq!(
        protect(&mut Outbound::new(&key).expect("key fits"), &plain),
        sealed
    );
    assert_eq!(
        unprotect(&mut Inbound::new(&key).expect("key fits"), &sealed),
        Ok(plain)
    );
}

#[test]
fn a_changed_octet_anywhere_is_refused() {
    for suite in SrtpSuite::ALL {
        let key = key(suite, None);
        let sealed = protect(&mut Outbound::new(&key).expect("key fits"), &rtp(7, 1));
        for index in [1, 4, 11, 12, 90, sealed.len() - 1] {
            let mut damaged = sealed.clone();
            damaged[index] ^= 1;
            let mut theirs = Inbound::new(&key).expect("key fits");
            assert_eq!(
                unprotect(&mut theirs, &damaged),
                Err(SrtpError::Authentication),
                "{suite:?} {index}"
            );
            assert_eq!(
                unprotect(&mut theirs, &sealed),
                Ok(rtp(7, 1)),
                "{suite:?} {index}"
            );
        }
    }
}

#[test]
fn replays_and_packets_behind_the_window_are_refused_and_late_ones_taken() {
    let key = key(SrtpSuite::AesCm128HmacSha1_80, None);
    let mut ours = Outbound::new(&key).expect("key fits");
    let mut theirs = Inbound::new(&key).expect("key fits");
    let sealed: Vec<_> = (0..200)
        .map(|sequence| protect(&mut ours, &rtp(7, sequence)))
        .collect();
    assert!(unprotect(&mut theirs, &sealed[0]).is_ok());
    assert!(unprotect(&mut theirs, &sealed[199]).is_ok());
    assert_eq!(unprotect(&mut theirs, &sealed[199]), Err(SrtpError::Replay));
    assert_eq!(
        unprotect(&mut theirs, &sealed[199 - 127]),
        Ok(rtp(7, 199 - 127))
    );
    assert_eq!(
        unprotect(&mut theirs, &sealed[199 - 127]),
        Err(SrtpError::Replay)
    );
    assert_eq!(unprotect(&mut theirs, &sealed[1]), Err(SrtpError::Replay));
}

#[test]
fn the_rollover_counter_counts_on_and_can_be_carried_over() {
    for suite in SrtpSuite::ALL {
        let key = key(suite, None);
        let mut ours = Outbound::new(&key).expect("key fits");
        let mut theirs = Inbound::new(&key).expect("key fits");
        assert_eq!(ours.roc(7), None);
        for sequence in [65_534, 65_535, 0, 1] {
            let sealed = protect(&mut ours, &rtp(7, sequence));
            assert_eq!(unprotect(&mut theirs, &sealed), Ok(rtp(7, sequence)));
        }
        assert_eq!((ours.roc(7), theirs.roc(7)), (Some(1), Some(1)));

        // Somebody else takes over both sides, knowing only the key and the counter.
        let mut sender = Outbound::new(&key).expect("key fits");
        let sealed = if matches!(suite, SrtpSuite::AeadAes128Gcm | SrtpSuite::AeadAes256Gcm) {
            assert_eq!(sender.set_roc(7, 1), Err(SrtpError::Rollover));
            protect(&mut ours, &rtp(7, 2))
        } else {
            sender.set_roc(7, 1).expect("room");
            protect(&mut sender, &rtp(7, 2))
        };
        assert_eq!(unprotect(&mut theirs, &sealed), Ok(rtp(7, 2)), "{suite:?}");
        let mut receiver = Inbound::new(&key).expect("key fits");
        assert_eq!(
            unprotect(&mut receiver, &sealed),
            Ok(rtp(7, 2)),
            "{suite:?}"
        );
    }
}

/// Protects packets of which nobody hears until the sequence number has turned so often.
fn go_round(context: &mut Outbound, ssrc: u32, turns: u16) {
    for step in 0..4 * turns {
        protect(context, &rtp(ssrc, step.wrapping_mul(0x4000)));
    }
}

/// A leg that comes from another call may have protected for longer than a turn already.
#[test]
fn a_stream_that_has_gone_on_elsewhere_is_found_in_its_turn() {
    for suite in SrtpSuite::ALL {
        for mki in [None, Some(&[9, 8, 7, 6][..])] {
            for (turns, first) in [(1, 0), (1, 9), (2, 65_535), (3, 40_000), (7, 5), (8, 5)] {
                let name = format!("{suite:?} {mki:?} {turns} {first}");
                let key = key(suite, mki);
                let mut theirs = Outbound::new(&key).expect("key fits");
                go_round(&mut theirs, 7, turns);
                for sequence in (0..first).step_by(0x4000) {
                    protect(&mut theirs, &rtp(7, sequence));
                }
                let late = (first > 1).then(|| protect(&mut theirs, &rtp(7, first - 1)));
                let sealed = protect(&mut theirs, &rtp(7, first));
                let mut ours = Inbound::sharing(&key, None).expect("key fits");
                // What came before the call had the key's first packet.
                for _ in 0..3 {
                    let mut forged = sealed.clone();
                    *forged.last_mut().expect("a tag") ^= 1;
                    if mki.is_none() {
                        let refused = unprotect(&mut ours, &forged);
                        assert_eq!(refused, Err(SrtpError::Authentication), "{name}");
                    }
                }
                let taken = unprotect(&mut ours, &sealed);
                if turns == 8 {
                    assert_eq!(taken, Err(SrtpError::Authentication), "{name}");
                    continue;
                }
                assert_eq!(taken, Ok(rtp(7, first)), "{name}");
                let again = unprotect(&mut ours, &sealed);
                assert_eq!(again, Err(SrtpError::Replay), "{name}");
                if let Some(late) = late {
                    assert_eq!(unprotect(&mut ours, &late), Ok(rtp(7, first - 1)), "{name}");
                    let again = unprotect(&mut ours, &late);
                    assert_eq!(again, Err(SrtpError::Replay), "{name}");
                }
                // Over the next turns.
                let mut recorded = Vec::new();
                for step in 1..12_u16 {
                    let sequence = first.wrapping_add(step.wrapping_mul(0x3000));
                    let sealed = protect(&mut theirs, &rtp(7, sequence));
                    assert_eq!(
                        unprotect(&mut ours, &sealed),
                        Ok(rtp(7, sequence)),
                        "{name}"
                    );
                    recorded.push(sealed);
                }
                for sealed in recorded {
                    assert!(unprotect(&mut ours, &sealed).is_err(), "{name}");
                }
                // A later SSRC begins its own turns.
                go_round(&mut theirs, 8, 1);
                let other = protect(&mut theirs, &rtp(8, 0));
                let refused = unprotect(&mut ours, &other);
                assert_eq!(refused, Err(SrtpError::Authentication), "{name}");
            }
        }
    }
}

#[test]
fn rtcp_that_comes_first_is_no_packet_of_the_stream_and_is_not_replayed() {
    for suite in SrtpSuite::ALL {
        let key = key(suite, None);
        let mut theirs = Outbound::new(&key).expect("key fits");
        go_round(&mut theirs, 7, 2);
        let plain = rtcp(7);
        let mut report = plain.clone();
        report.resize(plain.len() + TRAILER, 0);
        let length = theirs.protect_rtcp(&mut report, plain.len());
        report.truncate(length.expect("protected"));
        let mut ours = Inbound::sharing(&key, None).expect("key fits");
        assert!(
            ours.unprotect_rtcp(&mut report.clone()).is_ok(),
            "{suite:?}"
        );

        let sealed = protect(&mut theirs, &rtp(7, 3));
        let forged = protect(&mut theirs, &rtp(7, 4));
        let forged = [&forged[..12], &[1; 160], &forged[172..]].concat();
        let refused = unprotect(&mut ours, &forged);
        assert_eq!(refused, Err(SrtpError::Authentication), "{suite:?}");
        assert_eq!(unprotect(&mut ours, &sealed), Ok(rtp(7, 3)), "{suite:?}");
        let again = ours.unprotect_rtcp(&mut report);
        assert_eq!(again, Err(SrtpError::Replay), "{suite:?}");
    }
}

/// Whoever forges packets before the first good one can make it come a little later, not never.
#[test]
fn a_flood_does_not_keep_a_stream_from_being_found() {
    for suite in SrtpSuite::ALL {
        let key = key(suite, None);
        let mut theirs = Outbound::new(&key).expect("key fits");
        go_round(&mut theirs, 7, 3);
        let mut ours = Inbound::sharing(&key, None).expect("key fits");
        for ssrc in 0..2000 {
            let forged = [rtp(ssrc, 3), vec![1; 16]].concat();
            assert_eq!(
                unprotect(&mut ours, &forged),
                Err(SrtpError::Authentication)
            );
        }
        // A third of a second of a telephone's packets.
        let found = (0..16).any(|step| {
            let sealed = protect(&mut theirs, &rtp(7, step));
            unprotect(&mut ours, &sealed).is_ok()
        });
        assert!(found, "{suite:?}");
    }
}

#[test]
fn a_key_of_another_length_and_an_impossible_mki_are_refused() {
    for suite in SrtpSuite::ALL {
        let mut short = key(suite, None);
        short.master.pop();
        assert_eq!(Inbound::new(&short).err(), Some(SrtpError::Key));
        assert_eq!(
            Outbound::new(&key(suite, Some(&[]))).err(),
            Some(SrtpError::Key)
        );
        assert_eq!(
            Outbound::new(&key(suite, Some(&[0; 129]))).err(),
            Some(SrtpError::Key)
        );
    }
}

#[test]
fn another_mki_is_refused() {
    let mut ours =
        Outbound::new(&key(SrtpSuite::AesCm128HmacSha1_80, Some(&[1, 2]))).expect("fits");
    let mut theirs =
        Inbound::new(&key(SrtpSuite::AesCm128HmacSha1_80, Some(&[1, 3]))).expect("fits");
    let sealed = protect(&mut ours, &rtp(7, 0));
    assert_eq!(unprotect(&mut theirs, &sealed), Err(SrtpError::Mki));
}

#[test]
fn a_key_serves_a_bounded_number_of_sources_and_forgeries_count_for_none() {
    let key = key(SrtpSuite::AesCm128HmacSha1_80, None);
    let mut theirs = Inbound::new(&key).expect("key fits");
    for ssrc in 0..1000 {
        let forged = rtp(ssrc, 0);
        assert_eq!(
            unprotect(&mut theirs, &forged),
            Err(SrtpError::Authentication)
        );
    }
    for ssrc in 0..SOURCES as u32 {
        let mut ours = Outbound::new(&key).expect("key fits");
        let sealed = protect(&mut ours, &rtp(ssrc, 0));
        assert_eq!(unprotect(&mut theirs, &sealed), Ok(rtp(ssrc, 0)));
    }
    let mut ours = Outbound::new(&key).expect("key fits");
    let sealed = protect(&mut ours, &rtp(5000, 0));
    assert_eq!(unprotect(&mut theirs, &sealed), Err(SrtpError::Sources));
    let sealed = protect(&mut ours, &rtp(3, 1));
    assert_eq!(unprotect(&mut theirs, &sealed), Ok(rtp(3, 1)));
}

#[test]
fn damaged_and_truncated_packets_are_errors() {
    for suite in SrtpSuite::ALL {
        let key = key(suite, Some(&[4]));
        let mut theirs = Inbound::new(&key).expect("key fits");
        let sealed = protect(&mut Outbound::new(&key).expect("key fits"), &rtp(7, 0));
        for length in 0..sealed.len() {
            assert!(theirs.unprotect(&mut sealed[..length].to_vec()).is_err());
            assert!(
                theirs
                    .unprotect_rtcp(&mut sealed[..length].to_vec())
                    .is_err()
            );
        }
        let mut ours = Outbound::new(&key).expect("key fits");
        let mut buffer = vec![0x80; 172 + TRAILER];
        assert_eq!(ours.protect(&mut buffer, 173), Err(SrtpError::NoRoom));
        assert_eq!(ours.protect(&mut buffer, 5), Err(SrtpError::Malformed));
        assert_eq!(
            ours.protect(&mut buffer, usize::MAX),
            Err(SrtpError::NoRoom)
        );
    }
}

#[test]
fn a_context_knows_its_key_and_never_shows_it() {
    let mine = key(SrtpSuite::AesCm128HmacSha1_80, Some(&[4]));
    let context = Inbound::new(&mine).expect("key fits");
    assert!(context.uses(&mine));
    assert!(!context.uses(&key(SrtpSuite::AesCm128HmacSha1_80, None)));
    assert!(!context.uses(&key(SrtpSuite::AesCm128HmacSha1_32, Some(&[4]))));
    let shown = format!("{context:?}");
    let octets = format!("{:?}", &mine.master[..4]);
    assert!(!shown.contains(octets.trim_matches(['[', ']'])), "{shown}");
}
