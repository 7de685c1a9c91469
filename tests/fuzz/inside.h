/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the fuzzers of the daemon share: the daemon in this process (its main.c is part of inside.c, its
 * host library the tests' double, its log goes nowhere), driven one event at a time. One thread.
 */
#ifndef TESTS_FUZZ_INSIDE_H
#define TESTS_FUZZ_INSIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A new directory for it, with a configuration of some ports and VMs; removed at exit. */
void inside_prepare(void);
/* Replaces the configuration; NULL: by the first one. */
void inside_config(const char *text);
const char *inside_path(const char *name);
void inside_write(const char *name, const void *data, size_t len);
/* Reads the configuration and starts; 0 or the daemon's exit status. */
int inside_start(void);
void inside_stop(void);
/* Whatever there is to do now, is done. */
void inside_work(void);
/* A connection to the control socket, which does not block. */
int inside_client(void);
/* The nth method of the control socket, with its parameters' names; NULL past the last. */
const char *inside_method(size_t n, const char **params);
/* Warnings and errors that were logged, and whether one of them had this in it. */
extern unsigned int inside_complaints;
bool inside_complained_of(const char *text);
void inside_forget_log(void);

#endif
