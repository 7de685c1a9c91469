/* SPDX-License-Identifier: BSD-3-Clause */
/* The handle: picks a transport, asks who is there. The transports do the rest. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static const struct transport *const transports[] = {&transport_vmfunc, &transport_local};

static _Thread_local char error_text[400];

void guest_error(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error_text, sizeof(error_text), format, args);
	va_end(args);
}

/* The common cases, in words that say what to do. */
static void explain(const struct transport *t, const char *spec, int rc)
{
	const char *name = t ? t->name : "";

	if (error_text[0])
		return;
	if (!t)
		guest_error("\"%s\" is no transport: \"vmfunc\" or \"local:SOCKET\"", spec);
	else if (rc == -ENOTCONN)
		guest_error("%s: this VM is not attached to a switch: ask the host to run "
			    "`elisactl attach`",
			    name);
	else if (rc == -ESHUTDOWN)
		guest_error("%s: the service is away; it may come back", name);
	else if (rc == -EOPNOTSUPP)
		guest_error("%s: needs an x86-64 CPU (and system) with AVX and FSGSBASE", name);
	else if (rc == -EADDRINUSE)
		guest_error("%s: something else is mapped at %#lx in this process", name,
			    ELISA_GATE_VA);
	else if (rc == -EPROTO)
		guest_error("%s: another service or another revision answers", name);
	else
		guest_error("%s: %s", spec, strerror(-rc));
}

ELISA_PUBLIC const char *elisa_guest_error(void)
{
	return error_text;
}

/* "PREFIX" or "PREFIX:OPTIONS". */
static const struct transport *find_transport(const char *spec, const char **options)
{
	for (size_t i = 0; i < ARRAY_SIZE(transports); i++) {
		size_t len = strlen(transports[i]->prefix);

		if (strncmp(spec, transports[i]->prefix, len) ||
		    (spec[len] != '\0' && spec[len] != ':'))
			continue;
		*options = spec[len] ? spec + len + 1 : NULL;
		return transports[i];
	}
	return NULL;
}

ELISA_PUBLIC int64_t elisa_guest_hello(struct elisa_guest *guest)
{
	struct elisa_call call;
	int64_t hello;
	int rc;

	rc = guest->transport->call(guest, &call);
	if (rc)
		return rc;
	hello = elisa_call(&call, ELISA_OP_HELLO, ELISA_ABI_REVISION, 0, 0);
	if (hello >= 0 && ((uint64_t)hello >> 48 != ELISA_HELLO_MAGIC ||
			   ELISA_HELLO_SERVICE(hello) != guest->service))
		return -ELISA_EPROTO;
	return hello;
}

static int open_with(const char *spec, uint32_t service, const struct elisa_guest_ram *ram,
		     struct elisa_guest **guest)
{
	struct elisa_guest *g;
	const char *options;
	int64_t hello;
	int rc;

	g = calloc(1, sizeof(*g));
	if (!g)
		return -ENOMEM;
	g->service = service;
	error_text[0] = '\0';
	if (!spec)
		spec = "vmfunc";
	g->transport = find_transport(spec, &options);
	rc = g->transport ? g->transport->open(g, options, ram) : -EINVAL;
	if (rc)
		goto free_guest;
	hello = elisa_guest_hello(g);
	if (hello < 0) {
		rc = (int)hello;
		goto close_transport;
	}
	*guest = g;
	return 0;
close_transport:
	g->transport->close(g);
free_guest:
	explain(g->transport, spec, rc);
	free(g);
	return rc;
}

ELISA_PUBLIC int elisa_guest_open(const char *spec, uint32_t service, struct elisa_guest **guest)
{
	return open_with(spec, service, NULL, guest);
}

ELISA_PUBLIC int elisa_guest_open_ram(const char *spec, uint32_t service,
				      const struct elisa_guest_ram *ram, struct elisa_guest **guest)
{
	return open_with(spec, service, ram, guest);
}

ELISA_PUBLIC void elisa_guest_close(struct elisa_guest *guest)
{
	if (!guest)
		return;
	guest->transport->close(guest);
	free(guest);
}

ELISA_PUBLIC const char *elisa_guest_transport(const struct elisa_guest *guest)
{
	return guest->label ? guest->label : guest->transport->name;
}

ELISA_PUBLIC int elisa_guest_call(struct elisa_guest *guest, struct elisa_call *call)
{
	return guest->transport->call(guest, call);
}

ELISA_PUBLIC int elisa_guest_call_new(struct elisa_guest *guest, struct elisa_call *call)
{
	return guest->transport->call_new(guest, call);
}

ELISA_PUBLIC void elisa_guest_call_del(struct elisa_guest *guest, struct elisa_call *call)
{
	if (call->fn)
		guest->transport->call_del(guest, call);
}

static bool name_ok(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return len >= 1 && len <= 32 && !name[len];
}

ELISA_PUBLIC int elisa_mem_alloc(struct elisa_guest *guest, const char *name, size_t len,
				 struct elisa_mem **mem)
{
	if (!name_ok(name) || !len || len > SIZE_MAX / 2)
		return -EINVAL;
	return guest->transport->mem_alloc(guest, name, len, mem);
}

ELISA_PUBLIC void elisa_mem_free(struct elisa_guest *guest, struct elisa_mem *mem)
{
	if (mem)
		guest->transport->mem_free(guest, mem, false);
}

ELISA_PUBLIC void elisa_mem_leave(struct elisa_guest *guest, struct elisa_mem *mem)
{
	if (mem)
		guest->transport->mem_free(guest, mem, true);
}
