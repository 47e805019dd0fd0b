/* SPDX-License-Identifier: Apache-2.0 */
/* Reading certificates: foreign bytes, of which only what is checked here leaves this file. */
#include "base/ident.h"
#include "base/bytes.h"
#include "base/io.h"
#include "crypto/pki_internal.h"

#include <openssl/pem.h>
#include <string.h>
#include <time.h>

#define NC_NODE_URI "novacron:node:"
#define NC_SINCE_URI "novacron:since:"
#define NC_SERIAL_MAX_BITS 160 /* RFC 5280 */

void
nc_cert_free(NcCert *cert)
{
  if (!cert)
    return;
  X509_free(cert->x509);
  g_free(cert->pem);
  g_free(cert->node);
  g_free(cert->serial);
  g_free(cert->fingerprint);
  g_free(cert);
}

/* What follows ${prefix}, if ${name} is such a URI; NULL otherwise. */
static char *
nc_uri_rest(const GENERAL_NAME *name, const char *prefix)
{
  int type;
  const ASN1_IA5STRING *uri = GENERAL_NAME_get0_value(name, &type);

  if (type != GEN_URI)
    return NULL;
  /* The bytes may hold a NUL: what follows it must not vanish from the comparison. */
  const char *text = (const char *)ASN1_STRING_get0_data(uri);
  size_t length = (size_t)ASN1_STRING_length(uri), skipped = strlen(prefix);
  if (length <= skipped || memchr(text, '\0', length) || memcmp(text, prefix, skipped) != 0)
    return NULL;
  return g_strndup(text + skipped, length - skipped);
}

/* What follows ${prefix} in the only alternative name that begins so; NULL: there is none, or there are several. */
static char *
nc_x509_only_uri(X509 *x509, const char *prefix)
{
  g_autoptr(GENERAL_NAMES) names = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
  g_autofree char *found = NULL;

  for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
    g_autofree char *candidate = nc_uri_rest(sk_GENERAL_NAME_value(names, i), prefix);
    if (candidate && found)
      return NULL;
    if (candidate)
      found = g_steal_pointer(&candidate);
  }
  return g_steal_pointer(&found);
}

char *
nc_x509_node(X509 *x509)
{
  g_autofree char *node = nc_x509_only_uri(x509, NC_NODE_URI);
  return nc_name_is_valid(node) ? g_steal_pointer(&node) : NULL;
}

uint64_t
nc_x509_since(X509 *x509)
{
  g_autofree char *text = nc_x509_only_uri(x509, NC_SINCE_URI);
  guint64 since = 0;

  return text && g_ascii_string_to_unsigned(text, 10, 1, INT64_MAX, &since, NULL) ? since : 0;
}

char *
nc_x509_serial(X509 *x509)
{
  g_autoptr(BIGNUM) number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x509), NULL);

  if (!number || BN_is_negative(number) || BN_num_bits(number) > NC_SERIAL_MAX_BITS)
    return NULL;
  char *hex = BN_bn2hex(number);
  char *serial = hex ? g_ascii_strdown(hex, -1) : NULL;
  OPENSSL_free(hex);
  return serial;
}

static bool
nc_asn1_time_us(const ASN1_TIME *time, int64_t *ret_us)
{
  struct tm parts;

  if (ASN1_TIME_to_tm(time, &parts) != 1)
    return false;
  *ret_us = (int64_t)timegm(&parts) * G_USEC_PER_SEC;
  return true;
}

static char *
nc_x509_pem(X509 *x509)
{
  g_autoptr(BIO) memory = BIO_new(BIO_s_mem());
  char *data = NULL;

  if (!memory || PEM_write_bio_X509(memory, x509) != 1)
    return NULL;
  long length = BIO_get_mem_data(memory, &data);
  return g_strndup(data, (gsize)length);
}

NcCert *
nc_cert_from_x509(X509 *x509, GError **error)
{
  g_autoptr(NcCert) cert = g_new0(NcCert, 1);
  unsigned char digest[NC_SHA256_BYTES];

  X509_up_ref(x509);
  cert->x509 = x509;
  cert->pem = nc_x509_pem(x509);
  cert->node = nc_x509_node(x509);
  cert->since = nc_x509_since(x509);
  cert->serial = nc_x509_serial(x509);
  cert->is_ca = X509_check_ca(x509) == 1;
  if (!cert->pem || !cert->serial || !nc_asn1_time_us(X509_get0_notBefore(x509), &cert->not_before_us) ||
      !nc_asn1_time_us(X509_get0_notAfter(x509), &cert->not_after_us) ||
      X509_digest(x509, EVP_sha256(), digest, NULL) != 1) {
    nc_ossl_fail(error, NC_ERROR_INVALID, "the certificate is malformed");
    return NULL;
  }
  cert->fingerprint = nc_hex_encode(digest, sizeof digest);
  return g_steal_pointer(&cert);
}

NcCert *
nc_cert_parse(const char *pem, GError **error)
{
  nc_ossl_init();
  size_t length = strlen(pem);
  g_autoptr(BIO) memory = length <= NC_PKI_PEM_MAX_BYTES ? BIO_new_mem_buf(pem, (int)length) : NULL;
  g_autoptr(X509) x509 = memory ? PEM_read_bio_X509(memory, NULL, NULL, NULL) : NULL;

  if (!x509) {
    nc_ossl_fail(error, NC_ERROR_INVALID, "not a certificate");
    return NULL;
  }
  g_autoptr(X509) second = PEM_read_bio_X509(memory, NULL, NULL, NULL);
  ERR_clear_error();
  if (second) {
    nc_fail(error, NC_ERROR_INVALID, "more than one certificate");
    return NULL;
  }
  return nc_cert_from_x509(x509, error);
}

NcCert *
nc_cert_load(const char *path, GError **error)
{
  g_autofree char *pem = nc_file_read(path, NC_PKI_PEM_MAX_BYTES, NULL, error);
  NcCert *cert = pem ? nc_cert_parse(pem, error) : NULL;

  if (pem && !cert)
    g_prefix_error(error, "%s: ", path);
  return cert;
}

bool
nc_cert_save(NcCert *cert, const char *path, GError **error)
{
  return nc_file_replace(path, cert->pem, strlen(cert->pem), 0644, error);
}

const char *
nc_cert_node(const NcCert *cert)
{
  return cert->node;
}

uint64_t
nc_cert_since(const NcCert *cert)
{
  return cert->since;
}

const char *
nc_cert_serial(const NcCert *cert)
{
  return cert->serial;
}

const char *
nc_cert_fingerprint(const NcCert *cert)
{
  return cert->fingerprint;
}

const char *
nc_cert_pem(const NcCert *cert)
{
  return cert->pem;
}

int64_t
nc_cert_not_before_us(const NcCert *cert)
{
  return cert->not_before_us;
}

int64_t
nc_cert_not_after_us(const NcCert *cert)
{
  return cert->not_after_us;
}

bool
nc_cert_is_ca(const NcCert *cert)
{
  return cert->is_ca;
}

bool
nc_cert_fits_key(const NcCert *cert, const NcKey *key)
{
  bool fits = X509_check_private_key(cert->x509, key->pkey) == 1;
  ERR_clear_error();
  return fits;
}

bool
nc_cert_check_issuer(const NcCert *cert, const NcCert *ca, GError **error)
{
  EVP_PKEY *key = X509_get0_pubkey(ca->x509);
  bool issued = ca->is_ca && key && X509_check_issued(ca->x509, cert->x509) == X509_V_OK && X509_verify(cert->x509, key) == 1;

  ERR_clear_error();
  return issued || nc_fail(error, NC_ERROR_TRUST, "the certificate was not issued by the cluster's CA");
}

bool
nc_cert_check_signature(const NcCert *cert, const void *data, size_t length_bytes, const void *signature,
                        size_t signature_bytes, GError **error)
{
  g_autoptr(EVP_MD_CTX) context = EVP_MD_CTX_new();
  EVP_PKEY *key = X509_get0_pubkey(cert->x509);
  bool fits = context && key && EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
              EVP_DigestVerify(context, signature, signature_bytes, data, length_bytes) == 1;

  ERR_clear_error();
  return fits || nc_fail(error, NC_ERROR_TRUST, "the signature does not fit");
}
