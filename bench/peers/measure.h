// What both peers share: an EAL without devices, a clock, the best and the median of several passes, memory in use.

#ifndef PEERS_MEASURE_H
#define PEERS_MEASURE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_malloc.h>
#include <rte_memory.h>

// Headers or keys that are prepared before the clock starts, as after a burst was parsed.
#define CHUNK 1024

static void fail(const char *what, const char *which)
{
	fprintf(stderr, "error: %s `%s`\n", what, which);
	exit(EXIT_FAILURE);
}

static void *reserve(size_t count, size_t size)
{
	void *memory = calloc(count ? count : 1, size);
	if (memory == NULL)
		fail("no memory for", "headers and rules");
	return memory;
}

static uint64_t now_ns(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

// Without reserved huge pages, DPDK's heap is a file in memory, which gets no transparent ones. Anonymous memory in its place
// does, so that the peer pays no more for translation than needed. What the heap holds already is copied.
static int move_to_huge_pages(const struct rte_memseg_list *list, void *unused)
{
	(void)unused;
	const size_t page = 4096;
	size_t pages = list->len / page;
	unsigned char *is_resident = reserve(pages, 1);
	uint8_t *base = list->base_va, *saved = reserve(list->len, 1);
	if (mincore(base, list->len, is_resident) != 0)
		fail("cannot ask for the pages of", "the heap");
	for (size_t i = 0; i < pages; i++)
		if (is_resident[i] & 1)
			memcpy(&saved[i * page], &base[i * page], page);
	if (mmap(base, list->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != base)
		fail("cannot place anonymous memory under", "the heap");
	madvise(base, list->len, MADV_HUGEPAGE);
	for (size_t i = 0; i < pages; i++)
		if (is_resident[i] & 1)
			memcpy(&base[i * page], &saved[i * page], page);
	free(saved);
	free(is_resident);
	return 0;
}

static void start_eal(const char *megabytes)
{
	// One thread that the kernel may move, as it may move ringwall's.
	char cores[64];
	snprintf(cores, sizeof(cores), "--lcores=0@(0-%ld)", sysconf(_SC_NPROCESSORS_ONLN) - 1);
	char *arguments[] = {
		"peer", cores, "--no-huge", "--no-pci", "-m", (char *)megabytes, "--no-shconf", "--no-telemetry", "--log-level=3",
		"--force-max-simd-bitwidth=512", NULL,
	};
	if (rte_eal_init(sizeof(arguments) / sizeof(arguments[0]) - 1, arguments) < 0)
		fail("cannot start the environment of DPDK with so many megabytes:", megabytes);
	rte_memseg_list_walk(move_to_huge_pages, NULL);
}

static size_t heap_bytes(void)
{
	struct rte_malloc_socket_stats stats;
	size_t sum = 0;
	for (int socket = 0; socket < RTE_MAX_NUMA_NODES; socket++)
		if (rte_malloc_get_socket_stats(socket, &stats) == 0)
			sum += stats.heap_allocsz_bytes;
	return sum;
}

static int by_value(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return (left > right) - (left < right);
}

#endif
