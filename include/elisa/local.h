/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The `local` transport, a FALLBACK WITHOUT ISOLATION: a process of the host plays a VM. It joins
 * the service's memory and calls the service's code in-process. For machines without VT-x,
 * development and benchmarks; whoever may connect to the socket can read and write all of it.
 *
 * First half of this header: the protocol, on a Unix SOCK_SEQPACKET socket with SCM_RIGHTS. Second
 * half: the service's side as a small library (elisa_local_server_dep in meson), for an epoll loop.
 *
 *	client				 service
 *	JOIN + RAM descriptor	  ->			may this peer? map its RAM; cookies
 *				  <-	 WELCOME + arena descriptor
 *	ACK (arena, RAM mapped)	  ->
 *				  <-	 MAP + descriptor, for every region: other VMs' RAM
 *	ACK			  ->
 *				  <-	 READY		every other client has mapped its RAM too
 *	... calls are made; MAP, UNMAP and their ACKs go on as others come and go ...
 *	LEAVE, or just death	  ->			grace period, then UNMAP to the others
 *
 * All memory lies at the same addresses in the service and in every client, so the service's state
 * may hold pointers; they must not point to code or to a library's own data. The client's "guest-
 * physical" addresses start at ram_gpa: 0 for RAM that the library made, the program's own address
 * of it for RAM that the program brought (elisa_guest_open_ram()).
 *
 * RAM that the library made is a memfd sealed against shrinking. A program's own often cannot be:
 * then ELISA_LOCAL_UNSEALED says so, and its length is checked at JOIN only. Whoever truncates that
 * file later kills by SIGBUS every process that touches the lost pages, the service among them. Such
 * a client could as well have written rubbish into the arena: there is no isolation here. A service
 * that wants the seal all the same looks at elisa_local_request.sealed.
 */
#ifndef ELISA_LOCAL_H
#define ELISA_LOCAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the protocol ---- */

#define ELISA_LOCAL_MAGIC	0x4c415345	/* "ESAL" */
#define ELISA_LOCAL_REVISION	2
#define ELISA_LOCAL_SOCKET	"/run/elisa/local.sock"
#define ELISA_LOCAL_CALLERS_MAX	64	/* threads of one client that may call */
#define ELISA_LOCAL_NAME_MAX	32	/* bytes, with the NUL */
/*
 * Where a service best puts its arena and all RAM: below PIE programs and libraries of x86-64
 * Linux, above AddressSanitizer's shadow. Nothing depends on it: a client that finds an address
 * taken answers EEXIST.
 */
#define ELISA_LOCAL_VA_FIRST	0x200000000000
#define ELISA_LOCAL_VA_LAST	0x4fffffffffff

enum elisa_local_type {
	ELISA_LOCAL_JOIN = 1,	/* client; one descriptor: its RAM */
	ELISA_LOCAL_WELCOME,	/* service; one descriptor: the arena */
	ELISA_LOCAL_REFUSED,	/* service; it closes then */
	ELISA_LOCAL_MAP,	/* service; one descriptor */
	ELISA_LOCAL_UNMAP,	/* service; whole former mappings only */
	ELISA_LOCAL_ACK,	/* client; to WELCOME, MAP and UNMAP, with their seq */
	ELISA_LOCAL_READY,	/* service */
	ELISA_LOCAL_LEAVE,	/* client: none of its threads is in a call any more */
	ELISA_LOCAL_TYPES
};

struct elisa_local_header {
	uint32_t magic;		/* ELISA_LOCAL_MAGIC */
	uint16_t revision;	/* ELISA_LOCAL_REVISION */
	uint16_t type;		/* enum elisa_local_type */
	uint32_t len;		/* of the message, header included */
	uint32_t seq;		/* of a request; in an ACK that of the request */
};

#define ELISA_LOCAL_UNSEALED	(1 << 0)	/* the RAM's file may shrink, see above */

struct elisa_local_join {
	uint32_t abi_revision;	/* ELISA_ABI_REVISION */
	uint32_t service;	/* enum elisa_service that is asked for */
	uint32_t callers;	/* threads that want to call, 1..ELISA_LOCAL_CALLERS_MAX */
	uint32_t page;		/* bytes of a page of the RAM's memory: 4096 or 2097152 */
	uint64_t ram_len;	/* bytes, multiple of page */
	uint64_t ram_offset;	/* where the RAM starts in the descriptor, multiple of page */
	uint64_t ram_gpa;	/* the client's address of its first byte, multiple of page */
	uint32_t flags;		/* ELISA_LOCAL_UNSEALED */
	uint32_t reserved;	/* 0 */
	char name[ELISA_LOCAL_NAME_MAX];	/* which VM it wants to be; may be empty */
};

struct elisa_local_welcome {
	uint32_t service;
	uint32_t callers;	/* cookies that follow */
	uint64_t arena_addr, arena_len;
	uint64_t ram_addr;	/* map the own RAM there as well */
	uint64_t check;		/* what *check_symbol must hold */
	char library[256];	/* to dlopen: an absolute path or a soname */
	char entry[64];		/* elisa_entry_fn in it */
	char check_symbol[64];	/* a const uint64_t in it; may be empty: no check */
	uint64_t cookie[ELISA_LOCAL_CALLERS_MAX];	/* one for each thread */
};

struct elisa_local_refused {
	uint32_t error;		/* errno */
	char text[164];		/* a sentence */
};

struct elisa_local_map {
	uint64_t addr, len;
	uint64_t offset;	/* in the descriptor */
	uint32_t write;		/* 1: map writable */
	uint32_t reserved;	/* 0 */
};

struct elisa_local_unmap {
	uint64_t addr, len;
};

struct elisa_local_ack {
	uint32_t error;		/* errno, 0: done */
	uint32_t reserved;
};

union elisa_local_body {
	struct elisa_local_join join;
	struct elisa_local_welcome welcome;
	struct elisa_local_refused refused;
	struct elisa_local_map map;
	struct elisa_local_unmap unmap;
	struct elisa_local_ack ack;
};

/* The codec, shared by both halves: sizes, magic, revision, terminated strings, ranges. */
struct elisa_local_msg {
	struct elisa_local_header header;
	union elisa_local_body body;
};
/* Fills the header. Returns the bytes to send, or -EINVAL on an unknown type. */
ssize_t elisa_local_encode(struct elisa_local_msg *msg, enum elisa_local_type type, uint32_t seq);
/* Checks a message of `len` bytes. -EPROTO: not this protocol or revision; -EBADMSG: malformed. */
int elisa_local_decode(struct elisa_local_msg *msg, size_t len, bool with_fd);
/* sendmsg(2) with a descriptor (-1: none), again after EINTR. Returns the bytes sent, or -errno. */
ssize_t elisa_send_fd(int sock, const void *data, size_t len, int fd, int flags);
/* encode + elisa_send_fd(). -errno. */
int elisa_local_send(int sock, struct elisa_local_msg *msg, enum elisa_local_type type,
		     uint32_t seq, int fd);
/*
 * recvmsg(2) + decode. *fd: received descriptor (close-on-exec, the caller's), or -1.
 * -ECONNRESET: the peer has closed; -EAGAIN: nothing there.
 */
int elisa_local_recv(int sock, struct elisa_local_msg *msg, int *fd);

/* ---- the service's side ---- */

struct elisa_local_server;
struct elisa_local_peer;	/* a client */
struct elisa_local_region;	/* memory that all clients map */

struct elisa_local_request {
	pid_t pid;		/* peer credentials, from the kernel */
	uid_t uid;
	gid_t gid;
	const char *name;	/* as asked for; may be "" */
	uint32_t callers;
	uint32_t page;
	int ram_fd;		/* the peer's: valid until `released`; its size was checked */
	uint64_t ram_len, ram_offset;	/* map so much from there on */
	uint64_t ram_gpa;	/* how the peer calls the first byte */
	bool sealed;		/* the file cannot shrink; if not: see above */
};

struct elisa_local_answer {
	void *ram_addr;		/* where the service has mapped (MAP_SHARED) the client's RAM */
	uint32_t callers;	/* number of cookies, 1..requested */
	void *cookie[ELISA_LOCAL_CALLERS_MAX];
	char text[164];		/* when refused: a sentence */
};

/*
 * All are called from elisa_local_server_dispatch() only, on its thread; all functions below may
 * be called from inside them. Life of a peer: join (0) -> [ready] -> leave -> released.
 */
struct elisa_local_ops {
	/*
	 * May this peer be let in? Map its RAM and fill `answer`; it makes no call before `ready`.
	 * Negative errno: refused (nothing else is called for it).
	 */
	int (*join)(void *user, struct elisa_local_peer *peer,
		    const struct elisa_local_request *request, struct elisa_local_answer *answer);
	/* Every client has its RAM mapped and it has everybody's: its port may be switched on. */
	void (*ready)(void *user, struct elisa_local_peer *peer);
	/*
	 * It makes no call any more: the process is dead, or (orderly) has said so. A thread of a
	 * dead one may have died inside a call. Recover, then elisa_local_peer_release() once no
	 * caller uses its RAM; at once or later.
	 */
	void (*leave)(void *user, struct elisa_local_peer *peer, bool orderly);
	/* No client maps its RAM any more: unmap it here. The peer is freed on return. */
	void (*released)(void *user, struct elisa_local_peer *peer);
	/* For elisa_local_region_add(): every client has mapped it. May be NULL. */
	void (*region_ready)(void *user, struct elisa_local_region *region);
	/* For elisa_local_region_remove(): no client maps it; freed on return. May be NULL. */
	void (*region_gone)(void *user, struct elisa_local_region *region);
	/* One line for a log: peers kicked and why. May be NULL. */
	void (*log)(void *user, const char *line);
};

struct elisa_local_config {
	const char *path;	/* of the socket, stale or new; NULL: ELISA_LOCAL_SOCKET */
	mode_t mode;		/* of the socket; 0: 0600 */
	gid_t group;		/* (gid_t)-1: leave */
	uint32_t service;	/* enum elisa_service */
	int arena_fd;		/* stays the caller's */
	void *arena_addr;
	uint64_t arena_len;
	const char *library;	/* see elisa_local_library_of() */
	const char *entry;
	const char *check_symbol;	/* NULL: no check */
	uint64_t check;
	uint32_t ack_timeout_ms;	/* a peer that does not answer is kicked; 0: 5000 */
	const struct elisa_local_ops *ops;
	void *user;
};

/* EADDRINUSE: another service listens on that path; EINVAL: a bad or missing field; bind(2)'s. */
int elisa_local_server_create(const struct elisa_local_config *config,
			      struct elisa_local_server **server);
/*
 * Closes all, with `leave` (not orderly) and `released` for every peer. The caller cuts the
 * clients' calls off first, if it can: they go on in memory that stays theirs, until they see the
 * close.
 */
void elisa_local_server_destroy(struct elisa_local_server *server);
/* An epoll descriptor: readable when dispatch has work. */
int elisa_local_server_fd(const struct elisa_local_server *server);
/* Handles what there is, never blocks. 0 or a negative errno that is the server's end. */
int elisa_local_server_dispatch(struct elisa_local_server *server);

/* Gives clients (present and to come) `len` bytes of `fd` at `addr`. `fd` is duplicated. */
int elisa_local_region_add(struct elisa_local_server *server, int fd, uint64_t offset, void *addr,
			   uint64_t len, bool write, void *user,
			   struct elisa_local_region **region);
/* After this, region_gone. The caller sees to it that nobody inside uses it. */
void elisa_local_region_remove(struct elisa_local_region *region);
void *elisa_local_region_user(const struct elisa_local_region *region);

void elisa_local_peer_set_user(struct elisa_local_peer *peer, void *user);
void *elisa_local_peer_user(const struct elisa_local_peer *peer);
pid_t elisa_local_peer_pid(const struct elisa_local_peer *peer);
/* After `leave`: nobody's call uses its RAM any more. */
void elisa_local_peer_release(struct elisa_local_peer *peer);
/* Closes its socket; `leave` follows. The process itself is left alone: it is not isolated. */
void elisa_local_peer_kick(struct elisa_local_peer *peer);

/*
 * Path of the shared object that `symbol` lies in, for `library`: a client then loads the very same
 * file. -ENOENT: not in a shared object.
 */
int elisa_local_library_of(const void *symbol, char *buf, size_t len);

#ifdef __cplusplus
}
#endif
#endif
