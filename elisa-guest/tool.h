/* SPDX-License-Identifier: BSD-3-Clause */
/* What elisa-tap, elisa-gen and elisa-info share. */
#ifndef ELISA_GUEST_TOOL_H
#define ELISA_GUEST_TOOL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <elisa/port.h>

/* CLOCK_MONOTONIC in microseconds. */
uint64_t tool_now_us(void);
void tool_sleep_us(uint64_t us);
/* A decimal number in [min, max]; false otherwise. */
bool tool_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *value);
/* Up to `max` numbers, comma-separated. Returns how many, 0: malformed. */
uint32_t tool_parse_list(const char *text, uint64_t min, uint64_t max, uint32_t *values,
			 uint32_t room);
/* "xx:xx:xx:xx:xx:xx". */
bool tool_parse_mac(const char *text, uint8_t mac[6]);
#define MAC_TEXT 18
const char *tool_mac_text(const uint8_t mac[6], char text[MAC_TEXT]);
/* Prints `text` as a JSON string. */
void tool_json_string(FILE *out, const char *text);

/*
 * Opens, asking again for up to wait_s seconds while this VM is not attached or the service is away
 * (or, local, nobody listens). -errno, with the reason printed for people.
 */
int tool_open_guest(const char *program, const char *spec, uint64_t wait_s,
		    struct elisa_guest **guest);
int tool_open_port(const char *program, struct elisa_guest *guest, const char *which,
		   const struct elisa_port_params *params, uint64_t wait_s,
		   struct elisa_port **port);
/* The switch's counters of the port as members of a JSON object, without braces. */
void tool_json_counters(FILE *out, const struct elisa_port_counters *counters);

#endif
