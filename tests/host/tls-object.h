/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TESTS_HOST_TLS_OBJECT_H
#define TESTS_HOST_TLS_OBJECT_H

#define TLS_FIRST 41

enum tls_what {
	TLS_NEXT,    /* counts from TLS_FIRST + 1 on, per thread */
	TLS_ZERO,    /* counts from 0 on */
	TLS_ALIGNED, /* whether a variable that is to be aligned is so */
};
int tls_object(enum tls_what what);

#endif
