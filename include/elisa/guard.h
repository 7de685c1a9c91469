/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guard: keeps memory that a service may still write to from going back to the kernel when this
 * process dies without a word. A small helper process (elisa-guard) holds the descriptors of that
 * memory. When this process is gone, it makes the calls that tell the service to stop, asks again
 * while the answer is EAGAIN, then lets go of the memory and exits.
 *
 * Needed with vmfunc and memory of the process's own, like DPDK's. elisa_mem_alloc()'s memory needs
 * none, and neither does local, whose service sees its client die and holds the memory itself. If
 * the guard is killed as well, late frames may land in pages of this VM that have a new owner in
 * this VM; no other VM is concerned.
 */
#ifndef ELISA_GUARD_H
#define ELISA_GUARD_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct elisa_guard;

#define ELISA_GUARD_UNDO_MAX	64

/* All: one thread at a time. 0 or -errno. */

/*
 * Starts the helper: $ELISA_GUARD or the installed one. `spec`, `service`: how it calls. Returns
 * when it is ready. ENOENT: not installed; EPIPE: it ended at once (it says why on stderr).
 */
int elisa_guard_start(const char *spec, uint32_t service, struct elisa_guard **guard);
/* Holds a copy of `fd` until the end; the same file twice counts once. */
int elisa_guard_hold(struct elisa_guard *guard, int fd);
/*
 * Adds a call to be made after this process's death, until it answers something else than EAGAIN;
 * the same call twice counts once. ENOSPC. Waits up to 5 s for the guard of a former process that
 * has the same call still to make, else EBUSY: so do this before you set up what it would undo.
 */
int elisa_guard_undo(struct elisa_guard *guard, uint64_t op, uint64_t a1);
/* Orderly end: the calls are not made, the helper lets go and ends; waits for that. */
void elisa_guard_stop(struct elisa_guard *guard);

#ifdef __cplusplus
}
#endif
#endif
