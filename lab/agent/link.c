// SPDX-License-Identifier: BSD-3-Clause
/* Framing of the lab's command link; see link.h. */
#include "link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define SLIP_END 0xc0
#define SLIP_ESC 0xdb
#define SLIP_ESC_END 0xdc
#define SLIP_ESC_ESC 0xdd

#define HEADER 4
#define CRC 2

static uint16_t crc16(const uint8_t *p, size_t len)
{
	uint16_t crc = 0xffff;

	while (len--) {
		crc ^= (uint16_t)(*p++ << 8);
		for (int i = 0; i < 8; i++)
			crc = (uint16_t)(crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1);
	}
	return crc;
}

void link_init(struct link *l, int fd)
{
	memset(l, 0, sizeof(*l));
	l->fd = fd;
}

int link_fill(struct link *l)
{
	ssize_t n;

	if (l->in_pos < l->in_len)
		return (int)(l->in_len - l->in_pos);
	do
		n = read(l->fd, l->in, sizeof(l->in));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	l->in_pos = 0;
	l->in_len = (size_t)n;
	return (int)n;
}

static bool frame_done(struct link *l, struct frame *f)
{
	size_t len = l->rx_len;
	bool bad = l->overflow || len < HEADER + CRC;

	l->rx_len = 0;
	l->overflow = false;
	l->escaped = false;
	if (bad)
		return false;
	len -= CRC;
	if (crc16(l->rx, len) != (l->rx[len] | l->rx[len + 1] << 8))
		return false;
	f->type = l->rx[0];
	f->seq = l->rx[1];
	f->id = (uint16_t)(l->rx[2] | l->rx[3] << 8);
	f->len = len - HEADER;
	f->data = l->rx + HEADER;
	return true;
}

bool link_next(struct link *l, struct frame *f)
{
	while (l->in_pos < l->in_len) {
		uint8_t c = l->in[l->in_pos++];

		if (c == SLIP_END) {
			if (frame_done(l, f))
				return true;
			continue;
		}
		if (c == SLIP_ESC) {
			l->escaped = true;
			continue;
		}
		if (l->escaped) {
			c = c == SLIP_ESC_END ? SLIP_END : SLIP_ESC;
			l->escaped = false;
		}
		if (l->rx_len < sizeof(l->rx))
			l->rx[l->rx_len++] = c;
		else
			l->overflow = true;
	}
	return false;
}

int write_all(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n >= 0) {
			p += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN) {
			struct pollfd pfd = { .fd = fd, .events = POLLOUT };

			poll(&pfd, 1, 1000);
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

static size_t slip_put(uint8_t *out, const uint8_t *p, size_t len)
{
	size_t n = 0;

	while (len--) {
		uint8_t c = *p++;

		if (c == SLIP_END || c == SLIP_ESC) {
			out[n++] = SLIP_ESC;
			c = c == SLIP_END ? SLIP_ESC_END : SLIP_ESC_ESC;
		}
		out[n++] = c;
	}
	return n;
}

int link_send(struct link *l, uint8_t type, uint8_t seq, uint16_t id, const void *data, size_t len)
{
	uint8_t raw[HEADER + LINK_MAX + CRC];
	uint8_t out[2 * sizeof(raw) + 2];
	size_t n = 0;
	uint16_t crc;

	if (len > LINK_MAX)
		return -EMSGSIZE;
	raw[0] = type;
	raw[1] = seq;
	raw[2] = (uint8_t)id;
	raw[3] = (uint8_t)(id >> 8);
	if (len)
		memcpy(raw + HEADER, data, len);
	crc = crc16(raw, HEADER + len);
	raw[HEADER + len] = (uint8_t)crc;
	raw[HEADER + len + 1] = (uint8_t)(crc >> 8);
	out[n++] = SLIP_END; /* ends whatever noise came before */
	n += slip_put(out + n, raw, HEADER + len + CRC);
	out[n++] = SLIP_END;
	return write_all(l->fd, out, n);
}
