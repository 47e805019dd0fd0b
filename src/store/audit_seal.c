/* SPDX-License-Identifier: Apache-2.0 */
#include "store/audit_seal.h"
#include "base/bytes.h"
#include "base/ident.h"
#include "base/io.h"

#include <string.h>

#define NC_AUDIT_SEAL_MAX_BYTES 4096

static char *
nc_audit_seal_text(const char *node, uint64_t seq, const char *hash, const char *at)
{
  return g_strdup_printf("novacron-audit-seal 1 %s %" G_GUINT64_FORMAT " %s %s", node, seq, hash, at);
}

bool
nc_audit_seal_write(const char *path, const char *node, const NcAuditHead *head, NcKey *key, GError **error)
{
  g_autofree char *hash = nc_hex_encode(head->hash, sizeof head->hash);
  g_autofree char *at = nc_time_format(nc_wall_us());
  g_autofree char *text = nc_audit_seal_text(node, head->seq, hash, at);
  g_autoptr(GBytes) signature = nc_key_sign(key, text, strlen(text), error);

  if (!signature)
    return false;
  g_autofree char *hex = nc_hex_encode(g_bytes_get_data(signature, NULL), g_bytes_get_size(signature));
  nc_autojson json_t *seal = json_pack("{s:i, s:s, s:I, s:s, s:s, s:s}", "version", 1, "node", node, "seq", (json_int_t)head->seq, "hash",
                                       hash, "at", at, "signature", hex);
  g_autofree char *file = seal ? json_dumps(seal, JSON_INDENT(1)) : NULL;
  if (!file)
    return nc_fail(error, NC_ERROR_INTERNAL, "the seal of the transaction log can't be encoded");
  return nc_file_replace(path, file, strlen(file), 0600, error);
}

static bool
nc_audit_seal_parse(json_t *seal, NcAuditSeal *ret, const char **ret_signature, GError **error)
{
  int64_t version, seq;
  const char *node = nc_json_string(seal, "node", error);
  const char *hash = node ? nc_json_string(seal, "hash", error) : NULL;
  const char *at = hash ? nc_json_string(seal, "at", error) : NULL;

  *ret_signature = at ? nc_json_string(seal, "signature", error) : NULL;
  if (!*ret_signature || !nc_json_int(seal, "version", 1, 1, &version, error) || !nc_json_int(seal, "seq", 1, INT64_MAX, &seq, error))
    return false;
  if (!nc_name_is_valid(node) || strlen(at) >= sizeof ret->at || !nc_hex_decode(hash, ret->head.hash, sizeof ret->head.hash))
    return nc_fail(error, NC_ERROR_PROTOCOL, "a value is out of bounds");
  ret->head.seq = (uint64_t)seq;
  g_strlcpy(ret->node, node, sizeof ret->node);
  g_strlcpy(ret->at, at, sizeof ret->at);
  return true;
}

static bool
nc_audit_seal_check(const NcAuditSeal *seal, const char *signature, const NcCert *cert, GError **error)
{
  uint8_t bytes[NC_PKI_MAX_SIGNATURE_BYTES];
  size_t digits = strlen(signature);
  g_autofree char *hash = nc_hex_encode(seal->head.hash, sizeof seal->head.hash);
  g_autofree char *text = nc_audit_seal_text(seal->node, seal->head.seq, hash, seal->at);

  if (digits < 2 || digits > 2 * sizeof bytes || !nc_hex_decode(signature, bytes, digits / 2))
    return nc_fail(error, NC_ERROR_TRUST, "the signature is not one");
  return nc_cert_check_signature(cert, text, strlen(text), bytes, digits / 2, error);
}

bool
nc_audit_seal_read(const char *path, const NcCert *cert, NcAuditSeal *ret, GError **error)
{
  size_t length = 0;
  const char *signature = NULL;
  g_autoptr(GError) problem = NULL;
  g_autofree char *text = nc_file_read(path, NC_AUDIT_SEAL_MAX_BYTES, &length, error);

  *ret = (NcAuditSeal){ .head.seq = 0 };
  if (!text)
    return false;
  nc_autojson json_t *seal = nc_msg_decode(text, length, &problem);
  if (!seal || !nc_audit_seal_parse(seal, ret, &signature, &problem))
    return nc_fail(error, NC_ERROR_CORRUPT, "the seal of the transaction log, %s, is not readable: %s", path, problem->message);
  if (!nc_audit_seal_check(ret, signature, cert, &problem))
    return nc_fail(error, NC_ERROR_TRUST, "the seal of the transaction log, %s, was not made with the key of this node's certificate (%s)", path,
                   problem->message);
  return true;
}

bool
nc_audit_head_parse(const char *text, NcAuditHead *ret)
{
  char *end = NULL;

  if (!g_ascii_isdigit(text[0]))
    return false;
  ret->seq = g_ascii_strtoull(text, &end, 10);
  return *end == ':' && ret->seq > 0 && ret->seq <= INT64_MAX && nc_hex_decode(end + 1, ret->hash, sizeof ret->hash);
}
