/* SPDX-License-Identifier: Apache-2.0 */
/* Starting OpenSSL and making its error queue readable. */
#include "crypto/ossl.h"

void
nc_ossl_init(void)
{
  static gsize once;

  if (g_once_init_enter(&once)) {
    const uint64_t what = OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS;
    if (OPENSSL_init_ssl(what, NULL) != 1)
      g_error("OpenSSL could not be initialised");
    g_once_init_leave(&once, 1);
  }
}

char *
nc_ossl_reason(void)
{
  unsigned long code = ERR_get_error();
  const char *reason = code ? ERR_reason_error_string(code) : NULL;
  char *text = g_strdup(reason ? reason : "no reason given");

  ERR_clear_error();
  return text;
}

bool
nc_ossl_fail(GError **error, int code, const char *format, ...)
{
  g_autofree char *reason = nc_ossl_reason();
  va_list args;

  va_start(args, format);
  g_autofree char *text = g_strdup_vprintf(format, args);
  va_end(args);
  return nc_fail(error, code, "%s: %s", text, reason);
}
