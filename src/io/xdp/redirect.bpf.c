// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Frames of one port in, a redirect to the AF_XDP socket of their receive queue out.
//
// What is addressed to the box itself (own unicast address under the port's own MAC, and address resolution for it) goes to
// the kernel when the port has addresses; so does every frame on a queue without a socket, counted. Everything the program
// needs of the kernel's interface is declared here: no kernel or libbpf header is needed to build it.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

enum { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT };
enum { MAP_HASH = 1, MAP_ARRAY = 2, MAP_PER_CPU_ARRAY = 6, MAP_XSK = 17 };

static void *(*lookup)(void *map, const void *key) = (void *)1;
static long (*redirect_map)(void *map, u64 key, u64 flags) = (void *)51;

#define SECTION(name) __attribute__((section(name), used))
#define MAP(kind, key_type, value_type, entries)                                                                               \
	struct {                                                                                                               \
		int(*type)[kind];                                                                                              \
		int(*max_entries)[entries];                                                                                    \
		key_type *key;                                                                                                 \
		value_type *value;                                                                                             \
	}

struct address6 {
	u8 byte[16];
};

// Receive queue to socket; sized to the interface's queues when loaded.
MAP(MAP_XSK, u32, u32, 64) SOCKETS SECTION(".maps");
// The port's own addresses, as on the wire.
MAP(MAP_HASH, u32, u8, 256) OWN4 SECTION(".maps");
MAP(MAP_HASH, struct address6, u8, 256) OWN6 SECTION(".maps");
// Frames that did not go to a socket.
enum { WITHOUT_SOCKET, TO_THE_BOX, COUNTERS_LEN };
MAP(MAP_PER_CPU_ARRAY, u32, u64, COUNTERS_LEN) COUNTERS SECTION(".maps");

// Set when the program is loaded.
const volatile u8 HAS_ADDRESSES = 0;
const volatile u8 OWN_MAC[6] = {};

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define from_network(x) __builtin_bswap16(x)
#else
#define from_network(x) (x)
#endif

struct ethernet {
	u8 destination[6];
	u8 source[6];
	u16 type;
} __attribute__((packed));

static __attribute__((always_inline)) void count(u32 which)
{
	u64 *value = lookup(&COUNTERS, &which);
	if (value)
		*value += 1;
}

static __attribute__((always_inline)) int to_own_mac(const struct ethernet *header)
{
	u8 differs = 0;
	for (int i = 0; i < 6; i++)
		differs |= header->destination[i] ^ OWN_MAC[i];
	return !differs;
}

static __attribute__((always_inline)) int own4(const u8 *wire)
{
	u32 address;
	__builtin_memcpy(&address, wire, 4);
	return lookup(&OWN4, &address) != 0;
}

static __attribute__((always_inline)) int own6(const u8 *wire)
{
	struct address6 address;
	__builtin_memcpy(&address, wire, 16);
	return lookup(&OWN6, &address) != 0;
}

// Whether a frame is for the box: no VLAN tag, and ARP whose target protocol address is own (RFC 826), IPv4 or IPv6 under the
// own MAC to an own address, or a neighbour solicitation (RFC 4861, 4.3) whose target is own.
static __attribute__((always_inline)) int is_for_the_box(const u8 *data, const u8 *end)
{
	const struct ethernet *header = (const void *)data;
	const u8 *packet = data + sizeof(*header);
	if (packet > end)
		return 0;
	switch (from_network(header->type)) {
	case 0x0806:
		return packet + 28 <= end && own4(packet + 24);
	case 0x0800:
		return packet + 20 <= end && to_own_mac(header) && own4(packet + 16);
	case 0x86dd:
		if (packet + 40 > end)
			return 0;
		if (to_own_mac(header))
			return own6(packet + 24);
		return packet[6] == 58 && packet + 64 <= end && packet[40] == 135 && own6(packet + 48);
	default:
		return 0;
	}
}

SECTION("xdp") int redirect(struct xdp_md *context)
{
	const u8 *data = (const u8 *)(long)context->data;
	const u8 *end = (const u8 *)(long)context->data_end;
	if (HAS_ADDRESSES && is_for_the_box(data, end)) {
		count(TO_THE_BOX);
		return XDP_PASS;
	}
	long action = redirect_map(&SOCKETS, context->rx_queue_index, XDP_PASS);
	if (action != XDP_REDIRECT)
		count(WITHOUT_SOCKET);
	return action;
}

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
