use std::vec::Vec;

use super::{
    aes::{Shared, expand, spread},
    derivation::{SessionKeys, counter},
    index::{IndexError, IndexState, WINDOW},
    key::{PreparedKey, Tag},
    machine::Plain,
    packet::{CryptError, LONGEST, Work},
    sha1,
};

fn hex<const N: usize>(text: &str) -> [u8; N] {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    let octets: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    octets.try_into().expect("as many octets as were asked for")
}

fn key(tag: Tag, mki: &[u8]) -> PreparedKey {
    let master = hex("e1f97a0d3e018be0d64fa32c06de4139");
    let salt = hex("0ec675ad498afeebb6960b3aabe6");
    PreparedKey::new(&master, &salt, tag, mki).expect("the MKI is short enough")
}

fn protect(key: &PreparedKey, state: &IndexState, packet: &[u8]) -> Result<Vec<u8>, CryptError> {
    let mut work = Work::default();
    work.packet().fill(0xa5);
    work.packet()[..packet.len()].copy_from_slice(packet);
    let length = work.protect(key, state, packet.len())?;
    Ok(work.packet()[..length].to_vec())
}

fn unprotect(key: &PreparedKey, state: &IndexState, packet: &[u8]) -> Result<Vec<u8>, CryptError> {
    let mut work = Work::default();
    work.packet().fill(0xa5);
    work.packet()[..packet.len()].copy_from_slice(packet);
    let length = work.unprotect(key, state, packet.len())?;
    Ok(work.packet()[..length].to_vec())
}

fn rtp(sequence: u16, payload: usize) -> Vec<u8> {
    let mut packet = std::vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend([0, 0, 0, 160, 1, 2, 3, 4]);
    packet.extend((0..payload).map(|octet| octet as u8));
    packet
}

/// The words of a keystream block as octets.
fn octets(block: [u32; 4]) -> Vec<u8> {
    block.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// RFC 3711, section B.2.
#[test]
fn the_keystream_is_that_of_the_rfc() {
    let keys = expand(&hex("2b7e151628aed2a6abf7158809cf4f3c"));
    let salt = counter(&hex("f0f1f2f3f4f5f6f7f8f9fafbfcfd"));
    for (number, block) in [
        (0x0000, "e03ead0935c95e80e166b16dd92b4eb4"),
        (0x0001, "d23513162b02d0f72a43a2fe4a5f97ab"),
        (0x0002, "41e95b3bb0a2e8dd477901e4fca894c0"),
        (0xfeff, "ec8cdf7398607cb0f2d21675ea9ea1e4"),
        (0xff00, "362b7c3c6773516318a077d7fc5073ae"),
        (0xff01, "6a2cc3787889374fbeb4c81b17ba6c44"),
    ] {
        let mut first = salt;
        first[3] ^= u32::from_le_bytes([0, 0, (number >> 8) as u8, 0]);
        let mut shared = Shared::default();
        shared.begin::<Plain>(&keys, &first.map(spread));
        let mut stream = [[0; 4]];
        shared.apply::<Plain, _>(&keys, number & 0xff, &mut stream);
        assert_eq!(octets(stream[0]), hex::<16>(block), "block {number:x}");
        // The same as the second of two.
        if number & 0xff != 0 {
            let mut streams = [[0; 4]; 2];
            shared.apply::<Plain, _>(&keys, (number & 0xff) - 1, &mut streams);
            assert_eq!(streams[1], stream[0], "block {number:x}");
        }
    }
}

/// RFC 3711, section B.3.
#[test]
fn the_session_keys_are_those_of_the_rfc() {
    let master = hex("e1f97a0d3e018be0d64fa32c06de4139");
    let derived = SessionKeys::derive(&master, &hex("0ec675ad498afeebb6960b3aabe6"));
    let encryption = hex("c61e7a93744f39ee10734afe3ff7a087");
    let salt = hex("30cbbc08863d8c85d49db34a9ae1");
    let authentication = hex("cebe321f6ff7716b6fd4ab49af256a156d38baa4");
    assert_eq!(derived.encryption, encryption);
    assert_eq!(derived.salt, salt);
    assert_eq!(derived.authentication, authentication);
}

/// FIPS 180-4's examples, and RFC 2202's first case for HMAC.
#[test]
fn sha_1_and_hmac_give_the_published_digests() {
    let mut block = [0_u8; 64];
    block[..4].copy_from_slice(b"abc\x80");
    block[63] = 24;
    assert_eq!(
        digest(sha1::INITIAL, &block),
        hex::<20>("a9993e364706816aba3e25717850c26c9cd0d89d")
    );

    let [inner, outer] = sha1::prepare(&[0x0b; 20]);
    let mut block = [0_u8; 64];
    block[..9].copy_from_slice(b"Hi There\x80");
    block[62..].copy_from_slice(&(8 * (64 + 8_u16)).to_be_bytes());
    let first = digest(inner, &block);
    let mut block = [0_u8; 64];
    block[..20].copy_from_slice(&first);
    block[20] = 0x80;
    block[62..].copy_from_slice(&(8 * (64 + 20_u16)).to_be_bytes());
    assert_eq!(
        digest(outer, &block),
        hex::<20>("b617318655057264e28bc0b6fb378c8ef146be00")
    );
}

fn digest(mut state: [u32; 5], block: &[u8; 64]) -> Vec<u8> {
    let block: [u32; 16] = zerocopy::transmute!(*block);
    let mut schedule = [0; 40];
    sha1::begin(&mut schedule, &block);
    sha1::compress(&mut state, &mut schedule);
    state.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// The packet of libsrtp's own test, with the master key of RFC 3711, section B.3.
#[test]
fn the_reference_packet_of_libsrtp_is_made_and_read() {
    let plain: [u8; 28] = hex("800f1234decafbadcafebabeabababababababababababababababab");
    let sealed: [u8; 38] =
        hex("800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb");
    let key = key(Tag::Long, &[]);
    assert_eq!(
        protect(&key, &IndexState::default(), &plain).as_deref(),
        Ok(&sealed[..])
    );
    assert_eq!(
        unprotect(&key, &IndexState::default(), &sealed).as_deref(),
        Ok(&plain[..])
    );
}

#[test]
fn every_length_tag_and_identifier_round_trips() {
    for tag in [Tag::Long, Tag::Short] {
        for mki in [&[][..], &[7], &[1; 128]] {
            let key = key(tag, mki);
            let (out, back) = (IndexState::default(), IndexState::default());
            for payload in 0..=LONGEST - 12 {
                let plain = rtp(payload as u16, payload);
                let sealed = protect(&key, &out, &plain).expect("protected");
                assert_eq!(sealed.len(), plain.len() + key.trailer());
                assert_eq!(unprotect(&key, &back, &sealed), Ok(plain), "{payload}");
            }
            let long = rtp(1000, LONGEST - 11);
            assert_eq!(protect(&key, &out, &long), Err(CryptError::TooLong));
        }
    }
}

#[test]
fn sources_and_extensions_stay_readable() {
    let mut plain = std::vec![0x92, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1];
    plain.extend([0x11; 8]);
    plain.extend([0xbe, 0xde, 0, 2]);
    plain.extend([0x22; 8]);
    let header = plain.len();
    plain.extend([0x33; 50]);
    let key = key(Tag::Long, &[]);
    let sealed = protect(&key, &IndexState::default(), &plain).expect("protected");
    assert_eq!(sealed[..header], plain[..header]);
    assert_ne!(sealed[header..header + 50], plain[header..]);
    assert_eq!(
        unprotect(&key, &IndexState::default(), &sealed),
        Ok(plain.clone())
    );
    plain[23] = 20;
    assert_eq!(
        protect(&key, &IndexState::default(), &plain),
        Err(CryptError::Malformed)
    );
}

#[test]
fn no_bit_of_a_packet_can_be_changed() {
    for tag in [Tag::Long, Tag::Short] {
        let key = key(tag, &[3, 4]);
        let sealed = protect(&key, &IndexState::default(), &rtp(1, 20)).expect("protected");
        let state = IndexState::default();
        for bit in 0..8 * sealed.len() {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(unprotect(&key, &state, &changed).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(unprotect(&key, &state, &sealed[..length]).is_err());
        }
        // Nothing of it moved the state.
        assert_eq!(state.highest(), 0);
        assert_eq!(unprotect(&key, &state, &sealed), Ok(rtp(1, 20)));
        assert_eq!(
            unprotect(&key, &state, &sealed),
            Err(CryptError::Index(IndexError::Replay))
        );
    }
}

#[test]
fn a_sequence_number_is_protected_once() {
    let key = key(Tag::Long, &[]);
    let state = IndexState::default();
    protect(&key, &state, &rtp(5, 20)).expect("protected");
    assert_eq!(
        protect(&key, &state, &rtp(5, 30)),
        Err(CryptError::Index(IndexError::Replay))
    );
}

/// A stream taken up again takes nothing from before, and everything after.
#[test]
fn after_an_index_none_before_it_is_taken() {
    for highest in [0, 1, 15, 16, 127, 128, 1000, 0xffff, 0x1_0000, 0x5_1234] {
        let state = IndexState::after(highest);
        for index in highest.saturating_sub(2 * WINDOW)..=highest {
            assert!(state.check(index).is_err(), "{index} of {highest}");
        }
        for index in highest + 1..highest + 3 * WINDOW {
            assert_eq!(state.take(index), Ok(()), "{index} of {highest}");
        }
        let other = IndexState::default();
        other.set(&state);
        assert_eq!(other.highest(), state.highest());
        assert_eq!(
            other.check(highest + WINDOW * 3 - 1),
            Err(IndexError::Replay)
        );
    }
}

#[test]
fn the_window_takes_late_packets_once_and_old_ones_never() {
    let state = IndexState::default();
    for index in [1000, 1000 - WINDOW + 1, 999] {
        assert_eq!(state.check(index), Ok(()));
        assert_eq!(state.take(index), Ok(()));
        assert_eq!(state.check(index), Err(IndexError::Replay));
        assert_eq!(state.take(index), Err(IndexError::Replay));
    }
    assert_eq!(state.check(1000 - WINDOW), Err(IndexError::Old));
    assert_eq!(state.take(1000 - WINDOW), Err(IndexError::Old));
    assert_eq!(state.highest(), 1000);
}

#[test]
fn the_rollover_counter_turns_and_turns_back() {
    let state = IndexState::starting(0x0001_fff0);
    assert_eq!(state.guess(0xfff5), Ok(0x0001_fff5));
    assert_eq!(state.guess(3), Ok(0x0002_0003));
    assert_eq!(state.take(0x0002_0003), Ok(()));
    assert_eq!(state.roc(), 2);
    assert_eq!(state.guess(0xfffe), Ok(0x0001_fffe));
    assert_eq!(state.take(0x0001_fffe), Ok(()));
    assert_eq!(state.roc(), 2);
    let last = IndexState::starting(0xffff_ffff_fff0);
    assert_eq!(last.guess(1), Err(IndexError::Exhausted));
}

/// Eight threads take the same indices: none is taken by two.
#[test]
fn of_equal_packets_on_many_cpus_one_is_taken() {
    let state = IndexState::default();
    let mut taken: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let indices = 0..100_000;
                    indices
                        .filter(|index| state.take(*index).is_ok())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    let all = taken.len();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), all);
    assert!(all > 0);
    assert_eq!(state.highest(), 99_999);
}

#[test]
fn a_key_does_not_show_itself() {
    let text = std::format!("{:?}", key(Tag::Long, &[]));
    assert_eq!(text, "PreparedKey { .. }");
}
