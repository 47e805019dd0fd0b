/* SPDX-License-Identifier: Apache-2.0 */
/* novacron audit: the transaction log, to look at and to have proved; also of a journal's file, without novacrond. */
#include "base/bytes.h"
#include "base/ident.h"
#include "cli/client.h"
#include "cli/table.h"
#include "store/audit_seal.h"

#include <inttypes.h>
#include <stdio.h>

typedef struct {
  char *kind, *about; /* list */
  int limit;
  char *before;
  char *file, *seal, *certificate, *expect; /* verify */
} NcAuditOptions;

static void
nc_audit_options_clear(NcAuditOptions *o)
{
  g_free(o->kind);
  g_free(o->about);
  g_free(o->before);
  g_free(o->file);
  g_free(o->seal);
  g_free(o->certificate);
  g_free(o->expect);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcAuditOptions, nc_audit_options_clear)

/* --- list --- */

static void
nc_audit_print_entry(json_t *entry)
{
  g_autofree char *about = nc_text_clean(nc_json_string_or(entry, "subject", ""));
  g_autofree char *vm = nc_text_clean(nc_json_string_or(entry, "vm", ""));
  g_autofree char *kind = nc_text_clean(nc_json_string_or(entry, "kind", ""));
  g_autofree char *actor = nc_text_clean(nc_json_string_or(entry, "actor", ""));
  g_autofree char *raw = json_dumps(json_object_get(entry, "detail"), JSON_ENCODE_ANY);
  g_autofree char *detail = nc_text_clean(raw ? raw : "");
  g_autofree char *number = g_strdup_printf("%" PRId64, nc_json_int_or(entry, "seq", 0));

  nc_print_fact(number, "%s, %s: %s%s%s%s%s %s", nc_json_string_or(entry, "at", ""), actor, kind, about[0] ? ", " : "", about,
                vm[0] ? ", " : "", vm, detail);
}

static void
nc_audit_print_list(json_t *list)
{
  json_t *items = json_object_get(list, "items");

  /* Newest last, where the reader of a terminal is. */
  for (size_t i = json_array_size(items); i > 0; i--)
    nc_audit_print_entry(json_array_get(items, i - 1));
  if (json_array_size(items) == 0)
    puts("No entries.");
}

static bool
nc_audit_path(const NcAuditOptions *o, GString *path, GError **error)
{
  char *end = NULL;

  if (o->limit < 1 || o->limit > 1000)
    return nc_fail(error, NC_ERROR_INVALID, "--limit must be from 1 to 1000");
  g_string_printf(path, "/api/v2/audit?limit=%d", o->limit);
  if (o->before && (g_ascii_strtoull(o->before, &end, 10) == 0 || *end))
    return nc_fail(error, NC_ERROR_INVALID, "--before must be the number of an entry");
  if (o->before)
    g_string_append_printf(path, "&before=%s", o->before);
  if (o->kind && !nc_name_is_valid(o->kind))
    return nc_fail(error, NC_ERROR_INVALID, "--kind must be a kind of entries, as novacron audit list shows them");
  if (o->kind)
    g_string_append_printf(path, "&kind=%s", o->kind);
  if (o->about && !nc_cli_check_name("machine or migration", o->about, error))
    return false;
  if (o->about)
    g_string_append_printf(path, "&about=%s", o->about);
  return true;
}

bool
nc_cmd_audit_list(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  g_auto(NcAuditOptions) o = { .limit = 50 };
  g_autoptr(GString) path = g_string_new(NULL);
  const GOptionEntry entries[] = {
    { "kind", 0, 0, G_OPTION_ARG_STRING, &o.kind, "only entries of this kind", "KIND" },
    { "about", 0, 0, G_OPTION_ARG_STRING, &o.about, "only what is about this machine, migration, rollback or node", "NAME" },
    { "limit", 0, 0, G_OPTION_ARG_INT, &o.limit, "so many at most, the last ones (50)", "N" },
    { "before", 0, 0, G_OPTION_ARG_STRING, &o.before, "only entries before this number", "SEQ" },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, entries, &argc, &argv, error) || !nc_audit_path(&o, path, error))
    return false;
  nc_autojson json_t *list = nc_client_call(cli, "GET", path->str, NULL, error);
  if (!list)
    return false;
  if (cli->json)
    nc_cli_print_json(list);
  else
    nc_audit_print_list(list);
  return true;
}

/* --- verify --- */

/* ${path} or, without, ${name} beside the journal. Caller frees. */
static char *
nc_audit_beside(const char *path, const char *journal, const char *name)
{
  g_autofree char *directory = g_path_get_dirname(journal);
  return path ? g_strdup(path) : g_build_filename(directory, name, NULL);
}

/* The answer of novacrond for a journal that novacrond need not run on. */
static json_t *
nc_audit_verify_offline(const NcAuditOptions *o, GError **error)
{
  g_autofree char *seal_path = nc_audit_beside(o->seal, o->file, NC_AUDIT_SEAL_FILE);
  g_autofree char *cert_path = nc_audit_beside(o->certificate, o->file, "pki/node.crt");
  g_autoptr(NcCert) cert = nc_cert_load(cert_path, error);
  g_auto(NcAuditReport) report = { .entries = 0 };
  g_autoptr(GError) problem = NULL;
  NcAuditHead heads[2];
  size_t n = 0;
  NcAuditSeal seal;

  if (!cert) {
    g_prefix_error(error, "the node's certificate, which proves the seal (--certificate): ");
    return NULL;
  }
  if (o->expect && !nc_audit_head_parse(o->expect, &heads[n++])) {
    nc_fail(error, NC_ERROR_INVALID, "--expect must be SEQ:HASH, an entry's number and its SHA-256 in hexadecimal");
    return NULL;
  }
  if (nc_audit_seal_read(seal_path, cert, &seal, &problem))
    heads[n++] = seal.head;
  if (!nc_audit_verify_file(o->file, heads, n, &report, error))
    return NULL;
  const char *why = report.problem ? report.problem : problem ? problem->message : NULL;
  g_autofree char *hash = nc_hex_encode(report.head.hash, sizeof report.head.hash);
  g_autofree char *at = nc_time_format(report.head_at_us);
  return json_pack("{s:b, s:I, s:I, s:s, s:s, s:o, s:o, s:o, s:o, s:[]}", "ok", why == NULL, "entries", (json_int_t)report.entries, "seq",
                   (json_int_t)report.head.seq, "hash", hash, "at", at, "first_bad",
                   report.bad_seq ? json_integer((json_int_t)report.bad_seq) : json_null(), "problem", why ? json_string(why) : json_null(),
                   "sealed_seq", seal.head.seq ? json_integer((json_int_t)seal.head.seq) : json_null(), "sealed_at",
                   seal.head.seq ? json_string(seal.at) : json_null(), "peers");
}

static void
nc_audit_print_report(json_t *report)
{
  bool ok = nc_json_bool_or(report, "ok", false);
  g_autofree char *problem = nc_text_clean(nc_json_string_or(report, "problem", "not said"));
  json_t *peer;
  size_t i;

  if (ok)
    printf("The transaction log is whole: nothing was altered, moved or cut out.\n");
  else
    printf("The transaction log is NOT whole.\n");
  if (!ok)
    nc_print_fact("PROBLEM", "%s", problem);
  nc_print_fact("entries", "%" PRId64 " fit", nc_json_int_or(report, "entries", 0));
  nc_print_fact("last", "%" PRId64 ", of %s", nc_json_int_or(report, "seq", 0), nc_json_string_or(report, "at", ""));
  nc_print_fact("its hash", "%s", nc_json_string_or(report, "hash", ""));
  if (nc_json_int_or(report, "first_bad", 0) > 0)
    nc_print_fact("FIRST BAD", "%" PRId64, nc_json_int_or(report, "first_bad", 0));
  if (nc_json_int_or(report, "sealed_seq", 0) > 0)
    nc_print_fact("sealed", "up to %" PRId64 ", %s", nc_json_int_or(report, "sealed_seq", 0), nc_json_string_or(report, "sealed_at", ""));
  json_array_foreach(json_object_get(report, "peers"), i, peer)
  {
    const char *error = nc_json_string_or(peer, "error", NULL);
    g_autofree char *node = nc_text_clean(nc_json_string_or(peer, "node", "?"));
    if (error)
      nc_print_fact("not asked", "%s: %s", node, error);
    else
      nc_print_fact("witness", "%s has heard of entry %" PRId64, node, nc_json_int_or(peer, "seq", 0));
  }
}

static json_t *
nc_audit_verify_online(NcCli *cli, const NcAuditOptions *o, GError **error)
{
  nc_autojson json_t *body = json_object();
  if (o->expect)
    json_object_set_new(body, "expect", json_string(o->expect));
  return nc_client_call(cli, "POST", "/api/v2/audit/verify", body, error);
}

bool
nc_cmd_audit_verify(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  g_auto(NcAuditOptions) o = { 0 };
  const GOptionEntry entries[] = {
    { "file", 0, 0, G_OPTION_ARG_FILENAME, &o.file, "of this journal, without novacrond", "PATH" },
    { "seal", 0, 0, G_OPTION_ARG_FILENAME, &o.seal, "with --file: its seal (" NC_AUDIT_SEAL_FILE " beside it)", "PATH" },
    { "certificate", 0, 0, G_OPTION_ARG_FILENAME, &o.certificate, "with --file: its node's certificate (pki/node.crt beside it)", "PATH" },
    { "expect", 0, 0, G_OPTION_ARG_STRING, &o.expect, "an entry that has to be there, as it was seen elsewhere", "SEQ:HASH" },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, entries, &argc, &argv, error))
    return false;
  if (!o.file && (o.seal || o.certificate))
    return nc_fail(error, NC_ERROR_INVALID, "--seal and --certificate go with --file");
  nc_autojson json_t *report = o.file ? nc_audit_verify_offline(&o, error) : nc_audit_verify_online(cli, &o, error);
  if (!report)
    return false;
  if (cli->json)
    nc_cli_print_json(report);
  else
    nc_audit_print_report(report);
  if (!nc_json_bool_or(report, "ok", false))
    cli->status = nc_error_exit_status(NC_ERROR_CORRUPT);
  return true;
}
