//! Offers and answers: four descriptions, separated by `%`, are an offer and its answer, and a
//! second round in the other direction. The first octet says what the legs' policies are.

#![no_main]

use control::{
    config::Hold,
    sdp::{LegPolicy, Negotiation, Side, SrtpPolicy},
};
use libfuzzer_sys::fuzz_target;
use rand::{SeedableRng as _, rngs::StdRng};
use relay_user::media::MediaPort;

fuzz_target!(|octets: &[u8]| {
    let Some((choice, descriptions)) = octets.split_first() else {
        return;
    };
    let mut random = StdRng::seed_from_u64(7);
    let policies = [
        (0, "198.51.100.1:20000", 0x40),
        (3, "192.0.2.1:20002", 0x80),
    ];
    let policies = policies.map(|(shift, local, ice)| LegPolicy {
        ice: choice & ice != 0,
        ..policy(choice >> shift, local)
    });
    let mut negotiation = Negotiation::new(policies, &mut random);
    let mut rest = descriptions.split(|octet| *octet == b'%');
    for side in [Side::A, Side::B] {
        let (Some(offer), Some(answer)) = (rest.next(), rest.next()) else {
            return;
        };
        if negotiation.offer(side, offer, &mut random).is_err() {
            continue;
        }
        match negotiation.answer(side.other(), answer) {
            Ok(_) => negotiation.commit().expect("answered"),
            Err(_) => negotiation.rollback(),
        }
        let _ = negotiation.media();
    }
});

fn policy(choice: u8, local: &str) -> LegPolicy {
    let rtp = local.parse().expect("an address");
    let mut policy = LegPolicy::new(MediaPort { rtp });
    policy.srtp = match choice & 3 {
        0 => SrtpPolicy::Require,
        1 => SrtpPolicy::Offer,
        _ => SrtpPolicy::Off,
    };
    if choice & 4 != 0 {
        policy.hold = Hold::Inactive;
    }
    policy
}
