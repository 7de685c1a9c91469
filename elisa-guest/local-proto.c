/* SPDX-License-Identifier: BSD-3-Clause */
/* The local transport's messages: one codec for the client and the service (elisa/local.h). */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <elisa/local.h>

_Static_assert(sizeof(struct elisa_local_header) == 16, "elisa_local_header");
_Static_assert(sizeof(struct elisa_local_join) == 80, "elisa_local_join");
_Static_assert(sizeof(struct elisa_local_welcome) == 936, "elisa_local_welcome");
_Static_assert(sizeof(struct elisa_local_refused) == 168, "elisa_local_refused");
_Static_assert(sizeof(struct elisa_local_map) == 32, "elisa_local_map");

static const struct {
	uint16_t len; /* of the body */
	bool fd;      /* a descriptor comes with it */
} kinds[ELISA_LOCAL_TYPES] = {
	[ELISA_LOCAL_JOIN] = {sizeof(struct elisa_local_join), true},
	[ELISA_LOCAL_WELCOME] = {sizeof(struct elisa_local_welcome), true},
	[ELISA_LOCAL_REFUSED] = {sizeof(struct elisa_local_refused), false},
	[ELISA_LOCAL_MAP] = {sizeof(struct elisa_local_map), true},
	[ELISA_LOCAL_UNMAP] = {sizeof(struct elisa_local_unmap), false},
	[ELISA_LOCAL_ACK] = {sizeof(struct elisa_local_ack), false},
	[ELISA_LOCAL_READY] = {0, false},
	[ELISA_LOCAL_LEAVE] = {0, false},
};

static bool is_text(const char *s, size_t size)
{
	return memchr(s, '\0', size) != NULL;
}

/* Page-aligned, not empty, below the end of user space: nothing can overflow afterwards. */
static bool is_range(uint64_t addr, uint64_t len)
{
	const uint64_t end = UINT64_C(1) << 47;

	return len && !((addr | len) & 4095) && addr < end && len <= end - addr;
}

static bool body_ok(const struct elisa_local_msg *msg)
{
	const union elisa_local_body *b = &msg->body;

	switch (msg->header.type) {
	case ELISA_LOCAL_JOIN:
		return is_text(b->join.name, sizeof(b->join.name)) && b->join.callers >= 1 &&
		       b->join.callers <= ELISA_LOCAL_CALLERS_MAX &&
		       (b->join.page == 4096 || b->join.page == 2097152) &&
		       is_range(b->join.ram_gpa, b->join.ram_len) &&
		       !((b->join.ram_len | b->join.ram_offset | b->join.ram_gpa) % b->join.page) &&
		       b->join.ram_offset < UINT64_C(1) << 62 &&
		       !(b->join.flags & ~(uint32_t)ELISA_LOCAL_UNSEALED) && !b->join.reserved;
	case ELISA_LOCAL_WELCOME:
		return is_text(b->welcome.library, sizeof(b->welcome.library)) &&
		       is_text(b->welcome.entry, sizeof(b->welcome.entry)) &&
		       is_text(b->welcome.check_symbol, sizeof(b->welcome.check_symbol)) &&
		       b->welcome.callers >= 1 && b->welcome.callers <= ELISA_LOCAL_CALLERS_MAX &&
		       b->welcome.ram_addr && is_range(b->welcome.ram_addr, 4096) &&
		       b->welcome.arena_addr &&
		       is_range(b->welcome.arena_addr, b->welcome.arena_len);
	case ELISA_LOCAL_REFUSED:
		return is_text(b->refused.text, sizeof(b->refused.text)) && b->refused.error;
	case ELISA_LOCAL_MAP:
		return b->map.addr && is_range(b->map.addr, b->map.len) &&
		       !(b->map.offset & 4095) && b->map.offset < UINT64_C(1) << 62 &&
		       b->map.write <= 1 && !b->map.reserved;
	case ELISA_LOCAL_UNMAP:
		return b->unmap.addr && is_range(b->unmap.addr, b->unmap.len);
	case ELISA_LOCAL_ACK:
		return b->ack.error < 4096 && !b->ack.reserved;
	default:
		return true;
	}
}

ssize_t elisa_local_encode(struct elisa_local_msg *msg, enum elisa_local_type type, uint32_t seq)
{
	if ((unsigned int)type < ELISA_LOCAL_JOIN || (unsigned int)type >= ELISA_LOCAL_TYPES)
		return -EINVAL;
	msg->header = (struct elisa_local_header){
		.magic = ELISA_LOCAL_MAGIC,
		.revision = ELISA_LOCAL_REVISION,
		.type = (uint16_t)type,
		.len = (uint32_t)sizeof(msg->header) + kinds[type].len,
		.seq = seq,
	};
	return msg->header.len;
}

int elisa_local_decode(struct elisa_local_msg *msg, size_t len, bool with_fd)
{
	const struct elisa_local_header *h = &msg->header;

	if (len < sizeof(*h) || h->magic != ELISA_LOCAL_MAGIC ||
	    h->revision != ELISA_LOCAL_REVISION)
		return -EPROTO;
	if (h->type < ELISA_LOCAL_JOIN || h->type >= ELISA_LOCAL_TYPES)
		return -EBADMSG;
	if (h->len != len || len != sizeof(*h) + kinds[h->type].len ||
	    with_fd != kinds[h->type].fd || !body_ok(msg))
		return -EBADMSG;
	return 0;
}

ssize_t elisa_send_fd(int sock, const void *data, size_t len, int fd, int flags)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t sent;

	if (fd >= 0) {
		struct cmsghdr *c;

		mh.msg_control = control.buf;
		mh.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	do
		sent = sendmsg(sock, &mh, flags);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

int elisa_local_send(int sock, struct elisa_local_msg *msg, enum elisa_local_type type,
		     uint32_t seq, int fd)
{
	ssize_t len = elisa_local_encode(msg, type, seq), sent;

	if (len < 0)
		return (int)len;
	sent = elisa_send_fd(sock, msg, (size_t)len, fd, MSG_NOSIGNAL);
	if (sent < 0)
		return sent == -EPIPE ? -ECONNRESET : (int)sent;
	return sent == len ? 0 : -EIO;
}

/* Takes the first descriptor of a control message and closes any more. */
static int take_fd(struct msghdr *mh)
{
	int fd = -1;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t off = 0; off + sizeof(int) <= c->cmsg_len - CMSG_LEN(0);
		     off += sizeof(int)) {
			int one;

			memcpy(&one, CMSG_DATA(c) + off, sizeof(one));
			if (fd < 0)
				fd = one;
			else
				close(one);
		}
	}
	return fd;
}

int elisa_local_recv(int sock, struct elisa_local_msg *msg, int *fd)
{
	union {
		char buf[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = msg, .iov_len = sizeof(*msg)};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.buf,
			    .msg_controllen = sizeof(control.buf)};
	ssize_t len;
	int rc;

	*fd = -1;
	do
		len = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
	while (len < 0 && errno == EINTR);
	if (len < 0)
		return -errno;
	if (!len)
		return -ECONNRESET;
	*fd = take_fd(&mh);
	rc = mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)
		     ? -EBADMSG
		     : elisa_local_decode(msg, (size_t)len, *fd >= 0);
	if (rc && *fd >= 0) {
		close(*fd);
		*fd = -1;
	}
	return rc;
}
