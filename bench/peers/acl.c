// A rule file in the format of ClassBench and, on standard input, header files in; what DPDK's librte_acl needs per header out.
//
//   acl RULES [scalar|avx2|avx512x16|avx512x32]      builds, prints one JSON object
//   HEADERS PASSES                                   on standard input: measures, prints one JSON object, again and again
//
// Each line of a header file is `src dst sport dport proto rule`, numbers between tabs, with the index of the rule that ringwall
// found or -1: the answers are compared with it.

#include <inttypes.h>
#include <stddef.h>

#include <rte_acl.h>
#include <rte_byteorder.h>

#include "measure.h"

#define BATCH 256

struct header {
	uint8_t protocol;
	uint8_t unused[3];
	uint32_t src;
	uint32_t dst;
	uint16_t sport;
	uint16_t dport;
};

enum { PROTOCOL, SRC, DST, SPORT, DPORT, FIELDS };

RTE_ACL_RULE_DEF(rule, FIELDS);

// The first field has one byte, the others are read four bytes at a time: both ports together.
static const struct rte_acl_field_def FIELD[FIELDS] = {
	{ RTE_ACL_FIELD_TYPE_BITMASK, 1, PROTOCOL, 0, offsetof(struct header, protocol) },
	{ RTE_ACL_FIELD_TYPE_MASK, 4, SRC, 1, offsetof(struct header, src) },
	{ RTE_ACL_FIELD_TYPE_MASK, 4, DST, 2, offsetof(struct header, dst) },
	{ RTE_ACL_FIELD_TYPE_RANGE, 2, SPORT, 3, offsetof(struct header, sport) },
	{ RTE_ACL_FIELD_TYPE_RANGE, 2, DPORT, 3, offsetof(struct header, dport) },
};

static FILE *open_file(const char *path)
{
	FILE *file = fopen(path, "r");
	if (file == NULL)
		fail("cannot open", path);
	return file;
}

static size_t count_lines(FILE *file)
{
	size_t lines = 0;
	for (int c = fgetc(file); c != EOF; c = fgetc(file))
		lines += c == '\n';
	rewind(file);
	return lines;
}

static struct rule *read_rules(const char *path, size_t *count)
{
	FILE *file = open_file(path);
	size_t lines = count_lines(file), n = 0;
	struct rule *rules = reserve(lines, sizeof(*rules));
	unsigned s[5], d[5], sport[2], dport[2], protocol[2];
	while (n < lines &&
	       fscanf(file, " @%u.%u.%u.%u/%u %u.%u.%u.%u/%u %u : %u %u : %u %x/%x%*[^\n]", &s[0], &s[1], &s[2], &s[3], &s[4],
		      &d[0], &d[1], &d[2], &d[3], &d[4], &sport[0], &sport[1], &dport[0], &dport[1], &protocol[0],
		      &protocol[1]) == 16) {
		struct rule *rule = &rules[n];
		rule->field[PROTOCOL].value.u8 = protocol[0];
		rule->field[PROTOCOL].mask_range.u8 = protocol[1];
		rule->field[SRC].value.u32 = s[0] << 24 | s[1] << 16 | s[2] << 8 | s[3];
		rule->field[SRC].mask_range.u32 = s[4];
		rule->field[DST].value.u32 = d[0] << 24 | d[1] << 16 | d[2] << 8 | d[3];
		rule->field[DST].mask_range.u32 = d[4];
		rule->field[SPORT].value.u16 = sport[0];
		rule->field[SPORT].mask_range.u16 = sport[1];
		rule->field[DPORT].value.u16 = dport[0];
		rule->field[DPORT].mask_range.u16 = dport[1];
		n++;
	}
	if (n == 0 || n != lines)
		fail("not only rules for IPv4, one a line, in", path);
	fclose(file);
	// The highest priority wins, and 0 stands for no match.
	for (size_t i = 0; i < n; i++) {
		rules[i].data.category_mask = 1;
		rules[i].data.priority = (int32_t)(n - i);
		rules[i].data.userdata = (uint32_t)i + 1;
	}
	*count = n;
	return rules;
}

struct traffic {
	size_t count;
	struct header *headers;
	uint32_t *expected;
};

static struct traffic read_headers(const char *path)
{
	FILE *file = open_file(path);
	size_t lines = count_lines(file), n = 0;
	struct traffic traffic = { lines, reserve(lines, sizeof(struct header)), reserve(lines, sizeof(uint32_t)) };
	uint32_t src, dst;
	unsigned sport, dport, protocol;
	int64_t rule;
	while (n < lines && fscanf(file, "%" SCNu32 " %" SCNu32 " %u %u %u %" SCNd64, &src, &dst, &sport, &dport, &protocol,
				   &rule) == 6) {
		traffic.headers[n] = (struct header){
			.protocol = protocol,
			.src = rte_cpu_to_be_32(src),
			.dst = rte_cpu_to_be_32(dst),
			.sport = rte_cpu_to_be_16(sport),
			.dport = rte_cpu_to_be_16(dport),
		};
		traffic.expected[n] = (uint32_t)(rule + 1);
		n++;
	}
	if (n == 0 || n != lines)
		fail("not only headers, one a line, in", path);
	fclose(file);
	return traffic;
}

static void measure(const struct rte_acl_ctx *acl, enum rte_acl_classify_alg algorithm, const char *name,
		    const struct traffic *traffic, unsigned passes)
{
	static struct header buffer[CHUNK] __attribute__((aligned(64)));
	static uint32_t results[CHUNK];
	const uint8_t *pointers[CHUNK];
	double *spent = reserve(passes, sizeof(double));
	size_t mismatches = 0;
	for (size_t i = 0; i < CHUNK; i++)
		pointers[i] = (const uint8_t *)&buffer[i];
	for (unsigned pass = 0; pass < passes; pass++) {
		uint64_t sum = 0;
		for (size_t start = 0; start < traffic->count; start += CHUNK) {
			size_t count = traffic->count - start < CHUNK ? traffic->count - start : CHUNK;
			memcpy(buffer, &traffic->headers[start], count * sizeof(struct header));
			uint64_t before = now_ns();
			for (size_t at = 0; at < count; at += BATCH) {
				uint32_t burst = count - at < BATCH ? count - at : BATCH;
				rte_acl_classify_alg(acl, &pointers[at], &results[at], burst, 1, algorithm);
			}
			sum += now_ns() - before;
			if (pass == 0)
				for (size_t i = 0; i < count; i++)
					mismatches += results[i] != traffic->expected[start + i];
		}
		spent[pass] = (double)sum / (double)traffic->count;
	}
	qsort(spent, passes, sizeof(double), by_value);
	printf("{\"peer\":\"librte_acl\",\"algorithm\":\"%s\",\"lookups\":%zu,\"ns_per_lookup\":%.2f,"
	       "\"ns_per_lookup_median\":%.2f,\"mismatches\":%zu}\n",
	       name, traffic->count, spent[0], spent[passes / 2], mismatches);
	fflush(stdout);
	free(spent);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		enum rte_acl_classify_alg algorithm;
	} ALGORITHMS[] = {
		{ "avx512x32", RTE_ACL_CLASSIFY_AVX512X32 },
		{ "avx512x16", RTE_ACL_CLASSIFY_AVX512X16 },
		{ "avx2", RTE_ACL_CLASSIFY_AVX2 },
		{ "scalar", RTE_ACL_CLASSIFY_SCALAR },
	};
	if (argc < 2 || argc > 3)
		fail("usage: acl RULES [scalar|avx2|avx512x16|avx512x32], not", argc < 2 ? "" : argv[3]);
	size_t choice = 0, choices = sizeof(ALGORITHMS) / sizeof(ALGORITHMS[0]);
	while (argc == 3 && choice < choices && strcmp(argv[2], ALGORITHMS[choice].name) != 0)
		choice++;
	if (choice == choices)
		fail("unknown algorithm", argv[2]);

	start_eal("3072");
	size_t count;
	struct rule *rules = read_rules(argv[1], &count);
	struct rte_acl_param parameters = {
		.name = "peer",
		.socket_id = SOCKET_ID_ANY,
		.rule_size = RTE_ACL_RULE_SZ(FIELDS),
		.max_rule_num = count,
	};
	struct rte_acl_config config = { .num_categories = 1, .num_fields = FIELDS };
	memcpy(config.defs, FIELD, sizeof(FIELD));
	struct rte_acl_ctx *acl = rte_acl_create(&parameters);
	if (acl == NULL || rte_acl_add_rules(acl, (const struct rte_acl_rule *)rules, count) != 0)
		fail("librte_acl does not take the rules of", argv[1]);
	size_t before = heap_bytes();
	uint64_t start = now_ns();
	if (rte_acl_build(acl, &config) != 0)
		fail("librte_acl cannot build", argv[1]);
	uint64_t built = now_ns() - start;
	if (rte_acl_set_ctx_classify(acl, ALGORITHMS[choice].algorithm) != 0)
		fail("this machine cannot run", ALGORITHMS[choice].name);
	printf("{\"peer\":\"librte_acl\",\"rules\":%zu,\"build_ms\":%.1f,\"memory_bytes\":%zu}\n", count, (double)built / 1e6,
	       heap_bytes() - before);
	fflush(stdout);

	char path[4096];
	unsigned passes;
	while (scanf("%4095s %u", path, &passes) == 2) {
		struct traffic traffic = read_headers(path);
		measure(acl, ALGORITHMS[choice].algorithm, ALGORITHMS[choice].name, &traffic, passes ? passes : 1);
		free(traffic.headers);
		free(traffic.expected);
	}
	return EXIT_SUCCESS;
}
