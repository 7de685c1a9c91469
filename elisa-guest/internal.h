/* SPDX-License-Identifier: BSD-3-Clause */
/* What the parts of libelisa-guest share: a handle, its transport, its memory. */
#ifndef ELISA_GUEST_INTERNAL_H
#define ELISA_GUEST_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <elisa/guest.h>

#define ELISA_PUBLIC  __attribute__((visibility("default")))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

struct transport {
	const char *prefix; /* of the spec */
	const char *name;   /* for people */
	bool in_vm;	    /* this program runs in the service's VM, whose devices it may use */
	/*
	 * `options`: what follows "prefix:" in the spec, or NULL. `ram`: memory that the caller has
	 * already, or NULL. Sets guest->state.
	 */
	int (*open)(struct elisa_guest *guest, const char *options,
		    const struct elisa_guest_ram *ram);
	void (*close)(struct elisa_guest *guest);
	int (*call)(struct elisa_guest *guest, struct elisa_call *call);
	int (*call_new)(struct elisa_guest *guest, struct elisa_call *call);
	void (*call_del)(struct elisa_guest *guest, struct elisa_call *call);
	int (*mem_alloc)(struct elisa_guest *guest, const char *name, size_t len,
			 struct elisa_mem **mem);
	/* keep: the service may still write to it, so it must not go to anybody else. */
	void (*mem_free)(struct elisa_guest *guest, struct elisa_mem *mem, bool keep);
};

extern const struct transport transport_vmfunc, transport_local;

struct elisa_guest {
	const struct transport *transport;
	uint32_t service;
	void *state;	   /* the transport's */
	const char *label; /* what it is called, if not by its transport's name; not owned */
};

/* Sets what elisa_guest_error() says, when errno's text would not do. */
__attribute__((format(printf, 1, 2))) void guest_error(const char *format, ...);

/* hugemem.c: the memory of the vmfunc transport. */
int hugemem_alloc(struct elisa_guest *guest, const char *name, size_t len, struct elisa_mem **mem);
void hugemem_free(struct elisa_guest *guest, struct elisa_mem *mem, bool keep);

#endif
