/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A look over the configuration's text before libconfig (1.5) has it, which
 *	- takes a number of more than 32 bits without an L for its low 32 bits,
 *	- ends the process when a file that @include names cannot be read, as a folder,
 *	- reads on after a NUL byte as if it were a character.
 */
#include "config-read.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_MAX     (64u << 20)
#define INCLUDES_MAX 9 /* in each other; libconfig's own bound is 10 files */

struct text {
	struct reader *r;
	const char *path;
	const char *p;
	int line;
	unsigned int depth;
};

static void check_file(struct reader *r, const char *path, unsigned int depth, const char *from,
		       int line);

/* NUL-terminated; NULL after a complaint. */
static char *text_load(struct reader *r, const char *path, const char *from, int line)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	char *text = NULL;
	ssize_t n = -1;

	if (fd < 0 || fstat(fd, &st))
		complain_at(r, from, line, "cannot read \"%s\": %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode) || st.st_size > TEXT_MAX)
		complain_at(r, from, line, "\"%s\" is not a file of a configuration's size", path);
	else if (!(text = malloc((size_t)st.st_size + 1)) ||
		 (n = pread(fd, text, (size_t)st.st_size, 0)) < 0)
		complain_at(r, from, line, "cannot read \"%s\": %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	if (n < 0) {
		free(text);
		return NULL;
	}
	text[n] = '\0';
	if (strlen(text) < (size_t)n) {
		line = 1;
		for (const char *p = text; *p; p++)
			line += *p == '\n';
		complain_at(r, path, line, "there is a NUL byte in it: it is not a text file");
		free(text);
		return NULL;
	}
	return text;
}

/* To behind the string that begins here. */
static void skip_string(struct text *t)
{
	for (t->p++; *t->p && *t->p != '"'; t->p++) {
		if (*t->p == '\\' && t->p[1])
			t->p++;
		t->line += *t->p == '\n';
	}
	t->p += *t->p == '"';
}

/* To behind the comment that begins here, if one does. */
static bool skip_comment(struct text *t)
{
	if (*t->p == '#' || (*t->p == '/' && t->p[1] == '/')) {
		t->p += strcspn(t->p, "\n");
		return true;
	}
	if (*t->p != '/' || t->p[1] != '*')
		return false;
	for (t->p += 2; *t->p && (*t->p != '*' || t->p[1] != '/'); t->p++)
		t->line += *t->p == '\n';
	t->p += *t->p ? 2 : 0;
	return true;
}

static void check_number(struct text *t)
{
	const char *begin = t->p;
	bool hex = *begin == '0' && (begin[1] == 'x' || begin[1] == 'X');
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(begin, &end, hex ? 16 : 10);
	t->p = end;
	if (*end == '.' || *end == 'e' || *end == 'E') { /* of floating point */
		strtod(begin, &end);
		t->p = end;
	} else if (errno || n > INT64_MAX) {
		complain_at(t->r, t->path, t->line, "%.*s is too large a number",
			    (int)(end - begin), begin);
	} else if (*end != 'L' && *end != 'l' && n > (hex ? UINT32_MAX : INT32_MAX)) {
		complain_at(t->r, t->path, t->line,
			    "%.*s: write an L behind a number above 2147483647, as in %.*sL",
			    (int)(end - begin), begin, (int)(end - begin), begin);
	}
	while (isalnum((unsigned char)*t->p) || *t->p == '_')
		t->p++;
}

static void check_include(struct text *t)
{
	const char *name = t->p + strspn(t->p, " \t");
	char folder[PATH_MAX], path[2 * PATH_MAX];
	size_t len;

	if (*name != '"')
		return; /* a syntax error, the parser says */
	name++;
	len = strcspn(name, "\"\n");
	snprintf(folder, sizeof(folder), "%s", t->r->path);
	if (*name == '/')
		snprintf(path, sizeof(path), "%.*s", (int)len, name);
	else
		snprintf(path, sizeof(path), "%s/%.*s", dirname(folder), (int)len, name);
	if (t->r->errors)
		; /* enough to say for now; this one is seen next time */
	else if (t->depth == INCLUDES_MAX)
		complain_at(t->r, t->path, t->line,
			    "@include \"%.*s\": %d files include each other already: is it a loop?",
			    (int)len, name, INCLUDES_MAX);
	else
		check_file(t->r, path, t->depth + 1, t->path, t->line);
	t->p = name + len + (name[len] == '"');
}

/* `from`, `line`: who includes it. */
static void check_file(struct reader *r, const char *path, unsigned int depth, const char *from,
		       int line)
{
	char *text = r->errors ? NULL : text_load(r, path, from, line);
	struct text t = {.r = r, .path = path, .p = text, .line = 1, .depth = depth};

	while (text && *t.p) {
		if (*t.p == '"') {
			skip_string(&t);
		} else if (isdigit((unsigned char)*t.p)) {
			check_number(&t);
		} else if (isalpha((unsigned char)*t.p) || *t.p == '*') { /* a name */
			while (isalnum((unsigned char)*t.p) || (*t.p && strchr("*_-", *t.p)))
				t.p++;
		} else if (!strncmp(t.p, "@include", 8)) {
			t.p += 8;
			check_include(&t);
		} else if (!skip_comment(&t)) {
			t.line += *t.p == '\n';
			t.p++;
		}
	}
	free(text);
}

int text_check(struct reader *r)
{
	check_file(r, r->path, 0, NULL, 0);
	return r->errors ? -EINVAL : 0;
}
