/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which frames a port wants, and in which of its queues: what its guest says by ELISA_NET_RX_MODE
 * and ELISA_NET_RSS.
 *
 *	vs_wants	looked at when a way is made and in a flood, not for each frame
 *	vs_steer	a delivery to a port with RSS: hash, partition, one delivery for each queue
 *
 * The guest writes both under its port's try-lock; senders read them without. While they change,
 * the mode wants everything and nothing is steered. A sender that began to read before sends a
 * frame to the wrong queue, or drops it, at worst: all indices are bounded where they are used.
 *
 * Toeplitz, without tables: the hash is the XOR, over the set bits of the input, of the 32 bits of
 * the key that begin at that bit. For 32 bits of input w and the 64 bits K of the key from there
 * on, that is a carry-less product: with rev() as the reversal of bits, rev32(hash) = bits 31 to 62
 * of clmul(w, rev64(K)), so the products of all words are added up and reversed once.
 */
#include "offload.h"

#define ETH_IPV4     0x0800
#define ETH_IPV6     0x86dd
#define IP_TCP	     6
#define IP_UDP	     17
#define IPV4_FRAG    0x3fff /* RFC 791: more fragments, or an offset */
#define IPV4_LEN     20
#define IPV6_LEN     40
#define RSS_HASHED   ((uint64_t)ELISA_RXC_HASH << 32)
#define ETH_TYPE_AT  12
#define ETH_TAGS_MAX 2

vs_inline uint32_t be16_at(const uint8_t *at)
{
	return __builtin_bswap16(vs_get16(at));
}

static uint32_t reverse32(uint32_t v)
{
	v = (v >> 1 & 0x55555555) | (v & 0x55555555) << 1;
	v = (v >> 2 & 0x33333333) | (v & 0x33333333) << 2;
	v = (v >> 4 & 0x0f0f0f0f) | (v & 0x0f0f0f0f) << 4;
	return __builtin_bswap32(v);
}

struct rss_sum {
	const uint64_t *window; /* of the key, of the next word */
	__m128i product;
};

vs_inline void sum_up(struct rss_sum *sum, const uint8_t *at, uint32_t words)
{
	for (; words; words--, at += 4, sum->window++) {
		__m128i word = _mm_cvtsi32_si128((int)__builtin_bswap32(vs_get32(at)));
		__m128i key = _mm_cvtsi64_si128((long long)vs_load(sum->window));

		sum->product = _mm_xor_si128(sum->product, _mm_clmulepi64_si128(word, key, 0));
	}
}

vs_inline uint64_t sum_hash(const struct rss_sum *sum)
{
	return RSS_HASHED | reverse32((uint32_t)(_mm_cvtsi128_si64(sum->product) >> 31));
}

/* `addresses`: where they lie; `ports`: likewise, or NULL. */
vs_inline uint64_t hash_flow(const struct vs_rss *rss, const uint8_t *addresses, uint32_t words,
			     const uint8_t *ports)
{
	struct rss_sum sum = {rss->window, _mm_setzero_si128()};

	sum_up(&sum, addresses, words);
	if (ports)
		sum_up(&sum, ports, 1);
	return sum_hash(&sum);
}

static uint64_t hash_ipv4(const struct vs_rss *rss, uint32_t types, const uint8_t *ip, uint64_t len)
{
	uint32_t first, header, type = 0;

	if (len < IPV4_LEN)
		return 0;
	first = VS_READ_ONCE(ip[0]);
	header = (first & 15) * 4;
	if (first >> 4 != 4 || header < IPV4_LEN)
		return 0;
	if (ip[9] == IP_TCP)
		type = ELISA_RSS_TCP4;
	else if (ip[9] == IP_UDP)
		type = ELISA_RSS_UDP4;
	if (types & type && !(be16_at(ip + 6) & IPV4_FRAG) && header + 4 <= len)
		return hash_flow(rss, ip + 12, 2, ip + header);
	return types & ELISA_RSS_IPV4 ? hash_flow(rss, ip + 12, 2, NULL) : 0;
}

/* Extension headers are not looked into, so what has them, fragments too, is without ports. */
static uint64_t hash_ipv6(const struct vs_rss *rss, uint32_t types, const uint8_t *ip, uint64_t len)
{
	uint32_t type = 0;

	if (len < IPV6_LEN || ip[0] >> 4 != 6)
		return 0;
	if (ip[6] == IP_TCP)
		type = ELISA_RSS_TCP6;
	else if (ip[6] == IP_UDP)
		type = ELISA_RSS_UDP6;
	if (types & type && IPV6_LEN + 4 <= len)
		return hash_flow(rss, ip + 8, 8, ip + IPV6_LEN);
	return types & ELISA_RSS_IPV6 ? hash_flow(rss, ip + 8, 8, NULL) : 0;
}

/*
 * ELISA_RXC_HASH << 32 | hash, or 0: none. `len` bytes are there. They are the sender's and may
 * change meanwhile: what bounds an access is read once.
 */
static uint64_t hash_of(const struct vs_rss *rss, uint32_t types, const uint8_t *data, uint64_t len)
{
	uint64_t at = ETH_TYPE_AT;

	for (int tags = 0; at + 2 <= len; tags++, at += 4) {
		uint32_t type = be16_at(data + at);

		if (type == ETH_IPV4)
			return hash_ipv4(rss, types, data + at + 2, len - at - 2);
		if (type == ETH_IPV6)
			return hash_ipv6(rss, types, data + at + 2, len - at - 2);
		if ((type != VS_TPID_C && type != VS_TPID_S) || tags == ETH_TAGS_MAX)
			return 0;
	}
	return 0;
}

/* Of a port with VS_RSS_BY_CALLER: each vCPU has its own where there are enough. */
unsigned int vs_queue_of_caller(const struct vs_caller *caller, const struct vs_port *to)
{
	return vs_rx_index(to, caller->id - 1);
}

static struct vs_delivered steer_by_hash(struct vs_caller *caller, struct vs_port *to,
					 const struct vs_load_of *load)
{
	uint32_t of_queue[ELISA_QUEUES_MAX] = {0}, queues = 0;
	uint32_t types = vs_load(&to->rss.types);
	uint64_t hash[VS_BATCH], part_hash[VS_BATCH];
	struct vs_frame part_frame[VS_BATCH];
	struct vs_delivered done = {0, 0}, one;
	struct vs_load_of part = *load;

	part.frame = part_frame;
	part.hash = part_hash;
	for (uint32_t i = 0; i < load->count; i++) {
		const struct vs_frame *f = &load->frame[i];
		uint64_t len = f->segs ? load->segs[f->seg].len
				       : f->len - (uint32_t)load->shift;
		uint32_t queue;

		hash[i] = hash_of(&to->rss, types, f->data, len);
		queue = vs_load(&to->rss.reta[hash[i] % ELISA_RETA_SIZE]) % ELISA_QUEUES_MAX;
		of_queue[queue] |= 1u << i;
		queues |= 1u << queue;
	}
	for (; queues; queues &= queues - 1) {
		uint32_t queue = (uint32_t)__builtin_ctz(queues);

		part.count = 0;
		for (uint32_t which = of_queue[queue]; which; which &= which - 1) {
			uint32_t i = (uint32_t)__builtin_ctz(which);

			part_frame[part.count] = load->frame[i];
			part_hash[part.count++] = hash[i] | (load->hash ? load->hash[i] : 0);
		}
		one = vs_deliver(caller, to, queue, &part);
		done.frames += one.frames;
		done.bytes += one.bytes;
	}
	return done;
}

struct vs_delivered vs_steer(struct vs_caller *caller, struct vs_port *to,
			     const struct vs_load_of *load)
{
	if (vs_load(&to->rss.types) & VS_RSS_BY_CALLER)
		return vs_deliver(caller, to, vs_queue_of_caller(caller, to), load);
	return steer_by_hash(caller, to, load);
}

bool vs_wants(const struct vs_port *port, uint64_t key)
{
	const struct vs_mode *mode = &port->mode;
	uint32_t flags = vs_load_acquire(&mode->flags), count = vs_load(&mode->count);

	if (vs_likely(flags & ELISA_RX_PROMISC) || key == VS_KEY_BROADCAST ||
	    (flags & ELISA_RX_ALLMULTI && key & VS_KEY_MULTICAST))
		return true;
	for (uint32_t i = 0; i < count && i < ELISA_MACS_MAX; i++)
		if (vs_load(&mode->key[i]) == key)
			return true;
	return false;
}

/* As at first: all frames, none steered, but by who sends them. */
void vs_tune_reset(struct vs_port *port)
{
	vs_store(&port->mode.flags, ELISA_RX_PROMISC);
	vs_store(&port->rss.types, port->nic ? VS_RSS_BY_CALLER : 0);
}

/*
 * With the port's try-lock, or an error. The host may take the port down, which resets all this, at
 * any time without that lock: tune_end() sees that it did, since it changes the ticket before and
 * after.
 */
static int tune_begin(struct vs_caller *caller, uint64_t index, struct vs_port *port,
		      uint64_t *ticket)
{
	int error = 0;

	if (!vs_ctl_take(caller, port))
		return -ELISA_EAGAIN;
	*ticket = __atomic_load_n(&port->host_ticket, __ATOMIC_SEQ_CST);
	if (*ticket == VS_TICKET_PENDING)
		error = -ELISA_EAGAIN;
	else if (vs_port_of(caller, index) != port)
		error = -ELISA_ENODEV;
	if (error)
		vs_ctl_drop(caller, port);
	return error;
}

static int tune_end(struct vs_caller *caller, struct vs_port *port, uint64_t ticket)
{
	int error = 0;

	vs_changed(caller->vs);
	VS_STEP();
	if (__atomic_load_n(&port->host_ticket, __ATOMIC_SEQ_CST) != ticket) {
		vs_tune_reset(port);
		vs_changed(caller->vs);
		error = -ELISA_EAGAIN;
	}
	vs_ctl_drop(caller, port);
	return error;
}

/* Stopped in between, the port wants everything. */
static void mode_set(struct vs_mode *mode, const struct elisa_rx_mode *m)
{
	uint32_t count = (uint32_t)m->unicast + m->multicast;

	vs_store_release(&mode->flags, ELISA_RX_PROMISC);
	VS_STEP();
	for (uint32_t i = 0; i < count; i++)
		vs_store(&mode->key[i], vs_mac_key(m->mac[i]));
	vs_store_release(&mode->count, count);
	VS_STEP();
	vs_store_release(&mode->flags, m->flags);
}

static int mode_check(const struct vs_port *port, const struct elisa_rx_mode *m)
{
	bool own_only = vs_load(&port->anti_spoof);
	uint64_t own = vs_load(&port->key);

	if (m->flags & ~(uint32_t)(ELISA_RX_PROMISC | ELISA_RX_ALLMULTI) ||
	    m->unicast + m->multicast > ELISA_MACS_MAX)
		return -ELISA_EINVAL;
	for (uint32_t i = 0; i < (uint32_t)m->unicast + m->multicast; i++) {
		uint64_t key = vs_mac_key(m->mac[i]);

		if (!key || !(key & VS_KEY_MULTICAST) != (i < m->unicast))
			return -ELISA_EINVAL;
		if (own_only && i < m->unicast && key != own)
			return -ELISA_EPERM;
	}
	return 0;
}

int64_t vs_op_rx_mode(struct vs_caller *caller, uint64_t index, uint64_t gpa)
{
	struct vs_port *port = vs_port_of(caller, index);
	struct elisa_rx_mode m;
	uint64_t ticket;
	int error;

	if (!port)
		return -ELISA_ENODEV;
	if (!vs_copy_in(caller->guest, gpa, &m, sizeof(m)))
		return -ELISA_EFAULT;
	error = mode_check(port, &m);
	if (!error)
		error = tune_begin(caller, index, port, &ticket);
	if (error)
		return error;
	VS_STEP();
	mode_set(&port->mode, &m);
	return tune_end(caller, port, ticket);
}

/* Stopped in between, the port is without steering. */
static void rss_set(struct vs_rss *rss, const struct elisa_rss *r)
{
	vs_store_release(&rss->types, 0);
	VS_STEP();
	for (uint32_t i = 0; i < VS_RSS_WORDS; i++) {
		uint64_t key = __builtin_bswap64(vs_get64(r->key + 4 * i));

		vs_store(&rss->window[i], (uint64_t)reverse32((uint32_t)key) << 32 |
						  reverse32((uint32_t)(key >> 32)));
	}
	for (uint32_t i = 0; i < ELISA_RETA_SIZE; i++)
		vs_store(&rss->reta[i], r->reta[i]);
	VS_STEP();
	vs_store_release(&rss->types, r->types);
}

static int rss_check(const struct vs_port *port, const struct elisa_rss *r)
{
	if (r->types & ~(uint32_t)ELISA_RSS_ALL || r->reserved || port->nic)
		return -ELISA_EINVAL;
	for (uint32_t i = 0; r->types && i < ELISA_RETA_SIZE; i++)
		if (r->reta[i] >= port->queues)
			return -ELISA_EINVAL;
	return 0;
}

int64_t vs_op_rss(struct vs_caller *caller, uint64_t index, uint64_t gpa)
{
	struct vs_port *port = vs_port_of(caller, index);
	struct elisa_rss r;
	uint64_t ticket;
	int error;

	if (!port)
		return -ELISA_ENODEV;
	if (!vs_copy_in(caller->guest, gpa, &r, sizeof(r)))
		return -ELISA_EFAULT;
	error = rss_check(port, &r);
	if (!error)
		error = tune_begin(caller, index, port, &ticket);
	if (error)
		return error;
	VS_STEP();
	rss_set(&port->rss, &r);
	return tune_end(caller, port, ticket);
}
