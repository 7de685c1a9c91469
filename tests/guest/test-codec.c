/* SPDX-License-Identifier: BSD-3-Clause */
/* The local transport's codec: what is sent arrives, and nothing malformed does. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <elisa/abi.h>
#include <elisa/local.h>

static struct elisa_local_msg good(enum elisa_local_type type)
{
	struct elisa_local_msg m = {0};

	switch (type) {
	case ELISA_LOCAL_JOIN:
		m.body.join = (struct elisa_local_join){.abi_revision = ELISA_ABI_REVISION,
							.callers = 4,
							.page = 4096,
							.ram_len = 1 << 20,
							.name = "vm1"};
		break;
	case ELISA_LOCAL_WELCOME:
		m.body.welcome = (struct elisa_local_welcome){.callers = 2,
							      .arena_addr = 0x10000,
							      .arena_len = 8192,
							      .ram_addr = 0x40000,
							      .library = "x.so",
							      .entry = "entry"};
		break;
	case ELISA_LOCAL_REFUSED:
		m.body.refused = (struct elisa_local_refused){.error = EPERM, .text = "no"};
		break;
	case ELISA_LOCAL_MAP:
		m.body.map = (struct elisa_local_map){.addr = 0x1000, .len = 4096, .write = 1};
		break;
	case ELISA_LOCAL_UNMAP:
		m.body.unmap = (struct elisa_local_unmap){.addr = 0x1000, .len = 4096};
		break;
	default:
		break;
	}
	return m;
}

static bool with_fd(enum elisa_local_type type)
{
	return type == ELISA_LOCAL_JOIN || type == ELISA_LOCAL_WELCOME || type == ELISA_LOCAL_MAP;
}

static void every_type_arrives(void **state)
{
	int pair[2], fd = memfd_create("t", MFD_CLOEXEC);

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	for (unsigned int t = ELISA_LOCAL_JOIN; t < ELISA_LOCAL_TYPES; t++) {
		struct elisa_local_msg in, out = good(t);
		struct stat a, b;
		int got;

		assert_int_equal(elisa_local_send(pair[0], &out, t, 7 + t, with_fd(t) ? fd : -1),
				 0);
		assert_int_equal(elisa_local_recv(pair[1], &in, &got), 0);
		assert_int_equal(in.header.type, t);
		assert_int_equal(in.header.seq, 7 + t);
		assert_memory_equal(&in, &out, out.header.len);
		assert_int_equal(got >= 0, with_fd(t));
		if (got < 0)
			continue;
		assert_int_equal(fstat(fd, &a) | fstat(got, &b), 0);
		assert_int_equal(a.st_ino, b.st_ino);
		close(got);
	}
	close(pair[0]);
	{
		struct elisa_local_msg in;
		int got;

		assert_int_equal(elisa_local_recv(pair[1], &in, &got), -ECONNRESET);
	}
	close(pair[1]);
	close(fd);
}

/* Changes one thing of a good message and wants it refused. */
#define REFUSED(type_, change)                                                \
	do {                                                                  \
		struct elisa_local_msg m = good(type_);                       \
		ssize_t len = elisa_local_encode(&m, type_, 1);               \
		bool fd = with_fd(type_);                                     \
                                                                              \
		assert_int_equal(elisa_local_decode(&m, (size_t)len, fd), 0); \
		change;                                                       \
		assert_true(elisa_local_decode(&m, (size_t)len, fd) < 0);     \
	} while (0)

static void malformed_is_refused(void **state)
{
	for (unsigned int t = ELISA_LOCAL_JOIN; t < ELISA_LOCAL_TYPES; t++) {
		REFUSED(t, m.header.magic ^= 1);
		REFUSED(t, m.header.revision++);
		REFUSED(t, m.header.type = ELISA_LOCAL_TYPES);
		REFUSED(t, m.header.type = 0);
		REFUSED(t, m.header.len++);
		REFUSED(t, len--);
		REFUSED(t, fd = !fd);
		REFUSED(t, len = 3);
	}
	REFUSED(ELISA_LOCAL_JOIN, memset(m.body.join.name, 'a', sizeof(m.body.join.name)));
	REFUSED(ELISA_LOCAL_JOIN, m.body.join.callers = 0);
	REFUSED(ELISA_LOCAL_JOIN, m.body.join.callers = ELISA_LOCAL_CALLERS_MAX + 1);
	REFUSED(ELISA_LOCAL_JOIN, m.body.join.page = 8192);
	REFUSED(ELISA_LOCAL_JOIN, m.body.join.ram_len = 0);
	REFUSED(ELISA_LOCAL_JOIN, m.body.join.ram_len = 4097);
	REFUSED(ELISA_LOCAL_JOIN, m.body.join.page = 2097152; m.body.join.ram_len = 4096);
	REFUSED(ELISA_LOCAL_JOIN, m.body.join.page = 2097152; m.body.join.ram_len = 2097152;
		m.body.join.ram_gpa = 4096);
	REFUSED(ELISA_LOCAL_JOIN, m.body.join.ram_offset = 512);
	REFUSED(ELISA_LOCAL_JOIN, m.body.join.ram_offset = UINT64_C(1) << 62);
	REFUSED(ELISA_LOCAL_JOIN, m.body.join.ram_gpa = 1);
	REFUSED(ELISA_LOCAL_JOIN, m.body.join.ram_gpa = (UINT64_C(1) << 47) - 4096);
	REFUSED(ELISA_LOCAL_JOIN, m.body.join.flags = 2);
	REFUSED(ELISA_LOCAL_JOIN, m.body.join.reserved = 1);
	REFUSED(ELISA_LOCAL_WELCOME, m.body.welcome.callers = 65);
	REFUSED(ELISA_LOCAL_WELCOME, m.body.welcome.arena_addr = UINT64_MAX & ~UINT64_C(4095));
	REFUSED(ELISA_LOCAL_WELCOME, memset(m.body.welcome.entry, 'a', 64));
	REFUSED(ELISA_LOCAL_WELCOME, memset(m.body.welcome.library, 'a', 256));
	REFUSED(ELISA_LOCAL_WELCOME, m.body.welcome.ram_addr = 5);
	REFUSED(ELISA_LOCAL_REFUSED, m.body.refused.error = 0);
	REFUSED(ELISA_LOCAL_REFUSED, memset(m.body.refused.text, 'a', 164));
	REFUSED(ELISA_LOCAL_MAP, m.body.map.addr = 0);
	REFUSED(ELISA_LOCAL_MAP, m.body.map.addr = 1);
	REFUSED(ELISA_LOCAL_MAP, m.body.map.len = 0);
	REFUSED(ELISA_LOCAL_MAP, m.body.map.len = UINT64_C(1) << 47);
	REFUSED(ELISA_LOCAL_MAP, m.body.map.offset = 7);
	REFUSED(ELISA_LOCAL_MAP, m.body.map.write = 2);
	REFUSED(ELISA_LOCAL_UNMAP, m.body.unmap.len = 1);
	REFUSED(ELISA_LOCAL_ACK, m.body.ack.error = 5000);
	{
		struct elisa_local_msg m;

		assert_int_equal(elisa_local_encode(&m, ELISA_LOCAL_TYPES, 0), -EINVAL);
		assert_int_equal(elisa_local_encode(&m, 0, 0), -EINVAL);
	}
}

/* Bytes that are no message at all, and too many descriptors, are refused without a leak. */
static void garbage_is_refused(void **state)
{
	char junk[2000];
	struct elisa_local_msg in;
	int pair[2], fd, before, after;

	memset(junk, 0x5a, sizeof(junk));
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	before = dup(0);
	close(before);
	for (size_t len = 1; len < sizeof(junk); len += 17) {
		assert_int_equal(send(pair[0], junk, len, 0), len);
		assert_true(elisa_local_recv(pair[1], &in, &fd) < 0);
		assert_int_equal(fd, -1);
	}
	in = good(ELISA_LOCAL_READY);
	assert_int_equal(elisa_local_send(pair[0], &in, ELISA_LOCAL_READY, 0, pair[0]), 0);
	assert_int_equal(elisa_local_recv(pair[1], &in, &fd), -EBADMSG);
	after = dup(0);
	close(after);
	assert_int_equal(before, after);
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_type_arrives),
		cmocka_unit_test(malformed_is_refused),
		cmocka_unit_test(garbage_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
