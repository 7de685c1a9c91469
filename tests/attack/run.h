/* SPDX-License-Identifier: BSD-3-Clause */
/* attack-run's parts: the attacker's VM, the looking from outside, the victims' pace. */
#ifndef TESTS_ATTACK_RUN_H
#define TESTS_ATTACK_RUN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <jansson.h>
#include <sys/types.h>

#include "watch/watch-abi.h"

/* ---- the attacker (attacker.c) ---- */

/*
 * A guest of the lab in which "attack --serve" runs on the virtio port "attack". Its state is saved
 * once, so that it is back in no time after each of its deaths.
 */
struct attacker {
	const char *name;
	pid_t pid;
	int qmp, port, kvm;	/* descriptors; kvm: a copy of QEMU's */
	FILE *qmp_in, *port_in;
	bool died;		/* RESET came: it shut itself down, or was killed */
	bool stuck;		/* STOP came: KVM could not go on with it */
	bool was_reset;
	bool alive;		/* runs, attached, and has no row under way */
	bool attached;
	unsigned int lives, jobs;
	double seconds;		/* of this machine that its rebirths took */
};

/* Process id of the QEMU of a guest of the lab; 0: there is none. */
pid_t guest_pid(const char *guest);

int attacker_open(struct attacker *a, const char *name);
void attacker_close(struct attacker *a);
/* Saves the state that it is brought back to; it must not be attached. */
int attacker_save(struct attacker *a);
/* Attaches it, after its last state was loaded if `again`. */
int attacker_live(struct attacker *a, bool again);
/*
 * Runs "attack LINE". `answer` gets what it printed last, "" if nothing. Returns 0: it ended; 1: the
 * guest died of it; 2: KVM cannot go on with it; -ETIMEDOUT. Reads the clock of this machine.
 */
int attacker_run(struct attacker *a, const char *line, unsigned int seconds, char *answer,
		 size_t len);
/* Why the switch killed it: {"reason": ..., "exit": ...}; NULL: it did not. Owned by the caller. */
json_t *attacker_kill(const struct attacker *a);

/* What elisactl prints as JSON for `command`, or NULL. */
json_t *elisactl_json(const char *command);

/* ---- from outside (watch.c) ---- */

#define WATCHED_VCPUS	2

struct watched {
	const char *name;
	int kvm;
};

struct fingerprint {
	struct watch_context trusted, gate;
	struct watch_vcpu vcpu[3][WATCHED_VCPUS];	/* of each VM; zeros: it has no more */
};

int watch_open(void);
void watch_close(void);
/* A VM of the lab by its guest's name. */
int watch_vm(struct watched *w, const char *name);
/* `all`: also the vCPU of VM `last`, the attacker, which must be attached. 0 or -errno. */
int watch_take(const struct watched *w, unsigned int count, struct fingerprint *f);
/*
 * Counts what differs, each told by note(); `other_life`: the attacker is not the same attachment in
 * both, so only what all share is compared, and not where memory with W lies.
 */
unsigned int watch_compare(const struct watched *w, unsigned int count,
			   const struct fingerprint *before, const struct fingerprint *after,
			   bool other_life);
/* Entries of the EPTP lists that lead where they must not. */
unsigned int watch_lists(const struct watched *w, unsigned int count, const struct fingerprint *f);
int watch_flip(const struct watched *w, enum watch_flip what);

/* ---- the switch's own memory (arena.c) ---- */

#define ARENA_PARTS	32

struct arena_print {
	unsigned int count;
	struct {
		char what[48];
		uint64_t hash;
	} part[ARENA_PARTS];
};

/* Maps the arena of the daemon that runs; a second time, of the one that runs now. 0 or -errno. */
int arena_open(void);
/* Of what no guest's call may change. The two victims are to be attached, with their queues set up. */
void arena_take(const struct watched *victims, struct arena_print *p);
/* Counts what differs, each told by note(). */
unsigned int arena_compare(const struct arena_print *before, const struct arena_print *after);
/* Changes a bit of it; a second time, puts it back. */
void arena_flip(void);

/* ---- the victims' canaries (canary.c) ---- */

/* A memory file of that process with `name` in its name, opened for reading and writing; -ENOENT. */
int open_memfd(int pid, const char *name);

/*
 * Changes one byte of a victim's canary by writing to its RAM, which is to be a shared memory file.
 * The victim counts it, and puts it right.
 */
int canary_flip(const struct watched *victim);

/* ---- the victims' pace (pace.c) ---- */

struct pace {
	double instructions[2];	/* of each victim's VM, in millions */
	uint64_t frames[2];	/* that it sent; what came of them the victims and drops tell */
	uint64_t drops[2];
};

/* 10 ns of the emulator's clock are one instruction; elsewhere it is CPU time all the same. */
int pace_take(const struct watched *victims, struct pace *p);
/* Own instructions of both between two looks, in millions. */
double pace_instructions(const struct pace *from, const struct pace *to);
/* Frames per million own instructions between two looks, of both. */
double pace_rate(const struct pace *from, const struct pace *to);

#endif
