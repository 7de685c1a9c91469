/* SPDX-License-Identifier: BSD-3-Clause */
#include <ucontext.h>
#include "model.h"

#define STACK (256 * 1024)

uint64_t vs_model_copied;
struct routine routines[M_ROUTINES];
static ucontext_t scheduler, contexts[M_ROUTINES];
static uint8_t *stacks[M_ROUTINES];
static struct routine *running;

void vs_model_step(const char *where, unsigned int line)
{
	(void)where;
	(void)line;
	if (!running)
		return;
	running->steps++;
	if (!--running->budget) {
		struct routine *self = running;

		running = NULL;
		swapcontext(&contexts[self - routines], &scheduler);
	}
}

static void routine_main(unsigned int index)
{
	struct routine *r = &routines[index];

	r->result = vs_entry(r->caller, r->op, r->a1, 0, r->a2, 0);
	r->done = true;
	running = NULL;
	setcontext(&scheduler);
}

void prepare(unsigned int i, struct vs_caller *caller, uint64_t op, uint64_t a1, uint64_t a2)
{
	struct routine *r = &routines[i];

	r->caller = caller;
	r->op = op;
	r->a1 = a1;
	r->a2 = a2;
	r->started = r->done = false;
	r->steps = 0;
}

bool run(unsigned int i, unsigned int budget)
{
	struct routine *r = &routines[i];

	if (r->done)
		return true;
	if (!r->started) {
		if (!stacks[i])
			stacks[i] = malloc(STACK);
		getcontext(&contexts[i]);
		contexts[i].uc_stack.ss_sp = stacks[i];
		contexts[i].uc_stack.ss_size = STACK;
		contexts[i].uc_link = NULL;
		makecontext(&contexts[i], (void (*)(void))routine_main, 1, i);
		r->started = true;
	}
	r->budget = budget;
	running = r;
	swapcontext(&scheduler, &contexts[i]);
	return r->done;
}
