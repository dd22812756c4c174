// A number of keys and their length in; what DPDK's rte_hash needs per key for insertion and bulk look-up, and its bytes, out.
//
//   hash KEYS [BYTES] [PASSES]       BYTES per key, 16 by default; look-ups of random present keys, 32 at a time

#include <rte_hash.h>
#include <rte_hash_crc.h>

#include "measure.h"

#define BATCH 32
#define LOOKUPS (1u << 22)

static uint64_t random_state = 1;

static uint64_t random_word(void)
{
	uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		fail("usage: hash KEYS [BYTES] [PASSES], not", "");
	size_t keys = strtoull(argv[1], NULL, 10), length = argc > 2 ? strtoull(argv[2], NULL, 10) : 16;
	unsigned passes = argc > 3 ? strtoul(argv[3], NULL, 10) : 7;
	if (keys == 0 || keys > 1u << 28 || length < 8 || length > 64 || passes == 0)
		fail("expected 1 to 268435456 keys of 8 to 64 bytes, found", argv[1]);
	start_eal(keys > 4000000 ? "3072" : "1024");
	size_t before = heap_bytes();
	struct rte_hash_parameters parameters = {
		.name = "peer",
		// The cuckoo table refuses keys when it is nearly full.
		.entries = keys + keys / 8,
		.key_len = length,
		.hash_func = rte_hash_crc,
		.socket_id = SOCKET_ID_ANY,
	};
	struct rte_hash *hash = rte_hash_create(&parameters);
	if (hash == NULL)
		fail("rte_hash cannot make a table for so many keys:", argv[1]);

	uint8_t *key = reserve(keys, length);
	for (size_t i = 0; i < keys * length; i++)
		key[i] = (uint8_t)(random_word() >> 56);
	size_t refused = 0;
	uint64_t start = now_ns();
	for (size_t i = 0; i < keys; i++)
		refused += rte_hash_add_key(hash, &key[i * length]) < 0;
	double insert = (double)(now_ns() - start) / (double)keys;
	size_t bytes = heap_bytes() - before;

	static uint8_t buffer[CHUNK * 64] __attribute__((aligned(64)));
	const void *pointers[CHUNK];
	int32_t positions[CHUNK];
	for (size_t i = 0; i < CHUNK; i++)
		pointers[i] = &buffer[i * length];
	uint32_t *wanted = reserve(LOOKUPS, sizeof(*wanted));
	for (size_t i = 0; i < LOOKUPS; i++)
		wanted[i] = (uint32_t)(random_word() % keys);
	double *spent = reserve(passes, sizeof(double));
	size_t missed = 0;
	for (unsigned pass = 0; pass < passes; pass++) {
		uint64_t sum = 0;
		for (size_t at = 0; at < LOOKUPS; at += CHUNK) {
			for (size_t i = 0; i < CHUNK; i++)
				memcpy(&buffer[i * length], &key[(size_t)wanted[at + i] * length], length);
			start = now_ns();
			for (size_t i = 0; i < CHUNK; i += BATCH)
				rte_hash_lookup_bulk(hash, &pointers[i], BATCH, &positions[i]);
			sum += now_ns() - start;
			for (size_t i = 0; pass == 0 && i < CHUNK; i++)
				missed += positions[i] < 0;
		}
		spent[pass] = (double)sum / LOOKUPS;
	}
	qsort(spent, passes, sizeof(double), by_value);
	printf("{\"peer\":\"rte_hash\",\"keys\":%zu,\"key_bytes\":%zu,\"insert_ns\":%.1f,\"refused\":%zu,\"bytes_per_key\":%.1f,"
	       "\"ns_per_lookup\":%.2f,\"ns_per_lookup_median\":%.2f,\"missed\":%zu}\n",
	       keys, length, insert, refused, (double)bytes / (double)keys, spent[0], spent[passes / 2], missed);
	return EXIT_SUCCESS;
}
