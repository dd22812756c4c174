use super::*;

/// Word `w` of row `r` is `100 r + w`.
fn row<const N: usize>(r: usize) -> [u32; N] {
    std::array::from_fn(|w| (100 * r + w) as u32)
}

fn column(w: usize) -> Array {
    std::array::from_fn(|r| (100 * r + w) as u32)
}

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ self.0 >> 31
    }

    /// A word that is near an edge as often as not.
    fn word(&mut self) -> u32 {
        let number = self.next();
        let word = (number >> 32) as u32;
        [word, word & 3, word | !7, 0x7fff_fffe + (word & 3), word & 0xffff, word << 16][(number & 7) as usize % 6]
    }

    fn words(&mut self) -> Array {
        std::array::from_fn(|_| self.word())
    }

    fn longs(&mut self) -> [u64; LANES] {
        std::array::from_fn(|_| u64::from(self.word()) << 32 | u64::from(self.word()))
    }
}

const LAYOUT: Layout = Layout::new([3, 0, 15, 8, 9, 4, 12], [7; LANES]);

/// What the operations make of three columns, some lanes and some numbers.
struct Everything<'a>(&'a [Array; 3], u16, &'a [u64; LANES]);

impl Kernel for Everything<'_> {
    type Output = (Vec<Array>, Vec<u16>);

    #[inline(always)]
    fn call<W: Wide>(self, wide: W) -> Self::Output {
        let Everything([a, b, c], lanes, numbers) = self;
        let (a, b, c, mask) = (wide.load(a), wide.load(b), wide.load(c), wide.mask(lanes));
        let few = wide.only(c, 31);
        let masks = vec![
            wide.bits(mask),
            wide.bits(wide.both(mask, wide.equal(a, b))),
            wide.bits(wide.either(mask, wide.at_most(a, b))),
            wide.bits(wide.without(mask, wide.below(a, b))),
            wide.bits(wide.differ(mask, wide.is_negative(a))),
            wide.bits(wide.has(a, 0x8000_0005)),
            wide.bits(wide.is(wide.only(a, 3), 3)),
            wide.repeats(lanes, wide.only(a, 0x8000_000f)),
            wide.matches(&Row(wide.store(a)), 0xff00_0003, 2),
            wide.ascending(numbers),
            wide.sum(mask, a) as u16,
        ];
        let [even, odd] = [a, b];
        let turned = wide.in_turn([even, odd]);
        let [low, high] = wide.split(numbers);
        let words = [
            wide.add(a, b),
            wide.subtract(a, b),
            wide.and(a, b),
            wide.or(a, b),
            wide.exclusive_or(a, b),
            wide.down::<5>(a),
            wide.up::<17>(a),
            wide.down_by(a, few),
            wide.up_by(a, few),
            wide.max(a, b),
            wide.exchange(a),
            wide.reverse(a),
            wide.reverse_halves(a),
            wide.look_up(a, wide.only(b, 15)),
            wide.select(mask, a, b),
            wide.keep(mask, a),
            wide.add_where(mask, a, 77),
            wide.halves(a),
            low,
            high,
            wide.add_long(a, b),
            wide.down_long::<29>(a),
            wide.multiply_halves(a, b),
            wide.multiply_long(a, 0xc4ce_b9fe_1a85_ec53),
            wide.add_long(a, wide.splat_long(0x1_2345_6789)),
            wide.lower_halves(even, odd),
            wide.upper_halves(even, odd),
        ];
        let mut all: Vec<Array> = Vec::new();
        for words in words {
            all.push(wide.store(words));
        }
        let turned: [Array; 2] = bytemuck::cast(turned);
        all.extend(turned);
        (all, masks)
    }
}

/// The same without any vector.
fn plainly(&[a, b, c]: &[Array; 3], lanes: u16, numbers: &[u64; LANES]) -> (Vec<Array>, Vec<u16>) {
    let each = |of: &dyn Fn(usize) -> u32| -> Array { std::array::from_fn(of) };
    let bits = |of: &dyn Fn(usize) -> bool| (0..LANES).fold(0, |bits, i| bits | u16::from(of(i)) << i);
    let is = |i: usize| lanes >> i & 1 == 1;
    let longs = |words: &Array| -> [u64; 8] { bytemuck::cast(*words) };
    let long = |of: &dyn Fn(u64, u64) -> u64| -> Array {
        let (a, b) = (longs(&a), longs(&b));
        let all: [u64; 8] = std::array::from_fn(|i| of(a[i], b[i]));
        bytemuck::cast(all)
    };
    let masks = vec![
        lanes,
        bits(&|i| is(i) && a[i] == b[i]),
        bits(&|i| is(i) || a[i] <= b[i]),
        bits(&|i| is(i) && a[i] >= b[i]),
        bits(&|i| is(i) != (a[i] >> 31 == 1)),
        bits(&|i| a[i] & 0x8000_0005 != 0),
        bits(&|i| a[i] & 3 == 3),
        bits(&|i| is(i) && (0..i).any(|j| is(j) && (a[i] ^ a[j]) & 0x8000_000f == 0)),
        bits(&|i| a[i] & 0xff00_0003 == 2),
        bits(&|i| i == 0 || numbers[i - 1] <= numbers[i]),
        (0..LANES).filter(|&i| is(i)).fold(0u32, |sum, i| sum.wrapping_add(a[i])) as u16,
    ];
    let words = vec![
        each(&|i| a[i].wrapping_add(b[i])),
        each(&|i| a[i].wrapping_sub(b[i])),
        each(&|i| a[i] & b[i]),
        each(&|i| a[i] | b[i]),
        each(&|i| a[i] ^ b[i]),
        each(&|i| a[i] >> 5),
        each(&|i| a[i] << 17),
        each(&|i| a[i] >> (c[i] & 31)),
        each(&|i| a[i] << (c[i] & 31)),
        each(&|i| a[i].max(b[i])),
        each(&|i| a[i].rotate_left(16)),
        each(&|i| a[i].swap_bytes()),
        each(&|i| a[i].swap_bytes().rotate_left(16)),
        each(&|i| a[b[i] as usize % LANES]),
        each(&|i| if is(i) { a[i] } else { b[i] }),
        each(&|i| if is(i) { a[i] } else { 0 }),
        each(&|i| a[i].wrapping_add(if is(i) { 77 } else { 0 })),
        each(&|i| (a[i] & 0xffff) + (a[i] >> 16)),
        each(&|i| numbers[i] as u32),
        each(&|i| (numbers[i] >> 32) as u32),
        long(&|a, b| a.wrapping_add(b)),
        long(&|a, _| a >> 29),
        long(&|a, b| u64::from(a as u32) * u64::from(b as u32)),
        long(&|a, _| a.wrapping_mul(0xc4ce_b9fe_1a85_ec53)),
        long(&|a, _| a.wrapping_add(0x1_2345_6789)),
        each(&|i| if i % 2 == 0 { a[i] } else { b[i - 1] }),
        each(&|i| if i % 2 == 0 { a[i + 1] } else { b[i] }),
    ];
    let turned: [u64; LANES] = std::array::from_fn(|i| if i % 2 == 0 { longs(&a)[i / 2] } else { longs(&b)[i / 2] });
    let turned: [Array; 2] = bytemuck::cast(turned);
    (words.into_iter().chain(turned).collect(), masks)
}

#[test]
fn each_operation_is_what_it_is_without_vectors() {
    let mut dice = Dice(3);
    for round in 0..5_000 {
        let columns = [dice.words(), dice.words(), dice.words()];
        let columns =
            if round % 3 == 0 { [columns[0], columns[0].map(|word| word ^ word & 1), columns[2]] } else { columns };
        let (lanes, mut numbers) = (dice.next() as u16, dice.longs());
        if round % 2 == 0 {
            numbers.sort_unstable();
            numbers[3] = numbers[2];
        }
        let expected = plainly(&columns, lanes, &numbers);
        for level in Level::all() {
            let Some(found) = level.run(Everything(&columns, lanes, &numbers)) else { continue };
            assert_eq!(found.1, expected.1, "{} {columns:x?} {lanes:x} {numbers:x?}", level.name());
            for (which, (found, expected)) in found.0.iter().zip(&expected.0).enumerate() {
                assert_eq!(found, expected, "{} operation {which} {columns:x?} {lanes:x}", level.name());
            }
            assert_eq!(found.0.len(), expected.0.len());
        }
    }
}

struct Turns;

impl Kernel for Turns {
    type Output = ([Array; 4], [Array; 8], [Array; LANES], [Array; LANES]);

    #[inline(always)]
    fn call<W: Wide>(self, wide: W) -> Self::Output {
        let four = wide.columns_of_four(row::<4>);
        let eight = wide.columns_of_eight(row::<8>);
        let rest = wide.columns_of_eight(|r| row::<8>(r).map(|word| word + 8));
        let mut spread = [[0; LANES]; LANES];
        wide.spread(eight, &LAYOUT, &mut spread);
        let whole = wide.rows_of_sixteen([eight, rest]);
        (four.map(|a| wide.store(a)), eight.map(|a| wide.store(a)), spread, whole.map(|a| wide.store(a)))
    }
}

#[test]
fn rows_become_columns_and_columns_rows() {
    for level in Level::all() {
        let Some((four, eight, spread, whole)) = level.run(Turns) else { continue };
        four.into_iter().enumerate().for_each(|(w, words)| assert_eq!(words, column(w)));
        eight.into_iter().enumerate().for_each(|(w, words)| assert_eq!(words, column(w)));
        whole.into_iter().enumerate().for_each(|(r, words)| assert_eq!(words, row(r)));
        for (r, words) in spread.into_iter().enumerate() {
            let mut expected = [7; LANES];
            for (word, place) in [3, 0, 15, 8, 9, 4, 12].into_iter().enumerate() {
                expected[place] = row::<8>(r)[word];
            }
            assert_eq!(words, expected, "{}", level.name());
        }
    }
}

#[test]
fn a_processor_without_vectors_runs_no_kernel() {
    assert!(Level::Scalar.run(Turns).is_none() && !Level::Scalar.is_wide());
    assert_eq!(Level::all().first().map(|level| level.name()), Some("scalar"));
    assert_eq!(Level::all().last().map(|level| level.name()), Some(Level::best().name()));
}

#[test]
fn two_vectors_pay_only_where_hardly_a_lane_stays_empty() {
    for level in Level::all() {
        let pays: Vec<usize> = (0..=64).filter(|&count| level.pays_for(count)).collect();
        let expected: Vec<usize> = match level {
            Level::Scalar => Vec::new(),
            Level::Avx2(_) => (14..=16).chain(27..=32).chain(40..=48).chain(54..=64).collect(),
            Level::Avx512(_) => (FEW + 1..=64).collect(),
        };
        assert_eq!(pays, expected, "{}", level.name());
    }
}
