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

// Without reserved huge pages, the heap asks for transparent ones, so that the peer pays no more for translation than needed.
static int ask_for_huge_pages(const struct rte_memseg_list *list, void *unused)
{
	(void)unused;
	madvise(list->base_va, list->len, MADV_HUGEPAGE);
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
	rte_memseg_list_walk(ask_for_huge_pages, NULL);
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
