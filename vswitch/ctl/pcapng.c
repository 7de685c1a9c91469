/* SPDX-License-Identifier: BSD-3-Clause */
#include "pcapng.h"

#include <string.h>

enum { SECTION = 0x0a0d0d0a, INTERFACE = 1, STATISTICS = 5, PACKET = 6 };
enum { OPT_END = 0, OPT_COMMENT = 1 };
enum { SHB_USERAPPL = 4 };
enum { IF_NAME = 2, IF_TSRESOL = 9 };
enum { EPB_FLAGS = 2 };
enum { ISB_IFRECV = 4, ISB_IFDROP = 5, ISB_FILTERACCEPT = 6 };

#define LINKTYPE_ETHERNET 1
#define TEXT_MAX	  255u

static uint32_t padded(size_t len)
{
	return (uint32_t)(len + 3) & ~3u;
}

static void put(FILE *out, const void *data, size_t len)
{
	fwrite(data, 1, len, out);
	fwrite("\0\0\0", 1, padded(len) - len, out);
}

static void put32(FILE *out, uint32_t value)
{
	put(out, &value, sizeof(value));
}

static uint32_t option_len(size_t len)
{
	return 4 + padded(len);
}

static void option(FILE *out, uint16_t code, const void *value, size_t len)
{
	const uint16_t head[2] = {code, (uint16_t)len};

	put(out, head, sizeof(head));
	put(out, value, len);
}

static void begin(FILE *out, uint32_t type, uint32_t len)
{
	put32(out, type);
	put32(out, len);
}

/* Of the options, and of the block. */
static void end(FILE *out, uint32_t len)
{
	option(out, OPT_END, "", 0);
	put32(out, len);
}

static size_t text_len(const char *text)
{
	return strnlen(text, TEXT_MAX);
}

void pcapng_section(FILE *out, const char *program)
{
	const struct {
		uint32_t magic;
		uint16_t major, minor;
		uint32_t length[2]; /* not known */
	} head = {0x1a2b3c4d, 1, 0, {UINT32_MAX, UINT32_MAX}};
	uint32_t len = 12 + sizeof(head) + option_len(text_len(program)) + 4;

	begin(out, SECTION, len);
	put(out, &head, sizeof(head));
	option(out, SHB_USERAPPL, program, text_len(program));
	end(out, len);
}

void pcapng_interface(FILE *out, const char *name, uint32_t snap)
{
	const struct {
		uint16_t link, reserved;
		uint32_t snap;
	} head = {LINKTYPE_ETHERNET, 0, snap};
	const uint8_t nanoseconds = 9;
	uint32_t len = 12 + sizeof(head) + option_len(text_len(name)) + option_len(1) + 4;

	begin(out, INTERFACE, len);
	put(out, &head, sizeof(head));
	option(out, IF_NAME, name, text_len(name));
	option(out, IF_TSRESOL, &nanoseconds, 1);
	end(out, len);
}

void pcapng_packet(FILE *out, const struct pcapng_packet *p)
{
	const uint32_t head[5] = {p->interface, (uint32_t)(p->time >> 32), (uint32_t)p->time,
				  p->captured, p->length};
	const uint32_t flags = p->direction;
	size_t comment = p->comment ? text_len(p->comment) : 0;
	uint32_t len = 12 + sizeof(head) + padded(p->captured) + option_len(sizeof(flags)) +
		       (comment ? option_len(comment) : 0) + 4;

	begin(out, PACKET, len);
	put(out, head, sizeof(head));
	put(out, p->data, p->captured);
	option(out, EPB_FLAGS, &flags, sizeof(flags));
	if (comment)
		option(out, OPT_COMMENT, p->comment, comment);
	end(out, len);
}

void pcapng_statistics(FILE *out, uint32_t interface, uint64_t time, uint64_t received,
		       uint64_t accepted, uint64_t missed)
{
	const uint32_t head[3] = {interface, (uint32_t)(time >> 32), (uint32_t)time};
	uint32_t len = 12 + sizeof(head) + 3 * option_len(8) + 4;

	begin(out, STATISTICS, len);
	put(out, head, sizeof(head));
	option(out, ISB_IFRECV, &received, sizeof(received));
	option(out, ISB_IFDROP, &missed, sizeof(missed));
	option(out, ISB_FILTERACCEPT, &accepted, sizeof(accepted));
	end(out, len);
}
