/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/request_log.h"
#include "base/log.h"
#include "crypto/digest.h"

#include <string.h>

/* What an entry about a request is about: the migration, machine or node that it names. */
static const char *
nc_request_subject(json_t *args)
{
  static const char *const keys[] = { "id", "vm", "name", "machine", "node" };
  const char *subject = NULL;

  for (size_t i = 0; i < G_N_ELEMENTS(keys) && !subject; i++)
    subject = nc_json_string_or(args, keys[i], NULL);
  return subject;
}

bool
nc_request_log_begin(const NcLoggedRequest *request, uint64_t *ret_seq, GError **error)
{
  nc_autojson json_t *detail = json_pack("{s:s, s:s, s:s, s:s*, s:O}", "op", request->op, "role", request->role, "from",
                                         request->from, "token", request->token, "args", request->args);
  const NcAuditEntry entry = {
    .kind = "request", .subject = nc_request_subject(request->args), .actor = request->actor, .detail = detail
  };

  if (nc_journal_audit(request->journal, &entry, false, ret_seq, error))
    return true;
  g_prefix_error(error, "%s is not done, since it can't be recorded: ", request->op);
  return false;
}

void
nc_request_log_end(const NcLoggedRequest *request, uint64_t seq, json_t *result, const GError *problem)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *detail =
      json_pack("{s:I, s:s, s:b}", "request", (json_int_t)seq, "op", request->op, "ok", result != NULL);
  const char *made =
      json_is_object(result) ? nc_json_string_or(result, "id", nc_json_string_or(result, "name", NULL)) : NULL;
  const NcAuditEntry entry = { .kind = "request.result",
                               .subject = made ? made : nc_request_subject(request->args),
                               .actor = request->actor,
                               .detail = detail };

  if (problem)
    json_object_set_new(detail, "error", nc_error_to_json(problem));
  if (!nc_journal_audit(request->journal, &entry, false, NULL, &error))
    nc_log(NC_LOG_ERR, "agent", "the result of %s can't be recorded: %s", request->op, error->message);
}

char *
nc_request_sha256(const char *op, json_t *args)
{
  g_autofree char *text = json_dumps(args, JSON_COMPACT | JSON_SORT_KEYS);
  g_autofree char *whole = g_strconcat(op, " ", text, NULL);
  return nc_sha256_hex(whole, strlen(whole));
}
