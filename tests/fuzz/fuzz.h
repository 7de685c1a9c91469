/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Targets: one input each; what must not be aborts. */
void fuzz_config(const uint8_t *data, size_t len);
void fuzz_control(const uint8_t *data, size_t len);
void fuzz_files(const uint8_t *data, size_t len);
void fuzz_hook(const uint8_t *data, size_t len);

size_t fuzz_control_mutate(uint8_t *data, size_t len, size_t max, unsigned int seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t len, size_t max);

#endif
