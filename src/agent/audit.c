/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/audit.h"
#include "base/bytes.h"
#include "base/ident.h"
#include "base/log.h"
#include "crypto/renew.h"
#include "store/audit_seal.h"

#include <unistd.h>

#define NC_AUDIT_TICK_US 200000
#define NC_AUDIT_QUIET_US 400000   /* a switchover writes several entries in a row: the disk is its own then */
#define NC_AUDIT_LATE_US 3000000   /* but not longer than this */
#define NC_AUDIT_ASK_MS 2000       /* for one other node */
#define NC_AUDIT_ASK_ALL_US 8000000
#define NC_AUDIT_ASK_NODES 16

struct NcAudit {
  const NcConfig *config;
  NcJournal *journal;
  NcNodes *nodes;
  char *seal_path;
  char *journal_path;

  GMutex lock; /* protects what follows */
  GCond wake;
  bool quitting;
  GThread *thread;

  /* the thread's own */
  uint64_t sealed_seq;
  bool complained;
};

/* --- the seal --- */

/* Of ${name} in pki/. Caller frees. */
static char *
nc_audit_pki_path(NcAudit *audit, const char *name)
{
  g_autofree char *pki = nc_pki_dir(audit->config->data_dir);
  return g_build_filename(pki, name, NULL);
}

static NcCert *
nc_audit_load_cert(NcAudit *audit, GError **error)
{
  g_autofree char *path = nc_audit_pki_path(audit, "node.crt");
  return nc_cert_load(path, error);
}

/* What ${cert} has replaced, by a renewal; NULL: nothing, or it is of no use. */
static NcCert *
nc_audit_load_cert_before(NcAudit *audit, const NcCert *cert)
{
  g_autofree char *ca_path = nc_audit_pki_path(audit, "ca.crt"), *path = nc_audit_pki_path(audit, NC_PKI_CERT_BEFORE);
  g_autoptr(NcCert) before = nc_cert_load(path, NULL);
  g_autoptr(NcCert) ca = before ? nc_cert_load(ca_path, NULL) : NULL;

  if (!ca || !nc_cert_check_issuer(before, ca, NULL) || g_strcmp0(nc_cert_node(before), nc_cert_node(cert)) != 0)
    return NULL;
  return g_steal_pointer(&before);
}

/* After a renewal the log is sealed anew; until it is, its seal is by the key before. */
static bool
nc_audit_read_seal(NcAudit *audit, const NcCert *cert, NcAuditSeal *ret, GError **error)
{
  g_autoptr(GError) problem = NULL;

  if (nc_audit_seal_read(audit->seal_path, cert, ret, &problem))
    return true;
  g_autoptr(NcCert) before = problem->code == NC_ERROR_TRUST ? nc_audit_load_cert_before(audit, cert) : NULL;
  if (before && nc_audit_seal_read(audit->seal_path, before, ret, NULL))
    return true;
  g_propagate_error(error, g_steal_pointer(&problem));
  return false;
}

/* The log is sealed with ${key}: if that is the one of the new certificate, the old one has nothing to prove any more. */
static void
nc_audit_forget_cert_before(NcAudit *audit, const NcKey *key)
{
  g_autofree char *path = nc_audit_pki_path(audit, NC_PKI_CERT_BEFORE);
  g_autoptr(NcCert) cert = nc_renew_keeps_old(audit->config->data_dir) ? nc_audit_load_cert(audit, NULL) : NULL;

  if (cert && nc_cert_fits_key(cert, key))
    unlink(path);
}

static bool
nc_audit_seal(NcAudit *audit, GError **error)
{
  NcAuditHead head;
  g_autofree char *path = nc_audit_pki_path(audit, "node.key");
  /* Read each time: a node that joins anew or renews has another one, and the certificate beside it is what proofs go by. */
  g_autoptr(NcKey) key = nc_key_load(path, error);

  if (!key || !nc_journal_audit_settle(audit->journal, &head, error) ||
      !nc_audit_seal_write(audit->seal_path, nc_nodes_self(audit->nodes), &head, key, error))
    return false;
  audit->sealed_seq = head.seq;
  nc_audit_forget_cert_before(audit, key);
  return true;
}

/* A full disk is said once, and tried again. */
static void
nc_audit_seal_or_complain(NcAudit *audit)
{
  g_autoptr(GError) error = NULL;
  bool sealed = nc_audit_seal(audit, &error);

  if (!sealed && !audit->complained)
    nc_log(NC_LOG_ERR, "agent", "the transaction log can't be sealed, and is tried again: %s", error->message);
  audit->complained = !sealed;
}

static bool
nc_audit_sleep(NcAudit *audit)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&audit->lock);
  int64_t until_us = g_get_monotonic_time() + NC_AUDIT_TICK_US;

  while (!audit->quitting && g_cond_wait_until(&audit->wake, &audit->lock, until_us))
    ;
  return !audit->quitting;
}

static gpointer
nc_audit_thread(gpointer data)
{
  NcAudit *audit = data;
  uint64_t seen_seq = audit->sealed_seq;
  int64_t changed_us = 0, unsealed_us = 0;

  while (nc_audit_sleep(audit)) {
    NcAuditHead head;
    int64_t now_us = nc_mono_us();
    if (!nc_journal_audit_head(audit->journal, &head, NULL) || head.seq == audit->sealed_seq)
      continue;
    if (seen_seq == audit->sealed_seq)
      unsealed_us = now_us;
    if (head.seq != seen_seq)
      changed_us = now_us;
    seen_seq = head.seq;
    if (now_us - changed_us < NC_AUDIT_QUIET_US && now_us - unsealed_us < NC_AUDIT_LATE_US)
      continue;
    nc_audit_seal_or_complain(audit);
    seen_seq = audit->sealed_seq;
  }
  return NULL;
}

/* --- at the start: what is there? --- */

void
nc_audit_note(NcAudit *audit, const char *kind, json_t *detail)
{
  nc_autojson json_t *owned = detail;
  g_autoptr(GError) error = NULL;
  const NcAuditEntry entry = { .kind = kind, .detail = owned };

  if (!nc_journal_audit(audit->journal, &entry, true, NULL, &error))
    nc_log(NC_LOG_ERR, "agent", "transaction log: %s", error->message);
}

/* The hash of entry ${seq}; NULL: there is no such entry. Caller frees. */
static char *
nc_audit_hash_at(NcAudit *audit, uint64_t seq, GError **error)
{
  const NcAuditFilter filter = { .before = seq + 1, .limit = 1 };
  nc_autojson json_t *list = nc_journal_list_audit(audit->journal, &filter, error);
  json_t *entry = json_array_get(list, 0);

  return (uint64_t)nc_json_int_or(entry, "seq", 0) == seq ? g_strdup(nc_json_string_or(entry, "hash", "")) : NULL;
}

/* What does not fit between log and seal, for people; NULL: nothing. Caller frees. */
static char *
nc_audit_find_break(NcAudit *audit, const NcAuditSeal *seal, const GError *problem, const NcAuditHead *head)
{
  if (problem && problem->code == NC_ERROR_NOT_FOUND)
    return head->seq > 1 ? g_strdup_printf("the seal, %s, is gone", audit->seal_path) : NULL;
  if (problem)
    return g_strdup(problem->message);
  if (!g_str_equal(seal->node, nc_nodes_self(audit->nodes)))
    return g_strdup_printf("the seal is of node %s", seal->node);
  g_autofree char *sealed = nc_hex_encode(seal->head.hash, sizeof seal->head.hash);
  g_autofree char *found = nc_audit_hash_at(audit, seal->head.seq, NULL);
  if (!found)
    return g_strdup_printf("the log was cut: its seal of %s names entry %" G_GUINT64_FORMAT ", it ends with %" G_GUINT64_FORMAT, seal->at,
                           seal->head.seq, head->seq);
  if (!g_str_equal(found, sealed))
    return g_strdup_printf("the log was written anew: entry %" G_GUINT64_FORMAT " is not the one that was sealed at %s", seal->head.seq, seal->at);
  return NULL;
}

static bool
nc_audit_compare(NcAudit *audit, GError **error)
{
  g_autoptr(NcCert) cert = nc_audit_load_cert(audit, error);
  g_autoptr(GError) problem = NULL;
  NcAuditHead head;
  NcAuditSeal seal;

  if (!cert || !nc_journal_audit_head(audit->journal, &head, error))
    return false;
  nc_audit_read_seal(audit, cert, &seal, &problem);
  g_autofree char *what = nc_audit_find_break(audit, &seal, problem, &head);
  g_autofree char *hash = nc_hex_encode(seal.head.hash, sizeof seal.head.hash);
  if (what) {
    nc_log(NC_LOG_ERR, "agent", "the transaction log of this node does not fit its seal: %s", what);
    nc_audit_note(audit, NC_AUDIT_BROKEN,
                  json_pack("{s:s, s:I, s:s, s:s}", "problem", what, "sealed_seq", (json_int_t)seal.head.seq, "sealed_hash", hash,
                            "sealed_at", seal.at));
  }
  return true;
}

NcAudit *
nc_audit_new(const NcConfig *config, NcJournal *journal, NcNodes *nodes, GError **error)
{
  g_autoptr(NcAudit) audit = g_new0(NcAudit, 1);

  audit->config = config;
  audit->journal = journal;
  audit->nodes = nodes;
  audit->seal_path = g_build_filename(config->data_dir, NC_AUDIT_SEAL_FILE, NULL);
  audit->journal_path = g_build_filename(config->data_dir, "journal.db", NULL);
  g_mutex_init(&audit->lock);
  g_cond_init(&audit->wake);
  if (!nc_audit_compare(audit, error))
    return NULL;
  nc_audit_seal_or_complain(audit);
  audit->thread = g_thread_new("audit-seal", nc_audit_thread, audit);
  return g_steal_pointer(&audit);
}

void
nc_audit_free(NcAudit *audit)
{
  if (!audit)
    return;
  if (audit->thread) {
    g_mutex_lock(&audit->lock);
    audit->quitting = true;
    g_cond_signal(&audit->wake);
    g_mutex_unlock(&audit->lock);
    g_thread_join(audit->thread);
    nc_audit_seal_or_complain(audit);
  }
  g_mutex_clear(&audit->lock);
  g_cond_clear(&audit->wake);
  g_free(audit->seal_path);
  g_free(audit->journal_path);
  g_free(audit);
}

/* --- other nodes --- */

json_t *
nc_audit_tell(NcAudit *audit)
{
  NcAuditHead head;
  g_autoptr(GError) error = NULL;

  if (!nc_journal_audit_settle(audit->journal, &head, &error)) {
    nc_log(NC_LOG_WARNING, "agent", "the head of the transaction log can't be told: %s", error->message);
    return NULL;
  }
  g_autofree char *hash = nc_hex_encode(head.hash, sizeof head.hash);
  return json_pack("{s:I, s:s}", "seq", (json_int_t)head.seq, "hash", hash);
}

static bool
nc_audit_read_told(json_t *told, NcAuditHead *ret)
{
  int64_t seq = nc_json_int_or(told, "seq", 0);

  ret->seq = (uint64_t)MAX(seq, 0);
  return seq > 0 && nc_hex_decode(nc_json_string_or(told, "hash", ""), ret->hash, sizeof ret->hash);
}

void
nc_audit_hear(NcAudit *audit, const char *node, const char *migration, json_t *told)
{
  NcAuditHead head;
  g_autoptr(GError) error = NULL;

  if (!nc_audit_read_told(told, &head)) {
    nc_log(NC_LOG_WARNING, "agent", "%s told something about its transaction log that makes no sense", node);
    return;
  }
  g_autofree char *actor = g_strdup_printf("node:%s", node);
  g_autofree char *hash = nc_hex_encode(head.hash, sizeof head.hash);
  nc_autojson json_t *detail = json_pack("{s:I, s:s, s:s}", "seq", (json_int_t)head.seq, "hash", hash, "migration", migration);
  const NcAuditEntry entry = { .kind = NC_AUDIT_PEER_HEAD, .subject = node, .actor = actor, .detail = detail };
  if (!nc_journal_audit(audit->journal, &entry, false, NULL, &error))
    nc_log(NC_LOG_ERR, "agent", "transaction log: %s", error->message);
}

/* The nodes that told us of their logs: to those we told of ours. Array of strings. */
static json_t *
nc_audit_confidants(NcAudit *audit)
{
  const NcAuditFilter filter = { .kind = NC_AUDIT_PEER_HEAD };
  nc_autojson json_t *heard = nc_journal_list_audit(audit->journal, &filter, NULL);
  nc_autojson json_t *seen = json_object();
  json_t *names = json_array(), *entry;
  size_t i;

  json_array_foreach(heard, i, entry)
  {
    const char *node = nc_json_string_or(entry, "subject", "");
    if (json_object_get(seen, node) || json_array_size(names) >= NC_AUDIT_ASK_NODES)
      continue;
    json_object_set_new(seen, node, json_true());
    json_array_append_new(names, json_string(node));
  }
  return names;
}

/* What ${node} last heard of our log: {node, seq, hash}, or {node, error}. */
static json_t *
nc_audit_ask(NcAudit *audit, const char *node, NcAuditHead *ret, bool *ret_knows)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcPeer) peer = nc_nodes_connect(audit->nodes, node, NC_AUDIT_ASK_MS, &error);
  nc_autojson json_t *question = json_pack("{s:s}", "type", "audit_ask");
  nc_autojson json_t *answer = peer && nc_peer_send(peer, question, &error) ? nc_peer_recv(peer, NC_AUDIT_ASK_MS, &error) : NULL;

  *ret_knows = false;
  if (!answer)
    return json_pack("{s:s, s:s}", "node", node, "error", error->message);
  if (!g_str_equal(nc_json_string_or(answer, "type", ""), "audit_heard"))
    return json_pack("{s:s, s:s}", "node", node, "error", "it does not know the question: it runs an older NovaCron");
  *ret_knows = nc_audit_read_told(answer, ret);
  if (!*ret_knows)
    return json_pack("{s:s, s:s}", "node", node, "error", "it has heard nothing of this node's log");
  g_autofree char *hash = nc_hex_encode(ret->hash, sizeof ret->hash);
  return json_pack("{s:s, s:I, s:s}", "node", node, "seq", (json_int_t)ret->seq, "hash", hash);
}

/* Adds what they know to ${heads} and to ${ret_peers}. */
static void
nc_audit_ask_all(NcAudit *audit, GArray *heads, json_t *ret_peers)
{
  nc_autojson json_t *names = nc_audit_confidants(audit);
  int64_t deadline_us = nc_mono_us() + NC_AUDIT_ASK_ALL_US;
  json_t *name;
  size_t i;

  json_array_foreach(names, i, name)
  {
    NcAuditHead head;
    bool knows;
    if (nc_mono_us() > deadline_us)
      break;
    json_array_append_new(ret_peers, nc_audit_ask(audit, json_string_value(name), &head, &knows));
    if (knows)
      g_array_append_val(heads, head);
  }
}

/* --- people --- */

json_t *
nc_audit_list(NcAudit *audit, json_t *args, GError **error)
{
  const NcAuditFilter filter = { .kind = nc_json_string_or(args, "kind", NULL),
                                 .subject = nc_json_string_or(args, "about", NULL),
                                 .before = (uint64_t)MAX(nc_json_int_or(args, "before", 0), 0),
                                 .limit = (unsigned)CLAMP(nc_json_int_or(args, "limit", 100), 1, 1000) };
  return nc_journal_list_audit(audit->journal, &filter, error);
}

static json_t *
nc_audit_report_json(const NcAuditReport *report, const NcAuditSeal *seal, const char *seal_problem)
{
  const char *problem = report->problem ? report->problem : seal_problem;
  g_autofree char *hash = nc_hex_encode(report->head.hash, sizeof report->head.hash);
  g_autofree char *at = nc_time_format(report->head_at_us);
  json_t *view = json_pack("{s:b, s:I, s:I, s:s, s:s}", "ok", problem == NULL, "entries", (json_int_t)report->entries, "seq",
                           (json_int_t)report->head.seq, "hash", hash, "at", at);

  json_object_set_new(view, "first_bad", report->bad_seq ? json_integer((json_int_t)report->bad_seq) : json_null());
  json_object_set_new(view, "problem", problem ? json_string(problem) : json_null());
  json_object_set_new(view, "sealed_seq", seal->head.seq ? json_integer((json_int_t)seal->head.seq) : json_null());
  json_object_set_new(view, "sealed_at", seal->head.seq ? json_string(seal->at) : json_null());
  return view;
}

json_t *
nc_audit_verify(NcAudit *audit, json_t *args, GError **error)
{
  const char *expect = nc_json_string_or(args, "expect", NULL);
  g_autoptr(GArray) heads = g_array_new(FALSE, FALSE, sizeof(NcAuditHead));
  g_autoptr(NcCert) cert = nc_audit_load_cert(audit, error);
  g_autoptr(GError) problem = NULL;
  g_auto(NcAuditReport) report = { .entries = 0 };
  NcAuditHead expected;
  NcAuditSeal seal;

  if (!cert)
    return NULL;
  if (expect && !nc_audit_head_parse(expect, &expected)) {
    nc_fail(error, NC_ERROR_INVALID, "\"expect\" must be SEQ:HASH, an entry's number and its SHA-256 in hexadecimal");
    return NULL;
  }
  if (expect)
    g_array_append_val(heads, expected);
  /* Before the log is read: it may grow meanwhile, and what is in the seal or told to others is always older. */
  if (nc_audit_read_seal(audit, cert, &seal, &problem))
    g_array_append_val(heads, seal.head);
  nc_autojson json_t *peers = json_array();
  nc_audit_ask_all(audit, heads, peers);
  if (!nc_audit_verify_file(audit->journal_path, (const NcAuditHead *)heads->data, heads->len, &report, error))
    return NULL;
  json_t *view = nc_audit_report_json(&report, &seal, problem ? problem->message : NULL);
  json_object_set(view, "peers", peers);
  return view;
}
