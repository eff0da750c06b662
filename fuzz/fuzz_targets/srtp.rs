//! The kernel's SRTP: octets that nobody protected are refused and change nothing of the stream;
//! what it protects itself comes back as it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_abi::srtp::{
    index::IndexState,
    key::{PreparedKey, Tag},
    packet::{LONGEST, LONGEST_PROTECTED, Work},
};

fuzz_target!(|octets: &[u8]| {
    let Some(([tag, mki], packet)) = octets.split_first_chunk() else {
        return;
    };
    let tag = if tag & 1 == 0 { Tag::Long } else { Tag::Short };
    let mki = vec![5; usize::from(mki & 0x7f)];
    let key = PreparedKey::new(&[1; 16], &[2; 14], tag, &mki).expect("a short identifier");
    let mut work = Work::default();

    if packet.len() <= LONGEST_PROTECTED {
        let state = IndexState::default();
        work.packet()[..packet.len()].copy_from_slice(packet);
        assert!(work.unprotect(&key, &state, packet.len()).is_err());
        assert_eq!(state.highest(), 0);
    }
    if packet.len() <= LONGEST {
        work.packet()[..packet.len()].copy_from_slice(packet);
        let sent = IndexState::default();
        if let Ok(length) = work.protect(&key, &sent, packet.len()) {
            let back = work.unprotect(&key, &IndexState::default(), length);
            assert_eq!(back, Ok(packet.len()));
            assert_eq!(&work.packet()[..packet.len()], packet);
        }
    }
});
