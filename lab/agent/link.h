/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The lab's command link: frames over a byte stream (emulated serial line, virtio port, UNIX socket).
 *
 * A frame is type(1) seq(1) id(2, little endian) payload crc(2, little endian, CRC-16/CCITT-FALSE over
 * all before it), with SLIP framing (RFC 1055): END closes a frame, ESC escapes. Frames with a wrong
 * checksum are dropped: an emulated UART loses bytes when its FIFO is full. Commands towards an agent
 * are acknowledged with their seq and repeated by the sender until then; output needs no such care,
 * since the emulator never loses what the guest transmits.
 */
#ifndef ELISA_LAB_LINK_H
#define ELISA_LAB_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_MAX 8192 /* payload bytes of one frame */

enum frame_type {
	/* towards the agent */
	FRAME_RUN = 'R',    /* flags(1) rows(2) cols(2) command: start a job */
	FRAME_STDIN = 'I',  /* bytes for the job's input; empty: end of input */
	FRAME_SIGNAL = 'K', /* signal number(1), to the job's process group */
	FRAME_PING = 'P',   /* answered by FRAME_HELLO */
	FRAME_QUIT = 'Q',   /* end the machine */
	/* from the agent */
	FRAME_ACK = 'A',    /* the command with this seq was taken */
	FRAME_HELLO = 'H',  /* the agent runs; payload: 1 when it just started, 0 as answer to a ping */
	FRAME_OUT = 'O',    /* output of a job, stdout and stderr together */
	FRAME_EXIT = 'X',   /* kind(1): 'e' exit, 's' signal, 'g' machine gone; value(1) */
};

#define RUN_PTY 0x01   /* give the job a terminal of rows x cols */
#define RUN_STDIN 0x02 /* the job's input comes in FRAME_STDIN; else it is empty */
#define RUN_HEADER 5   /* bytes before the command */

struct frame {
	uint8_t type;
	uint8_t seq;
	uint16_t id;
	size_t len;
	const uint8_t *data; /* inside the link's buffer, valid until the next link_next() */
};

struct link {
	int fd;
	bool escaped;
	bool overflow;
	size_t rx_len;        /* bytes of the frame being received */
	size_t in_pos, in_len;
	uint8_t rx[LINK_MAX + 16];
	uint8_t in[4096];     /* raw bytes read, not yet decoded */
};

void link_init(struct link *l, int fd);

/* Reads what is there once. Returns bytes read, 0 at end of stream, or -errno (-EAGAIN: nothing). */
int link_fill(struct link *l);

/* Decodes the next whole frame among the bytes read. Returns false when there is none yet. */
bool link_next(struct link *l, struct frame *f);

/* Writes one frame, waiting for room. Returns 0 or -errno; -EMSGSIZE above LINK_MAX. */
int link_send(struct link *l, uint8_t type, uint8_t seq, uint16_t id, const void *data, size_t len);

/* Writes all of it, waiting for room. Returns 0 or -errno. */
int write_all(int fd, const void *data, size_t len);

#endif
