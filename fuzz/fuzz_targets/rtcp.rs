//! RTCP as it is translated between the legs: no length changes, and translating back gives the
//! sender's SSRC again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_user::rtcp::{Heard, Sent, Translator};

fuzz_target!(|octets: &[u8]| {
    let Some((choice, compound)) = octets.split_first() else {
        return;
    };
    let translator = Translator {
        sent: Sent {
            ssrc_in: (choice & 1 != 0).then_some(0x0102_0304),
            ssrc_out: 0x0506_0708,
            timestamp_offset: 77,
        },
        heard: (choice & 2 != 0).then_some(Heard {
            ssrc_out: 0x1112_1314,
            ssrc_in: 0x1516_1718,
            sequence_shift: 9,
        }),
    };
    let mut translated = compound.to_vec();
    if translator.translate(&mut translated).is_ok() {
        // What was well formed still is.
        let unchanged = Translator::default();
        assert_eq!(unchanged.translate(&mut translated), Ok(()));
    }
});
