/* SPDX-License-Identifier: BSD-3-Clause */
/* See run.h: what attack-watch.ko tells, compared. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <elisa/layout.h>

#include "run.h"
#include "../vmx/harness.h"
#include "../vmx/tap.h"

/* Of the slots of lists: one may have 511 that are wrong. */
#define NOTES_MAX	4

static int device = -1;

int watch_open(void)
{
	device = open("/dev/attack-watch", O_RDWR | O_CLOEXEC);
	return device < 0 ? -errno : 0;
}

void watch_close(void)
{
	if (device >= 0)
		close(device);
	device = -1;
}

int watch_vm(struct watched *w, const char *name)
{
	char path[64];
	int pid;
	FILE *f;

	snprintf(path, sizeof(path), "/run/lab/%s/pid", name);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%d", &pid) != 1) {
		note("%s: no such guest", path);
		return -ENOENT;
	}
	fclose(f);
	*w = (struct watched){ .name = name, .kvm = steal_kvm_fd(pid) };
	return w->kvm < 0 ? w->kvm : 0;
}

int watch_take(const struct watched *w, unsigned int count, struct fingerprint *f)
{
	memset(f, 0, sizeof(*f));
	f->trusted.kvm_fd = f->gate.kvm_fd = w[0].kvm;
	f->gate.gate = 1;
	if (ioctl(device, WATCH_CONTEXT, &f->trusted) || ioctl(device, WATCH_CONTEXT, &f->gate))
		return -errno;
	for (unsigned int i = 0; i < count * WATCHED_VCPUS; i++) {
		struct watch_vcpu *v = &f->vcpu[i / WATCHED_VCPUS][i % WATCHED_VCPUS];

		*v = (struct watch_vcpu){ .kvm_fd = w[i / WATCHED_VCPUS].kvm,
					  .index = i % WATCHED_VCPUS };
		if (ioctl(device, WATCH_VCPU, v) && (errno != ENOENT || !v->index))
			return -errno;
	}
	return 0;
}

int watch_flip(const struct watched *w, enum watch_flip what)
{
	struct watch_flip_args args = { .kvm_fd = w->kvm, .what = what };

	return ioctl(device, WATCH_FLIP, &args) ? -errno : 0;
}

/* ---- comparing ---- */

static bool chunks_equal(const struct watch_chunk *a, const struct watch_chunk *b, bool other_life)
{
	return a->gpa == b->gpa && a->fixed == b->fixed && a->open == b->open &&
	       a->map_fixed == b->map_fixed && a->content == b->content &&
	       a->map_open == b->map_open && (other_life || a->map_all == b->map_all);
}

static const struct watch_chunk *find_chunk(const struct watch_context *c, uint64_t gpa)
{
	for (unsigned int i = 0; i < c->count; i++)
		if (c->chunk[i].gpa == gpa)
			return &c->chunk[i];
	return NULL;
}

static unsigned int compare_contexts(const char *what, const struct watch_context *a,
				     const struct watch_context *b, bool other_life)
{
	unsigned int bad = a->below != b->below;

	if (bad)
		note("%s: what is mapped below the window has changed", what);
	for (unsigned int i = 0; i < a->count; i++) {
		const struct watch_chunk *now = find_chunk(b, a->chunk[i].gpa);

		if (now && chunks_equal(&a->chunk[i], now, other_life))
			continue;
		note("%s: GPA 0x%llx: %s", what, a->chunk[i].gpa, !now ? "no longer mapped" :
		     a->chunk[i].content != now->content ? "contents changed" :
		     a->chunk[i].map_fixed != now->map_fixed ? "code, constants or tables lie elsewhere" :
		     "memory is mapped otherwise");
		bad++;
	}
	for (unsigned int i = 0; i < b->count; i++) {
		if (find_chunk(a, b->chunk[i].gpa))
			continue;
		note("%s: GPA 0x%llx: was not mapped", what, b->chunk[i].gpa);
		bad++;
	}
	return bad;
}

unsigned int watch_compare(const struct watched *w, unsigned int count,
			   const struct fingerprint *a, const struct fingerprint *b,
			   bool other_life)
{
	unsigned int bad = compare_contexts("trusted context", &a->trusted, &b->trusted,
					    other_life);

	bad += compare_contexts("gate", &a->gate, &b->gate, other_life);
	for (unsigned int i = 0; i < count * WATCHED_VCPUS; i++) {
		const struct watch_vcpu *x = &a->vcpu[i / WATCHED_VCPUS][i % WATCHED_VCPUS];
		const struct watch_vcpu *y = &b->vcpu[i / WATCHED_VCPUS][i % WATCHED_VCPUS];

		if (x->gate == y->gate && x->gate_pages == y->gate_pages && x->desc == y->desc &&
		    x->gate_eptp == y->gate_eptp && x->trusted_eptp == y->trusted_eptp)
			continue;
		note("%s, vCPU %u: its gate, descriptor or EPT pointers have changed",
		     w[i / WATCHED_VCPUS].name, x->index);
		bad++;
	}
	return bad;
}

unsigned int watch_lists(const struct watched *w, unsigned int count, const struct fingerprint *f)
{
	unsigned int bad = 0;

	for (unsigned int i = 0; i < count * WATCHED_VCPUS; i++) {
		const struct watch_vcpu *v = &f->vcpu[i / WATCHED_VCPUS][i % WATCHED_VCPUS];

		for (unsigned int slot = 1; slot < 512; slot++) {
			uint64_t e = v->list[slot];
			bool good = !e;

			if (slot == ELISA_SLOT_GATE)
				good = !e || e == v->gate_eptp;
			/* Its vCPU may be between the gate and the stub while it runs. */
			else if (slot == ELISA_SLOT_TRUSTED)
				good = !e || (e & ~0xffull) == (v->trusted_eptp & ~0xffull);
			if (good)
				continue;
			if (bad++ < NOTES_MAX)
				note("%s, vCPU %u: slot %u of its list holds 0x%lx",
				     w[i / WATCHED_VCPUS].name, v->index, slot, e);
		}
	}
	return bad;
}
