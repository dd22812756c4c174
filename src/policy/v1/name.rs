//! Names of calicoctl 1.x in, the names that upstream's migration gives them out (V1-1).

/// Name of a policy: normalised, without dots; a name that changed carries a digest of the old one.
pub fn policy_name(name: &str) -> String {
    qualified(name, normalised(name).replace('.', "-"))
}

/// Name of a host endpoint, which was unique on its node only.
pub fn host_endpoint_name(node: &str, name: &str) -> String {
    let joined = format!("{}.{name}", normalised(node));
    let converted = normalised(&joined);
    qualified(&joined, converted)
}

/// Name of a profile; the prefix of namespace profiles was `k8s_ns.` and is `kns.`.
pub fn profile_name(name: &str) -> String {
    let name = match name.strip_prefix("k8s_ns.") {
        Some(namespace) => format!("kns.{namespace}"),
        None => name.to_string(),
    };
    let converted = normalised(&name);
    qualified(&name, converted)
}

/// Name of a node.
pub fn node_name(name: &str) -> String {
    normalised(name)
}

/// Lower case; `/` becomes a dot, each run of other foreign characters a dash, each run of dots and dashes that has a dot one
/// dot; none of them stays at an end.
fn normalised(name: &str) -> String {
    let mut plain = String::new();
    let mut is_foreign_run = false;
    for character in name.to_lowercase().chars() {
        let kept = match character {
            '/' => Some('.'),
            'a'..='z' | '0'..='9' | '-' | '.' => Some(character),
            _ => None,
        };
        match kept {
            Some(character) => plain.push(character),
            None if !is_foreign_run => plain.push('-'),
            None => {}
        }
        is_foreign_run = kept.is_none();
    }
    let mut result = String::new();
    let mut separators = String::new();
    for character in plain.chars() {
        if matches!(character, '.' | '-') {
            separators.push(character);
            continue;
        }
        if !result.is_empty() {
            result.push_str(if separators.contains('.') { "." } else { &separators });
        }
        separators.clear();
        result.push(character);
    }
    result
}

fn qualified(original: &str, converted: String) -> String {
    if original == converted {
        return converted;
    }
    let first = sha1(original.as_bytes())[0];
    format!("{converted}-{first:08x}")
}

/// SHA-1 (RFC 3174) as five words. It only tells names apart here.
fn sha1(message: &[u8]) -> [u32; 5] {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut words = [0u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
        }
        for at in 16..80 {
            words[at] = (words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.into_iter().enumerate() {
            let (mixed, constant) = match at {
                0..20 => (b & c | !b & d, 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6u32),
            };
            let next = a.rotate_left(5).wrapping_add(mixed).wrapping_add(e).wrapping_add(constant).wrapping_add(word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (value, new) in state.iter_mut().zip([a, b, c, d, e]) {
            *value = value.wrapping_add(new);
        }
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_rfc_3174() {
        let check = |text: &str, expected: &str| {
            let digest: String = sha1(text.as_bytes()).iter().map(|word| format!("{word:08x}")).collect();
            assert_eq!(digest, expected, "{text}");
        };
        check("", "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        check("abc", "a9993e364706816aba3e25717850c26c9cd0d89d");
        check("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    }

    #[test]
    fn names_convert_as_the_migration_does_v1_1() {
        let check = |found: String, expected: &str| assert_eq!(found, expected);
        check(policy_name("deny-nodeports"), "deny-nodeports");
        // First 8 hex digits of `printf %s NAME | sha1sum`.
        check(policy_name("Allow.Web"), "allow-web-48b69621");
        check(policy_name("a_b"), "a-b-eb2980a5");
        check(host_endpoint_name("node1", "eth0"), "node1.eth0");
        check(host_endpoint_name("Node1", "eth0"), "node1.eth0");
        check(profile_name("k8s_ns.default"), "kns.default");
        check(profile_name("prof1"), "prof1");
        check(node_name("Host_A.example/x"), "host-a.example.x");
        check(normalised("--a..-b__C--d.-"), "a.b-c--d");
    }
}
