/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a libvirt domain's <metadata> says of its ports. Attributes of <elisa:port> and of the
 * elements in it become values of the same names in JSON: which there are, and what they may be, is
 * known to the daemon only.
 */
#include "domain-xml.h"

#include <expat.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SEPARATOR '|' /* between namespace and name; no URI has it */
#define OURS	  DOMAIN_XMLNS "|"
#define PORTS_MAX 64 /* the daemon has a smaller one, and says it */

/* Elements from the root on: domain, metadata, vm, port, what is in a port. */
enum { DOMAIN = 1, METADATA, VM, PORT, OBJECT };

struct reader {
	XML_Parser parser;
	struct domain_xml *dom;
	int depth, ours; /* ours: how deep in <elisa:vm> */
	bool metadata;
	char *text; /* of the element that is being read; NULL: of no interest */
	size_t text_max;
	char name[128];
	json_t *port;
};

__attribute__((format(printf, 2, 3))) static void fail(struct reader *r, const char *fmt, ...)
{
	va_list ap;

	if (r->dom->why[0])
		return;
	va_start(ap, fmt);
	vsnprintf(r->dom->why, sizeof(r->dom->why), fmt, ap);
	va_end(ap);
	XML_StopParser(r->parser, XML_FALSE);
}

static const char *local_name(const char *name)
{
	const char *local = strrchr(name, SEPARATOR);

	return local ? local + 1 : name;
}

/* ---- values ---- */

static bool one_of(const char *word, const char *const list[])
{
	while (*list && strcmp(*list, word))
		list++;
	return *list;
}

/* Numbers, yes and no, else text. */
static json_t *value_of(const char *text)
{
	static const char *const yes[] = {"yes", "on", "true", NULL};
	static const char *const no[] = {"no", "off", "false", NULL};
	size_t digits = strspn(text, "0123456789");

	if (digits && digits < 19 && !text[digits])
		return json_integer(strtoll(text, NULL, 10));
	if (one_of(text, yes) || one_of(text, no))
		return json_boolean(one_of(text, yes));
	return json_string(text);
}

static json_t *list_of(const char *text)
{
	json_t *list = json_array();
	char word[64];
	size_t len;

	for (;; text++) {
		len = strcspn(text, ",");
		snprintf(word, sizeof(word), "%.*s", (int)(len < 64 ? len : 63), text);
		json_array_append_new(list, value_of(word));
		text += len;
		if (!*text)
			return list;
	}
}

static void set_attribute(struct reader *r, json_t *object, const char *key, const char *text)
{
	/* a name may be a number */
	static const char *const texts[] = {"name", "mac", "uplink", "mode", "allowed", NULL};
	static const char *const lists[] = {"groups", "no_flood", NULL};

	if (strchr(key, SEPARATOR)) {
		fail(r, "attribute \"%.64s\" has a namespace: write it without", local_name(key));
		return;
	}
	json_object_set_new(object, key,
			    one_of(key, texts)	 ? json_string(text)
			    : one_of(key, lists) ? list_of(text)
						 : value_of(text));
}

/* ---- elements ---- */

static void begin_vm(struct reader *r, const char **attr)
{
	if (r->dom->define) {
		fail(r, "there are two <elisa:vm>: put all ports into one");
		return;
	}
	r->dom->define = json_pack("{s:[]}", "ports");
	for (; *attr; attr += 2) {
		if (!strcmp(attr[0], "name")) {
			json_object_set_new(r->dom->define, "name", json_string(attr[1]));
		} else if (strcmp(attr[0], "required")) {
			fail(r, "unknown attribute \"%.64s\" of <elisa:vm>: known are name and "
				"required", local_name(attr[0]));
		} else if (strcmp(attr[1], "yes") && strcmp(attr[1], "no")) {
			fail(r, "required=\"%.64s\": use yes or no", attr[1]);
		} else {
			r->dom->required = !strcmp(attr[1], "yes");
			json_object_set_new(r->dom->define, "required",
					    json_boolean(r->dom->required));
		}
	}
}

static void begin_ours(struct reader *r, const char *name, const char **attr)
{
	json_t *ports = json_object_get(r->dom->define, "ports"), *object = json_object();

	if (strncmp(name, OURS, strlen(OURS)) || r->depth > OBJECT ||
	    (r->depth == PORT) != !strcmp(name, OURS "port")) {
		fail(r, "unknown element <%.64s> in %s", local_name(name),
		     r->depth == PORT ? "<elisa:vm>: use <elisa:port>" : "<elisa:port>");
	} else if (r->depth == PORT) {
		r->port = object;
		if (json_array_size(ports) == PORTS_MAX)
			fail(r, "more than %d ports", PORTS_MAX);
		json_array_append(ports, object);
	} else {
		if (json_object_get(r->port, local_name(name)))
			fail(r, "<elisa:%.64s> is given twice", local_name(name));
		json_object_set(r->port, local_name(name), object);
	}
	for (; *attr && !r->dom->why[0]; attr += 2)
		set_attribute(r, object, attr[0], attr[1]);
	json_decref(object);
}

static void on_begin(void *arg, const char *name, const char **attr)
{
	struct reader *r = arg;

	r->depth++;
	if (r->depth == DOMAIN && strcmp(name, "domain"))
		fail(r, "not a libvirt domain: its first element is <%.64s>", local_name(name));
	else if (r->depth == METADATA)
		r->metadata = !strcmp(name, "metadata");
	if (r->depth == METADATA && !strcmp(name, "name")) {
		r->text = r->name;
		r->text_max = sizeof(r->name);
	} else if (r->depth == METADATA && !strcmp(name, "uuid")) {
		r->text = r->dom->uuid;
		r->text_max = sizeof(r->dom->uuid);
	} else if (r->ours) {
		begin_ours(r, name, attr);
	} else if (r->metadata && r->depth == VM && !strcmp(name, OURS "vm")) {
		r->ours = VM;
		begin_vm(r, attr);
	} else if (r->metadata && r->depth == VM && strstr(name, "elisa-vswitch.org")) {
		fail(r, "<%.40s> of the namespace \"%.*s\" is not known: use <elisa:vm xmlns:elisa=\"%s\">",
		     local_name(name), (int)strcspn(name, "|"), name, DOMAIN_XMLNS);
	}
}

static void on_end(void *arg, const char *name)
{
	struct reader *r = arg;

	r->text = NULL;
	if (r->depth == r->ours)
		r->ours = 0;
	r->depth--;
}

static void on_text(void *arg, const char *text, int len)
{
	struct reader *r = arg;
	size_t used = r->text ? strlen(r->text) : 0;

	if (r->text && used + (size_t)len < r->text_max) {
		memcpy(r->text + used, text, (size_t)len);
		r->text[used + (size_t)len] = '\0';
	} else if (r->text) {
		fail(r, "the domain's name or UUID is longer than %zu bytes", r->text_max - 1);
	}
}

/* libvirt writes none: whoever does wants entities. */
static void on_doctype(void *arg, const char *name, const char *sysid, const char *pubid, int has)
{
	fail(arg, "a document type declaration is not accepted");
}

/* ---- all ---- */

static void finish(struct reader *r)
{
	struct domain_xml *dom = r->dom;

	if (!dom->define)
		return;
	if (!r->name[0] || !dom->uuid[0])
		snprintf(dom->why, sizeof(dom->why), "the domain has no name or no UUID");
	if (!json_object_get(dom->define, "name"))
		json_object_set_new(dom->define, "name", json_string(r->name));
	json_object_set_new(dom->define, "uuid", json_string(dom->uuid));
	if (json_dumpb(dom->define, NULL, 0, JSON_COMPACT) > DOMAIN_JSON_MAX)
		snprintf(dom->why, sizeof(dom->why), "<elisa:vm> is too large");
}

int domain_xml_read(const char *text, size_t len, struct domain_xml *dom)
{
	struct reader r = {.dom = dom};

	memset(dom, 0, sizeof(*dom));
	if (len > DOMAIN_XML_MAX) {
		snprintf(dom->why, sizeof(dom->why), "the domain's XML is longer than %u bytes",
			 DOMAIN_XML_MAX);
		return -1;
	}
	r.parser = XML_ParserCreateNS("UTF-8", SEPARATOR);
	if (!r.parser) {
		snprintf(dom->why, sizeof(dom->why), "out of memory");
		return -1;
	}
	XML_SetUserData(r.parser, &r);
	XML_SetElementHandler(r.parser, on_begin, on_end);
	XML_SetCharacterDataHandler(r.parser, on_text);
	XML_SetStartDoctypeDeclHandler(r.parser, on_doctype);
	if (XML_Parse(r.parser, text, (int)len, XML_TRUE) == XML_STATUS_OK)
		finish(&r);
	else if (!dom->why[0])
		snprintf(dom->why, sizeof(dom->why), "not XML, line %lu: %s",
			 XML_GetCurrentLineNumber(r.parser),
			 XML_ErrorString(XML_GetErrorCode(r.parser)));
	XML_ParserFree(r.parser);
	if (!dom->why[0])
		return 0;
	json_decref(dom->define);
	dom->define = NULL;
	return -1;
}
