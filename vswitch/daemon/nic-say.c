/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Events of NICs come from threads of their own, and are told by the event loop. While that is too
 * slow for so many they are lines of the log only.
 */
#include "nic.h"

#include <stdio.h>

void nic_say_at(const struct log_where *where, struct nics *all, const struct nic_port *n,
		const char *priority, const char *reason, const char *fmt, ...)
{
	struct nic_said *said = NULL;
	char text[LOG_TEXT_LEN];
	va_list ap;

	va_start(ap, fmt);
	log_text(text, fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&all->said_lock);
	if (all->said_count < NIC_SAID_MAX) {
		said = &all->said[all->said_count++];
		*said = (struct nic_said){
			.where = *where, .nic = n, .priority = priority, .reason = reason};
		snprintf(said->text, sizeof(said->text), "%s", text);
	}
	pthread_mutex_unlock(&all->said_lock);
	if (said)
		nic_poke(all->news);
	else
		log_entry(where, priority, NULL, 0, text);
}

static bool next(struct nics *all, struct nic_said *said)
{
	bool any;

	pthread_mutex_lock(&all->said_lock);
	any = all->said_told < all->said_count;
	if (any)
		*said = all->said[all->said_told++];
	else
		all->said_told = all->said_count = 0;
	pthread_mutex_unlock(&all->said_lock);
	return any;
}

void nics_tell(struct nics *all)
{
	struct nic_said said;

	while (next(all, &said))
		event_at(&said.where, all->daemon, EVENT_NIC, said.priority, NULL,
			 said.nic ? said.nic->set->port.vs.name : NULL, said.reason, "%s",
			 said.text);
}
