/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster's CA: issuing certificates and signing rosters. */
#include "base/ident.h"
#include "crypto/pki_internal.h"

#include <openssl/pem.h>
#include <string.h>

#define NC_SERIAL_BYTES 16

typedef struct {
  int nid;
  const char *value;
} NcExtension;

static const NcExtension nc_ca_extension[] = {
  { NID_basic_constraints, "critical,CA:TRUE,pathlen:0" },
  { NID_key_usage, "critical,keyCertSign,cRLSign,digitalSignature" },
  { NID_subject_key_identifier, "hash" },
};

static const NcExtension nc_node_extension[] = {
  { NID_basic_constraints, "critical,CA:FALSE" },
  { NID_key_usage, "critical,digitalSignature" },
  { NID_ext_key_usage, "serverAuth,clientAuth" },
  { NID_subject_key_identifier, "hash" },
  { NID_authority_key_identifier, "keyid" },
};

static bool
nc_x509_add(X509 *x509, X509 *issuer, const NcExtension *extension)
{
  X509V3_CTX context;

  X509V3_set_ctx(&context, issuer, x509, NULL, NULL, 0);
  X509V3_set_ctx_nodb(&context);
  g_autoptr(X509_EXTENSION) made = X509V3_EXT_conf_nid(NULL, &context, extension->nid, extension->value);
  return made && X509_add_ext(x509, made, -1) == 1;
}

static bool
nc_x509_set_random_serial(X509 *x509)
{
  uint8_t bytes[NC_SERIAL_BYTES];

  nc_random_bytes(bytes, sizeof bytes);
  bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40); /* positive, and always of the same length */
  g_autoptr(BIGNUM) number = BN_bin2bn(bytes, sizeof bytes, NULL);
  return number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509)) != NULL;
}

/* Times are whole seconds of the wall clock. */
static bool
nc_x509_set_validity(X509 *x509, int64_t from_s, int64_t until_s)
{
  return ASN1_TIME_set(X509_getm_notBefore(x509), (time_t)from_s) && ASN1_TIME_set(X509_getm_notAfter(x509), (time_t)until_s);
}

static bool
nc_x509_begin(X509 *x509, const char *common_name, EVP_PKEY *owner)
{
  X509_NAME *subject = X509_get_subject_name(x509);

  return X509_set_version(x509, X509_VERSION_3) == 1 && nc_x509_set_random_serial(x509) &&
         X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)common_name, -1, -1, 0) == 1 &&
         X509_set_pubkey(x509, owner) == 1;
}

static bool
nc_x509_add_all(X509 *x509, X509 *issuer, const NcExtension *extension, size_t n)
{
  for (size_t i = 0; i < n; i++)
    if (!nc_x509_add(x509, issuer, &extension[i]))
      return false;
  return true;
}

static X509 *
nc_ca_certificate(const char *cluster, EVP_PKEY *key)
{
  g_autoptr(X509) x509 = X509_new();
  int64_t now_s = nc_wall_us() / G_USEC_PER_SEC;

  if (!x509 || !nc_x509_begin(x509, cluster, key) || !X509_set_issuer_name(x509, X509_get_subject_name(x509)) ||
      !nc_x509_set_validity(x509, now_s - NC_PKI_BACKDATE_S, now_s + NC_PKI_CA_DAYS * INT64_C(86400)) ||
      !nc_x509_add_all(x509, x509, nc_ca_extension, G_N_ELEMENTS(nc_ca_extension)) || X509_sign(x509, key, EVP_sha256()) <= 0)
    return NULL;
  return g_steal_pointer(&x509);
}

NcCa *
nc_ca_new(const char *cluster, GError **error)
{
  if (!nc_name_is_valid(cluster)) {
    nc_fail(error, NC_ERROR_INVALID, "\"%s\" can't name a cluster: " NC_NAME_RULE, cluster ? cluster : "");
    return NULL;
  }
  g_autoptr(NcCa) ca = g_new0(NcCa, 1);
  ca->key = nc_key_new(error);
  if (!ca->key)
    return NULL;
  g_autoptr(X509) x509 = nc_ca_certificate(cluster, ca->key->pkey);
  if (!x509) {
    nc_ossl_fail(error, NC_ERROR_INTERNAL, "can't make a CA certificate");
    return NULL;
  }
  ca->cert = nc_cert_from_x509(x509, error);
  return ca->cert ? g_steal_pointer(&ca) : NULL;
}

NcCa *
nc_ca_load(const char *pki_dir, GError **error)
{
  g_autofree char *cert_path = g_build_filename(pki_dir, "ca.crt", NULL);
  g_autofree char *key_path = g_build_filename(pki_dir, "ca.key", NULL);
  g_autoptr(NcCa) ca = g_new0(NcCa, 1);

  ca->cert = nc_cert_load(cert_path, error);
  if (!ca->cert)
    return NULL;
  ca->key = nc_key_load(key_path, error);
  if (!ca->key)
    return NULL;
  if (!ca->cert->is_ca || !nc_cert_fits_key(ca->cert, ca->key)) {
    nc_fail(error, NC_ERROR_TRUST, "%s is not the key of the CA in %s", key_path, cert_path);
    return NULL;
  }
  return g_steal_pointer(&ca);
}

bool
nc_ca_save(NcCa *ca, const char *pki_dir, GError **error)
{
  g_autofree char *cert_path = g_build_filename(pki_dir, "ca.crt", NULL);
  g_autofree char *key_path = g_build_filename(pki_dir, "ca.key", NULL);

  return nc_key_save(ca->key, key_path, error) && nc_cert_save(ca->cert, cert_path, error);
}

void
nc_ca_free(NcCa *ca)
{
  if (!ca)
    return;
  nc_cert_free(ca->cert);
  nc_key_free(ca->key);
  g_free(ca->holder);
  g_free(ca);
}

NcCert *
nc_ca_cert(const NcCa *ca)
{
  return ca->cert;
}

void
nc_ca_set_holder(NcCa *ca, const char *node)
{
  g_free(ca->holder);
  ca->holder = g_strdup(node);
}

const char *
nc_ca_holder(const NcCa *ca)
{
  return ca->holder;
}

/* The public key of a request, once its sender has proved to hold the private one. Owned by ${request}. */
static EVP_PKEY *
nc_csr_key(X509_REQ *request, GError **error)
{
  EVP_PKEY *key = X509_REQ_get0_pubkey(request);
  char group[64] = "";

  if (!key || !EVP_PKEY_is_a(key, "EC") || EVP_PKEY_get_group_name(key, group, sizeof group, NULL) != 1 ||
      (strcmp(group, "prime256v1") != 0 && strcmp(group, "P-256") != 0)) {
    ERR_clear_error();
    nc_fail(error, NC_ERROR_INVALID, "a node's key must be ECDSA on P-256");
    return NULL;
  }
  if (X509_REQ_verify(request, key) != 1) {
    nc_ossl_fail(error, NC_ERROR_INVALID, "the certificate request is not signed with its own key");
    return NULL;
  }
  return key;
}

static X509_REQ *
nc_csr_parse(const char *pem, GError **error)
{
  size_t length = strlen(pem);
  g_autoptr(BIO) memory = length <= NC_PKI_PEM_MAX_BYTES ? BIO_new_mem_buf(pem, (int)length) : NULL;
  X509_REQ *request = memory ? PEM_read_bio_X509_REQ(memory, NULL, NULL, NULL) : NULL;

  if (!request)
    nc_ossl_fail(error, NC_ERROR_INVALID, "not a certificate request");
  return request;
}

static X509 *
nc_node_certificate(const NcCa *ca, EVP_PKEY *owner, const char *node, uint64_t since, int validity_days)
{
  g_autoptr(X509) x509 = X509_new();
  g_autofree char *names = g_strdup_printf("DNS:%s,URI:novacron:node:%s,URI:novacron:since:%" G_GUINT64_FORMAT, node, node, since);
  const NcExtension alternative = { NID_subject_alt_name, names };
  int64_t now_s = nc_wall_us() / G_USEC_PER_SEC, ca_end_s = ca->cert->not_after_us / G_USEC_PER_SEC;
  int64_t until_s = MIN(now_s + validity_days * INT64_C(86400), ca_end_s);

  if (!x509 || !nc_x509_begin(x509, node, owner) || !X509_set_issuer_name(x509, X509_get_subject_name(ca->cert->x509)) ||
      !nc_x509_set_validity(x509, now_s - NC_PKI_BACKDATE_S, until_s) ||
      !nc_x509_add_all(x509, ca->cert->x509, nc_node_extension, G_N_ELEMENTS(nc_node_extension)) ||
      !nc_x509_add(x509, ca->cert->x509, &alternative) || X509_sign(x509, ca->key->pkey, EVP_sha256()) <= 0)
    return NULL;
  return g_steal_pointer(&x509);
}

NcCert *
nc_ca_issue(const NcCa *ca, const char *csr_pem, const char *node, uint64_t since, int validity_days, GError **error)
{
  if (!nc_name_is_valid(node) || validity_days < 0 || validity_days > NC_PKI_CA_DAYS) {
    nc_fail(error, NC_ERROR_INVALID, "a certificate for \"%s\", %d days, can't be: 0 to %d days, and " NC_NAME_RULE,
            node ? node : "", validity_days, NC_PKI_CA_DAYS);
    return NULL;
  }
  g_autoptr(X509_REQ) request = nc_csr_parse(csr_pem, error);
  EVP_PKEY *owner = request ? nc_csr_key(request, error) : NULL;
  if (!owner)
    return NULL;
  g_autoptr(X509) x509 = nc_node_certificate(ca, owner, node, since, validity_days ? validity_days : NC_PKI_NODE_DAYS);
  if (!x509) {
    nc_ossl_fail(error, NC_ERROR_INTERNAL, "can't issue a certificate for %s", node);
    return NULL;
  }
  return nc_cert_from_x509(x509, error);
}

GBytes *
nc_ca_sign(const NcCa *ca, const void *data, size_t length_bytes, GError **error)
{
  g_autoptr(EVP_MD_CTX) context = EVP_MD_CTX_new();
  unsigned char signature[256];
  size_t size = sizeof signature;

  if (!context || EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, ca->key->pkey) != 1 ||
      EVP_DigestSign(context, signature, &size, data, length_bytes) != 1) {
    nc_ossl_fail(error, NC_ERROR_INTERNAL, "the CA can't sign");
    return NULL;
  }
  return g_bytes_new(signature, size);
}
