/* SPDX-License-Identifier: BSD-3-Clause */
/* The parts of the program lab-agent; each returns the program's exit status. */
#ifndef ELISA_LAB_AGENT_H
#define ELISA_LAB_AGENT_H

#include <stdbool.h>

/* Runs commands that arrive on a serial line or a virtio port. */
int agent_main(const char *device, bool is_host);

/*
 * Starts a guest's QEMU (argv) and relays commands of local clients to the agent in the guest.
 * The directory gets: pid (of QEMU), sock (for clients), status (how QEMU ended, once it did).
 * "{fd}" in an argument becomes the number of the descriptor that is the guest's command link.
 * With "--socket", PATH instead of QEMU's arguments: relays to the guest of whatever QEMU has that socket
 * as its virtio port elisa.agent, now or later; the directory gets sock only.
 */
int guestd_main(const char *dir, char **argv);

/* Runs one command in a guest: output to stdout, exit status of the command, or 255 if it is gone. */
int exec_main(const char *sock, const char *command, bool tty, bool want_stdin);

/* Sends one QMP command (JSON text) to a QEMU monitor socket; prints the answer. */
int qmp_main(const char *sock, const char *command);

#endif
