//! In which order a call tries the addresses of a trunk (RFC 2782).

use rand::Rng;

use crate::config::{Destination, Rank};

/// The places of all destinations in the order in which one call tries them: what the entries of
/// the configuration amount to as a whole, by their turns, and within one by the turns of the SRV
/// records. `destinations` stand in the order of their priorities.
pub(super) fn order(destinations: &[Destination], random: &mut impl Rng) -> Vec<u16> {
    let all: Vec<Placed<'_>> = (0..=u16::MAX).zip(destinations).collect();
    let mut order = Vec::with_capacity(all.len());
    for entry in draw(&all, |it| Some(it.entry), random) {
        for target in draw(entry, |it| it.record, random) {
            order.extend(target.iter().map(|(place, _)| *place));
        }
    }
    order
}

type Placed<'d> = (u16, &'d Destination);

/// The parts of a list that have one rank each, one after the other: by priority, and by chance
/// within one.
fn draw<'l, 'd>(
    list: &'l [Placed<'d>],
    rank: fn(&Destination) -> Option<Rank>,
    random: &mut impl Rng,
) -> Vec<&'l [Placed<'d>]> {
    let priority = |it: &Placed<'_>| rank(it.1).map(|rank| rank.priority);
    let mut drawn = Vec::new();
    for equals in list.chunk_by(|one, other| priority(one) == priority(other)) {
        let parts = equals.chunk_by(|one, other| rank(one.1) == rank(other.1));
        let weighted: Vec<_> = parts
            .map(|part| {
                let rank = part.first().and_then(|it| rank(it.1));
                (rank.map_or(0, |rank| rank.weight), part)
            })
            .collect();
        drawn.extend(by_weight(weighted, random));
    }
    drawn
}

/// How much less a weight of 0 is than one of 1: "a very small chance" (RFC 2782).
const ZERO: u64 = 1_000;

/// Draws one after the other of what has one priority, each as likely as its weight says among
/// those that are left.
///
/// The RFC draws from 0 on, so that whoever stands first has more than its share, and much more
/// where weights are small. From 1 on it is exact; for that no weight may be nothing.
fn by_weight<T>(weighted: Vec<(u16, T)>, random: &mut impl Rng) -> Vec<T> {
    let share = |weight: u16| (u64::from(weight) * ZERO).max(1);
    let mut left: Vec<(u64, T)> = weighted
        .into_iter()
        .map(|(weight, one)| (share(weight), one))
        .collect();
    let mut drawn = Vec::with_capacity(left.len());
    while left.len() > 1 {
        let sum: u64 = left.iter().map(|(share, _)| share).sum();
        let number = random.random_range(1..=sum);
        let mut running = 0;
        let place = left.iter().position(|(share, _)| {
            running += share;
            running >= number
        });
        drawn.push(left.remove(place.unwrap_or(0)).1);
    }
    drawn.extend(left.pop().map(|(_, last)| last));
    drawn
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    /// Addresses of these priorities and weights.
    fn entries(ranks: &[(u16, u16)]) -> Vec<Destination> {
        (0..)
            .zip(ranks)
            .map(|(place, &(priority, weight))| Destination {
                address: ([192, 0, 2, 1], 5060 + place).into(),
                server_name: None,
                entry: Rank {
                    priority,
                    weight,
                    place,
                },
                record: None,
            })
            .collect()
    }

    /// How often each address came first, and the second after each first, of `draws` draws.
    fn firsts(destinations: &[Destination], draws: u32) -> BTreeMap<u16, u32> {
        let mut random = StdRng::seed_from_u64(1);
        let mut counts = BTreeMap::new();
        for _ in 0..draws {
            let order = order(destinations, &mut random);
            assert_eq!(order.len(), destinations.len());
            *counts.entry(order[0]).or_default() += 1;
        }
        counts
    }

    /// Whether a count is within four standard deviations of what a share of the draws makes.
    fn is_share(count: u32, draws: u32, share: f64) -> bool {
        let (draws, count) = (f64::from(draws), f64::from(count));
        (count - draws * share).abs() <= 4.0 * (draws * share * (1.0 - share)).sqrt()
    }

    #[test]
    fn a_plain_list_keeps_its_order_and_takes_no_chance() {
        let list = entries(&[(1, 1), (2, 1), (3, 1)]);
        let (mut random, mut untouched) = (StdRng::seed_from_u64(1), StdRng::seed_from_u64(1));
        for _ in 0..10 {
            assert_eq!(order(&list, &mut random), [0, 1, 2]);
        }
        assert_eq!(random.random::<u64>(), untouched.random::<u64>());
    }

    #[test]
    fn equals_share_by_weight_and_the_next_priority_comes_after_them_all() {
        let list = entries(&[(1, 60), (1, 20), (1, 20), (5, 1000), (5, 1)]);
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..1000 {
            let mut order = order(&list, &mut random);
            order[..3].sort_unstable();
            order[3..].sort_unstable();
            assert_eq!(order, [0, 1, 2, 3, 4]);
        }
        let counts = firsts(&list, 20_000);
        for (place, share) in [(0, 0.6), (1, 0.2), (2, 0.2)] {
            assert!(is_share(counts[&place], 20_000, share), "{counts:?}");
        }
    }

    #[test]
    fn small_weights_are_as_exact_as_large_ones() {
        for (weights, shares) in [([1, 1], [0.5, 0.5]), ([1, 3], [0.25, 0.75])] {
            let counts = firsts(&entries(&[(1, weights[0]), (1, weights[1])]), 20_000);
            for place in [0, 1] {
                let share = shares[usize::from(place)];
                assert!(is_share(counts[&place], 20_000, share), "{counts:?}");
            }
        }
    }

    #[test]
    fn who_is_next_after_a_dead_one_goes_by_weight_too() {
        let list = entries(&[(1, 50), (1, 40), (1, 10)]);
        let mut random = StdRng::seed_from_u64(2);
        let (mut first_died, mut to_second) = (0, 0);
        for _ in 0..20_000 {
            let order = order(&list, &mut random);
            if order[0] == 0 {
                first_died += 1;
                to_second += u32::from(order[1] == 1);
            }
        }
        assert!(
            is_share(to_second, first_died, 0.8),
            "{to_second} of {first_died}"
        );
    }

    #[test]
    fn weight_0_has_a_very_small_chance_beside_others() {
        let counts = firsts(&entries(&[(1, 0), (1, 1)]), 20_000);
        assert!(is_share(counts[&0], 20_000, 0.001), "{counts:?}");
        assert!(counts[&0] > 0, "none at all in 20,000 draws");
    }

    #[test]
    fn several_of_weight_0_share_evenly() {
        let counts = firsts(&entries(&[(1, 0), (1, 0), (1, 0), (1, 0)]), 20_000);
        for place in 0..4 {
            assert!(is_share(counts[&place], 20_000, 0.25), "{counts:?}");
        }
    }

    #[test]
    fn srv_records_have_their_turns_within_their_entry() {
        // An entry by name between two others: two targets share, one of them with two addresses,
        // and a third is for when they are down.
        let mut list = entries(&[(1, 1), (2, 1), (2, 1), (2, 1), (2, 1), (3, 1)]);
        let name = list[1].entry;
        for (destination, (priority, weight, place)) in
            list[1..5]
                .iter_mut()
                .zip([(10, 60, 0), (10, 60, 0), (10, 40, 1), (20, 0, 2)])
        {
            destination.entry = name;
            destination.record = Some(Rank {
                priority,
                weight,
                place,
            });
        }
        let mut random = StdRng::seed_from_u64(3);
        let mut heavier = 0;
        for _ in 0..20_000 {
            match order(&list, &mut random)[..] {
                [0, 1, 2, 3, 4, 5] => heavier += 1,
                [0, 3, 1, 2, 4, 5] => {}
                ref other => panic!("{other:?}"),
            }
        }
        assert!(is_share(heavier, 20_000, 0.6), "{heavier}");
    }

    #[test]
    fn entries_of_one_priority_share_whatever_number_of_addresses_they_have() {
        let mut list = entries(&[(1, 1), (1, 1), (1, 1), (1, 1)]);
        for place in 1..4 {
            list[usize::from(place)].entry.place = 1;
            list[usize::from(place)].record = Some(Rank {
                priority: 1,
                weight: 1,
                place,
            });
        }
        let counts = firsts(&list, 20_000);
        assert!(is_share(counts[&0], 20_000, 0.5), "{counts:?}");
        for place in 1..4 {
            assert!(is_share(counts[&place], 20_000, 1.0 / 6.0), "{counts:?}");
        }
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let counts = firsts(&entries(&[(1, u16::MAX); 3]), 3_000);
        assert_eq!(counts.len(), 3);
    }
}
