/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The roster: a signed text and the table read from it.
 *
 * The signature is checked before a byte is parsed, and the text is kept as it
 * came: it is what others check. A table in memory therefore always stems
 * from a parsed text, also when we signed it ourselves.
 */
#include "crypto/roster.h"
#include "base/bytes.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/msg.h"
#include "base/tcp.h"

#include <stdlib.h>
#include <string.h>

struct NcRoster {
  gint references;
  char *cluster;
  uint64_t version;
  char *signer;       /* NULL: not said */
  char *document;
  char *signature;    /* hexadecimal */
  GPtrArray *nodes;   /* NcRosterNode, sorted by name */
};

static const char *const nc_node_state[] = { [NC_NODE_JOINED] = "joined", [NC_NODE_REMOVED] = "removed" };
G_STATIC_ASSERT(G_N_ELEMENTS(nc_node_state) == NC_NODE_STATE_COUNT);

const char *
nc_node_state_name(NcNodeState state)
{
  return nc_node_state[state];
}

static void
nc_roster_node_free(gpointer data)
{
  NcRosterNode *node = data;

  if (!node)
    return;
  g_free(node->name);
  g_free(node->address);
  g_free(node->serial);
  g_free(node->fingerprint);
  g_free(node->next.serial);
  g_free(node->next.fingerprint);
  g_free(node->previous);
  g_free(node);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcRosterNode, nc_roster_node_free)

NcRoster *
nc_roster_ref(NcRoster *roster)
{
  g_atomic_int_inc(&roster->references);
  return roster;
}

void
nc_roster_free(NcRoster *roster)
{
  if (!roster || !g_atomic_int_dec_and_test(&roster->references))
    return;
  g_free(roster->cluster);
  g_free(roster->signer);
  g_free(roster->document);
  g_free(roster->signature);
  g_ptr_array_unref(roster->nodes);
  g_free(roster);
}

/* --- reading --- */

static bool
nc_is_hex(const char *text, size_t minimum, size_t maximum)
{
  size_t length = strlen(text);
  return length >= minimum && length <= maximum && strspn(text, "0123456789abcdef") == length;
}

static bool
nc_is_serial(const char *text)
{
  return nc_is_hex(text, 2, 40);
}

static bool
nc_roster_state(const char *name, NcNodeState *ret_state)
{
  for (int i = 0; i < NC_NODE_STATE_COUNT; i++) {
    if (strcmp(name, nc_node_state[i]) == 0) {
      *ret_state = (NcNodeState)i;
      return true;
    }
  }
  return false;
}

static bool
nc_time_parse(const char *text, int64_t *ret_us)
{
  g_autoptr(GDateTime) time = g_date_time_new_from_iso8601(text, NULL);

  if (!time)
    return false;
  *ret_us = g_date_time_to_unix(time) * G_USEC_PER_SEC + g_date_time_get_microsecond(time);
  return true;
}

/* serial, fingerprint and expires of ${object}; new strings in ${ret}, also on failure. */
static bool
nc_roster_cert_parse(json_t *object, NcRosterCert *ret, GError **error)
{
  const char *serial = nc_json_string(object, "serial", error);
  const char *fingerprint = serial ? nc_json_string(object, "fingerprint", error) : NULL;
  const char *expires = fingerprint ? nc_json_string(object, "expires", error) : NULL;

  if (!expires)
    return false;
  if (!nc_is_serial(serial) || !nc_is_hex(fingerprint, 64, 64) || !nc_time_parse(expires, &ret->expires_us))
    return nc_fail(error, NC_ERROR_PROTOCOL, "a certificate in the roster makes no sense");
  ret->serial = g_strdup(serial);
  ret->fingerprint = g_strdup(fingerprint);
  return true;
}

/* What only a node has whose certificate was renewed. */
static bool
nc_roster_node_parse_renewal(NcRosterNode *node, json_t *object, GError **error)
{
  json_t *next = json_object_get(object, "next");
  const char *previous = json_object_get(object, "previous") ? nc_json_string(object, "previous", error) : "";

  if (!previous || (next && !nc_roster_cert_parse(next, &node->next, error)))
    return false;
  if (previous[0] && !nc_is_serial(previous))
    return nc_fail(error, NC_ERROR_PROTOCOL, "a previous certificate in the roster makes no sense");
  node->previous = previous[0] ? g_strdup(previous) : NULL;
  return true;
}

static NcRosterNode *
nc_roster_node_parse(json_t *object, GError **error)
{
  g_autoptr(NcRosterNode) node = g_new0(NcRosterNode, 1);
  const char *name = nc_json_string(object, "name", error);
  const char *address = name ? nc_json_string(object, "address", error) : NULL;
  const char *state = address ? nc_json_string(object, "state", error) : NULL;
  NcRosterCert cert = { 0 };

  if (!state)
    return NULL;
  if (!nc_name_is_valid(name) || !nc_tcp_address_is_valid(address) || !nc_roster_state(state, &node->state)) {
    nc_fail(error, NC_ERROR_PROTOCOL, "the roster's entry \"%.63s\" makes no sense", name);
    return NULL;
  }
  if (!nc_roster_cert_parse(object, &cert, error))
    return NULL;
  node->name = g_strdup(name);
  node->address = g_strdup(address);
  node->serial = cert.serial;
  node->fingerprint = cert.fingerprint;
  node->expires_us = cert.expires_us;
  return nc_roster_node_parse_renewal(node, object, error) ? g_steal_pointer(&node) : NULL;
}

static gint
nc_roster_compare(gconstpointer a, gconstpointer b)
{
  return strcmp((*(NcRosterNode *const *)a)->name, (*(NcRosterNode *const *)b)->name);
}

static bool
nc_roster_read_nodes(NcRoster *roster, json_t *list, GError **error)
{
  size_t n = json_array_size(list);

  if (!json_is_array(list) || n > NC_ROSTER_MAX_NODES)
    return nc_fail(error, NC_ERROR_PROTOCOL, "a roster must have a list of at most %d nodes", NC_ROSTER_MAX_NODES);
  for (size_t i = 0; i < n; i++) {
    NcRosterNode *node = nc_roster_node_parse(json_array_get(list, i), error);
    if (!node)
      return false;
    g_ptr_array_add(roster->nodes, node);
  }
  g_ptr_array_sort(roster->nodes, nc_roster_compare);
  for (size_t i = 1; i < n; i++)
    if (strcmp(nc_roster_at(roster, i - 1)->name, nc_roster_at(roster, i)->name) == 0)
      return nc_fail(error, NC_ERROR_PROTOCOL, "the roster lists %s twice", nc_roster_at(roster, i)->name);
  return true;
}

/* Of a text whose signature has been checked. */
static NcRoster *
nc_roster_read(const char *document, const char *signature_hex, GError **error)
{
  nc_autojson json_t *object = nc_msg_decode(document, strlen(document), error);
  g_autoptr(NcRoster) roster = g_new0(NcRoster, 1);
  int64_t version = 0, issued_us;

  roster->references = 1;
  roster->nodes = g_ptr_array_new_with_free_func(nc_roster_node_free);
  const char *cluster = object ? nc_json_string(object, "cluster", error) : NULL;
  const char *issued = cluster ? nc_json_string(object, "issued", error) : NULL;
  const char *signer = issued && json_object_get(object, "signer") ? nc_json_string(object, "signer", error) : "";
  if (!issued || !signer || !nc_json_int(object, "version", 0, INT64_MAX, &version, error))
    return NULL;
  if (!nc_name_is_valid(cluster) || !nc_time_parse(issued, &issued_us) || (signer[0] && !nc_name_is_valid(signer))) {
    nc_fail(error, NC_ERROR_PROTOCOL, "the head of the roster makes no sense");
    return NULL;
  }
  if (!nc_roster_read_nodes(roster, json_object_get(object, "nodes"), error))
    return NULL;
  roster->cluster = g_strdup(cluster);
  roster->version = (uint64_t)version;
  roster->signer = signer[0] ? g_strdup(signer) : NULL;
  roster->document = g_strdup(document);
  roster->signature = g_strdup(signature_hex);
  return g_steal_pointer(&roster);
}

static bool
nc_roster_check_signature(const char *document, size_t length, const char *signature_hex, NcCert *ca_cert, GError **error)
{
  uint8_t signature[NC_ROSTER_MAX_SIGNATURE_BYTES];
  size_t digits = strlen(signature_hex);

  if (digits < 2 || digits > 2 * sizeof signature || !nc_hex_decode(signature_hex, signature, digits / 2) ||
      !nc_cert_check_signature(ca_cert, document, length, signature, digits / 2, NULL))
    return nc_fail(error, NC_ERROR_TRUST, "the roster is not signed by the cluster's CA");
  return true;
}

NcRoster *
nc_roster_parse(const char *document, const char *signature_hex, NcCert *ca_cert, GError **error)
{
  size_t length = strlen(document);

  if (length > NC_ROSTER_MAX_BYTES) {
    nc_fail(error, NC_ERROR_PROTOCOL, "a roster of %zu bytes is too large", length);
    return NULL;
  }
  if (!nc_roster_check_signature(document, length, signature_hex, ca_cert, error))
    return NULL;
  return nc_roster_read(document, signature_hex, error);
}

/* --- writing --- */

static json_t *
nc_roster_node_json(const NcRosterNode *node)
{
  g_autofree char *expires = nc_time_format(node->expires_us);
  json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s*}", "name", node->name, "address", node->address, "serial", node->serial,
                             "fingerprint", node->fingerprint, "state", nc_node_state[node->state], "expires", expires, "previous",
                             node->previous);

  if (node->next.serial) {
    g_autofree char *ends = nc_time_format(node->next.expires_us);
    json_object_set_new(object, "next", json_pack("{s:s, s:s, s:s}", "serial", node->next.serial, "fingerprint", node->next.fingerprint,
                                                  "expires", ends));
  }
  return object;
}

/* Every quote costs one more byte inside a message, and the message has a limit. */
static bool
nc_roster_check_size(const char *document, GError **error)
{
  size_t size = strlen(document);

  for (const char *at = document; (at = strchr(at, '"')); at++)
    size++;
  return size <= NC_ROSTER_MAX_BYTES || nc_fail(error, NC_ERROR_RESOURCE, "the roster would have %zu bytes: too large to send", size);
}

/* Signs a roster of ${nodes} (into which ${changed}, if any, is put or replaces its namesake). */
static NcRoster *
nc_roster_sign(const char *cluster, uint64_t version, const GPtrArray *nodes, const NcRosterNode *changed, NcCa *ca, GError **error)
{
  g_autofree char *issued = nc_time_format(nc_wall_us());
  nc_autojson json_t *object = json_pack("{s:s, s:I, s:s, s:s*}", "cluster", cluster, "version", (json_int_t)version, "issued", issued,
                                           "signer", nc_ca_holder(ca));
  json_t *list = json_array();

  for (guint i = 0; nodes && i < nodes->len; i++) {
    const NcRosterNode *node = g_ptr_array_index(nodes, i);
    if (!changed || strcmp(node->name, changed->name) != 0)
      json_array_append_new(list, nc_roster_node_json(node));
  }
  if (changed)
    json_array_append_new(list, nc_roster_node_json(changed));
  json_object_set_new(object, "nodes", list);
  if (json_array_size(list) > NC_ROSTER_MAX_NODES) {
    nc_fail(error, NC_ERROR_RESOURCE, "a cluster has at most %d nodes, removed ones included", NC_ROSTER_MAX_NODES);
    return NULL;
  }
  char *text = json_dumps(object, JSON_COMPACT);
  g_autofree char *document = g_strdup(text);
  free(text);
  if (!document || !nc_roster_check_size(document, error))
    return NULL;
  g_autoptr(GBytes) signature = nc_ca_sign(ca, document, strlen(document), error);
  if (!signature)
    return NULL;
  g_autofree char *hex = nc_hex_encode(g_bytes_get_data(signature, NULL), g_bytes_get_size(signature));
  return nc_roster_read(document, hex, error);
}

NcRoster *
nc_roster_new(const char *cluster, NcCa *ca, GError **error)
{
  return nc_roster_sign(cluster, 0, NULL, NULL, ca, error);
}

static NcRoster *
nc_roster_successor(const NcRoster *roster, const NcRosterNode *changed, NcCa *ca, GError **error)
{
  return nc_roster_sign(roster->cluster, roster->version + 1, roster->nodes, changed, ca, error);
}

NcRoster *
nc_roster_with_node(const NcRoster *roster, NcCert *node_cert, const char *address, bool replace, NcCa *ca, GError **error)
{
  const char *name = nc_cert_node(node_cert);
  const NcRosterNode *there = name ? nc_roster_find(roster, name) : NULL;

  if (!name || !nc_tcp_address_is_valid(address)) {
    nc_fail(error, NC_ERROR_INVALID, "a node needs a name and an address of the form host:port, not \"%s\"", address ? address : "");
    return NULL;
  }
  if (there && there->state == NC_NODE_JOINED && !replace) {
    nc_fail(error, NC_ERROR_EXISTS, "a node %s has joined already: remove it first, or choose another name", name);
    return NULL;
  }
  NcRosterNode node = { .name = (char *)name,
                        .address = (char *)address,
                        .serial = (char *)nc_cert_serial(node_cert),
                        .fingerprint = (char *)nc_cert_fingerprint(node_cert),
                        .state = NC_NODE_JOINED,
                        .expires_us = nc_cert_not_after_us(node_cert) };
  return nc_roster_successor(roster, &node, ca, error);
}

NcRoster *
nc_roster_with_next(const NcRoster *roster, NcCert *node_cert, NcCa *ca, GError **error)
{
  const char *name = nc_cert_node(node_cert);
  const NcRosterNode *there = name ? nc_roster_find(roster, name) : NULL;

  if (!there || there->state != NC_NODE_JOINED) {
    nc_fail(error, NC_ERROR_TRUST, "%s is no node of the cluster (roster version %" G_GUINT64_FORMAT "), so its certificate is not renewed",
            name ? name : "who asks", roster->version);
    return NULL;
  }
  NcRosterNode node = *there;
  node.next = (NcRosterCert){ .serial = (char *)nc_cert_serial(node_cert),
                              .fingerprint = (char *)nc_cert_fingerprint(node_cert),
                              .expires_us = nc_cert_not_after_us(node_cert) };
  return nc_roster_successor(roster, &node, ca, error);
}

NcRoster *
nc_roster_with_next_used(const NcRoster *roster, const char *name, NcCa *ca, GError **error)
{
  const NcRosterNode *there = nc_roster_find(roster, name);

  if (!there || !there->next.serial) {
    nc_fail(error, NC_ERROR_NOT_FOUND, "node %s has no next certificate", name);
    return NULL;
  }
  NcRosterNode node = *there;
  node.previous = there->serial;
  node.serial = there->next.serial;
  node.fingerprint = there->next.fingerprint;
  node.expires_us = there->next.expires_us;
  node.next = (NcRosterCert){ 0 };
  return nc_roster_successor(roster, &node, ca, error);
}

NcRoster *
nc_roster_without_node(const NcRoster *roster, const char *name, NcCa *ca, GError **error)
{
  const NcRosterNode *there = nc_roster_find(roster, name);

  if (!there || there->state != NC_NODE_JOINED) {
    nc_fail(error, NC_ERROR_NOT_FOUND, there ? "node %s is removed already" : "there is no node %s", name);
    return NULL;
  }
  NcRosterNode node = *there;
  node.state = NC_NODE_REMOVED;
  node.next = (NcRosterCert){ 0 };
  node.previous = NULL;
  return nc_roster_successor(roster, &node, ca, error);
}

/* --- files --- */

NcRoster *
nc_roster_load(const char *pki_dir, NcCert *ca_cert, GError **error)
{
  g_autofree char *document_path = g_build_filename(pki_dir, "roster.json", NULL);
  g_autofree char *signature_path = g_build_filename(pki_dir, "roster.sig", NULL);
  size_t length = 0;
  g_autofree char *document = nc_file_read(document_path, NC_ROSTER_MAX_BYTES, &length, error);
  g_autofree char *signatures = document ? nc_file_read(signature_path, 8 * NC_ROSTER_MAX_SIGNATURE_BYTES, NULL, error) : NULL;

  if (!signatures)
    return NULL;
  g_auto(GStrv) line = g_strsplit(signatures, "\n", 3);
  for (int i = 0; i < 2 && line[i]; i++)
    if (length == strlen(document) && nc_roster_check_signature(document, length, line[i], ca_cert, NULL))
      return nc_roster_read(document, line[i], error);
  nc_fail(error, NC_ERROR_TRUST, "%s is not signed by the cluster's CA", document_path);
  return NULL;
}

bool
nc_roster_save(const NcRoster *roster, const NcRoster *replaced, const char *pki_dir, GError **error)
{
  g_autofree char *document_path = g_build_filename(pki_dir, "roster.json", NULL);
  g_autofree char *signature_path = g_build_filename(pki_dir, "roster.sig", NULL);
  g_autofree char *signatures = g_strdup_printf("%s\n%s\n", roster->signature, replaced ? replaced->signature : "");

  return nc_file_replace(signature_path, signatures, strlen(signatures), 0644, error) &&
         nc_file_replace(document_path, roster->document, strlen(roster->document), 0644, error);
}

/* --- looking --- */

const char *
nc_roster_cluster(const NcRoster *roster)
{
  return roster->cluster;
}

uint64_t
nc_roster_version(const NcRoster *roster)
{
  return roster->version;
}

const char *
nc_roster_signer(const NcRoster *roster)
{
  return roster->signer;
}

const char *
nc_roster_document(const NcRoster *roster)
{
  return roster->document;
}

const char *
nc_roster_signature(const NcRoster *roster)
{
  return roster->signature;
}

size_t
nc_roster_count(const NcRoster *roster)
{
  return roster->nodes->len;
}

const NcRosterNode *
nc_roster_at(const NcRoster *roster, size_t index)
{
  return g_ptr_array_index(roster->nodes, index);
}

const NcRosterNode *
nc_roster_find(const NcRoster *roster, const char *name)
{
  size_t low = 0, high = roster->nodes->len;

  while (low < high) {
    size_t middle = low + (high - low) / 2;
    const NcRosterNode *node = nc_roster_at(roster, middle);
    int order = strcmp(name, node->name);
    if (order == 0)
      return node;
    if (order < 0)
      high = middle;
    else
      low = middle + 1;
  }
  return NULL;
}
