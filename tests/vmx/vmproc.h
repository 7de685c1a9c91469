/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VMs in processes of their own, as real ones are: the test starts itself again as the monitor. The
 * VM's RAM and a page of control are memfds that the test maps too, so that it sees everything
 * without asking. Each vCPU runs prog_serve: calls, one after another, whatever happens.
 */
#ifndef TESTS_VMX_VMPROC_H
#define TESTS_VMX_VMPROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../lib/tinyvm.h"

struct vmproc_vcpu {
	uint64_t unattached;	/* VMFUNC was #UD: tried again after a while */
	uint64_t shutdowns;	/* triple faults: started again after a while */
	uint64_t broken;	/* stopped by anything else: not started again */
	uint64_t last_why, last_vector;
	uint64_t tid;
};
struct vmproc_control {
	struct tvm_config config;
	uint32_t vms;		/* to create; only the first one's vCPUs run */
	uint32_t run;		/* 1: vCPUs are to run */
	uint32_t ready;		/* 1: created, 2: failed with `error` */
	int32_t error;
	uint32_t log, logged;	/* request of vmproc_log(); the number of the last one served */
	uint32_t dirty;		/* pages that it found, or ~0: failed */
	struct vmproc_vcpu vcpu[TVM_MAX_VCPUS];
};

struct vmproc {
	pid_t pid;
	int ram_fd, control_fd;
	uint64_t ram_len;
	volatile struct vmproc_control *control;
	uint8_t *ram;
};

/* At the start of main(): does not return if this process was started to be something else. */
void vmproc_main(int argc, char **argv);

/* Starts the process and waits until its VMs exist. */
int vmproc_start(struct vmproc *p, const struct tvm_config *config, unsigned int vms);
/* SIGKILL, and waits for the end. The RAM stays mapped here until vmproc_free(). */
void vmproc_kill(struct vmproc *p);
void vmproc_free(struct vmproc *p);
/* The words that prog_serve of a vCPU uses: WORD_* of programs.h. */
volatile uint64_t *vmproc_word(const struct vmproc *p, unsigned int vcpu, unsigned int word);
/* What the vCPUs call from now on. */
void vmproc_set_op(struct vmproc *p, uint64_t op, uint64_t a1);

/*
 * Has the monitor log writes to the VM's RAM, or not any more, or ask for the log. Returns how many
 * pages of the RAM have been written to since they were last asked for, or -errno.
 */
enum vmproc_log { LOG_OFF, LOG_ON, LOG_READ };
int vmproc_log(struct vmproc *p, enum vmproc_log what);

/*
 * A process that owns a context and attaches processes: what a daemon is. Waits until it has.
 * Returns its pid or -errno; kill it with SIGKILL or SIGTERM (then it detaches first).
 */
pid_t owner_start(const struct vmproc *vms, unsigned int count, unsigned int vcpus);

#endif
