/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of src/crypto share. */
#include "support.h"
#include "base/io.h"
#include "crypto/pki_internal.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

void
t_init(int *argc, char ***argv)
{
  g_test_init(argc, argv, NULL);
  g_error_free(g_error_new_literal(NC_ERROR, NC_ERROR_INTERNAL, "first"));
}

char *
t_dir(void)
{
  char *dir = g_dir_make_tmp("novacron-test-XXXXXX", NULL);
  g_assert_nonnull(dir);
  return dir;
}

static void
t_remove_files(const char *dir)
{
  g_autoptr(GDir) list = g_dir_open(dir, 0, NULL);
  const char *name;

  while (list && (name = g_dir_read_name(list))) {
    g_autofree char *path = g_build_filename(dir, name, NULL);
    if (g_file_test(path, G_FILE_TEST_IS_DIR))
      t_remove_files(path);
    else
      g_remove(path);
  }
  g_rmdir(dir);
}

void
t_remove_dir(char *dir)
{
  t_remove_files(dir);
  g_free(dir);
}

char *
t_cluster(void)
{
  g_autoptr(GError) error = NULL;
  char *dir = t_dir();

  nc_pki_init(dir, "lab", "node-a", "127.0.0.1:7450", 0, &error);
  g_assert_no_error(error);
  return dir;
}

NcTrust *
t_load(const char *data_dir)
{
  g_autoptr(GError) error = NULL;
  NcTrust *trust = nc_trust_load(data_dir, &error);

  g_assert_no_error(error);
  return trust;
}

static void
t_write(const char *data_dir, const char *name, const char *text)
{
  g_autofree char *pki = nc_pki_dir(data_dir);
  g_autofree char *path = g_build_filename(pki, name, NULL);

  g_assert_true(nc_mkdir_p(pki, 0700, NULL));
  g_assert_true(nc_file_replace(path, text, strlen(text), 0600, NULL));
}

char *
t_member(NcTrust *ca_trust, const char *name)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcKey) key = nc_key_new(&error);
  g_autofree char *csr = nc_key_make_csr(key, name, &error);
  nc_autojson json_t *joined = nc_join_issue(ca_trust, name, "127.0.0.1:7451", csr, 0, &error);
  g_assert_no_error(error);
  json_t *roster = json_object_get(joined, "roster");
  char *dir = t_dir();
  g_autofree char *key_path = g_build_filename(dir, "pki", "node.key", NULL);

  t_write(dir, "ca.crt", json_string_value(json_object_get(joined, "ca")));
  t_write(dir, "node.crt", json_string_value(json_object_get(joined, "certificate")));
  t_write(dir, "roster.json", json_string_value(json_object_get(roster, "document")));
  t_write(dir, "roster.sig", json_string_value(json_object_get(roster, "signature")));
  g_assert_true(nc_key_save(key, key_path, NULL));
  return dir;
}

void
t_pair_open(TPair *pair)
{
  pair->dir_a = t_cluster();
  pair->a = t_load(pair->dir_a);
  pair->dir_b = t_member(pair->a, "node-b");
  pair->b = t_load(pair->dir_b);
}

void
t_pair_close(TPair *pair)
{
  nc_trust_free(pair->a);
  nc_trust_free(pair->b);
  t_remove_dir(pair->dir_a);
  t_remove_dir(pair->dir_b);
}

void
t_share_roster(NcTrust *from, NcTrust *trust)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcRoster) roster = nc_trust_roster(from);

  nc_trust_replace_roster(trust, nc_roster_document(roster), nc_roster_signature(roster), NULL, &error);
  g_assert_no_error(error);
}

void
t_tcp_pair(int ret_fd[2])
{
  nc_autofd int listener = nc_tcp_listen("127.0.0.1:0", NULL);
  g_autofree char *address = g_strdup_printf("127.0.0.1:%u", nc_tcp_local_port(listener));

  ret_fd[0] = nc_tcp_connect(address, T_LIMIT_MS, NULL);
  ret_fd[1] = nc_tcp_accept(listener, NULL);
  g_assert_cmpint(ret_fd[0], >=, 0);
  g_assert_cmpint(ret_fd[1], >=, 0);
}

static void
t_extend(X509 *x509, X509 *issuer, int nid, const char *value)
{
  X509V3_CTX context;

  X509V3_set_ctx(&context, issuer, x509, NULL, NULL, 0);
  g_autoptr(X509_EXTENSION) extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
  g_assert_nonnull(extension);
  g_assert_cmpint(X509_add_ext(x509, extension, -1), ==, 1);
}

static X509 *
t_bad_x509(const NcCa *ca, const TBadCert *bad, EVP_PKEY *key)
{
  X509 *x509 = X509_new();
  X509 *issuer = bad->self_signed ? x509 : ca->cert->x509;

  X509_set_version(x509, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(x509), 0x4711);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC, (const unsigned char *)"bad", -1, -1, 0);
  X509_set_issuer_name(x509, X509_get_subject_name(issuer));
  ASN1_TIME_set(X509_getm_notBefore(x509), time(NULL) + bad->from_s);
  ASN1_TIME_set(X509_getm_notAfter(x509), time(NULL) + bad->until_s);
  X509_set_pubkey(x509, key);
  t_extend(x509, issuer, NID_basic_constraints, "critical,CA:FALSE");
  t_extend(x509, issuer, NID_ext_key_usage, bad->usage);
  if (bad->node) {
    g_autofree char *uri = g_strdup_printf("URI:novacron:node:%s", bad->node);
    t_extend(x509, issuer, NID_subject_alt_name, uri);
  }
  g_assert_cmpint(X509_sign(x509, bad->self_signed ? key : ca->key->pkey, EVP_sha256()), >, 0);
  return x509;
}

void
t_forge(const char *ca_dir, const TBadCert *bad, NcCert **ret_cert, NcKey **ret_key)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *pki = nc_pki_dir(ca_dir);
  g_autoptr(NcCa) ca = nc_ca_load(pki, &error);
  g_assert_no_error(error);
  *ret_key = nc_key_new(NULL);
  g_autoptr(X509) x509 = t_bad_x509(ca, bad, (*ret_key)->pkey);
  *ret_cert = nc_cert_from_x509(x509, &error);
  g_assert_no_error(error);
  if (bad->unlisted || !bad->node)
    return;
  g_autoptr(NcRoster) roster = nc_roster_load(pki, ca->cert, &error);
  g_assert_no_error(error);
  g_autoptr(NcRoster) next = nc_roster_with_node(roster, *ret_cert, "127.0.0.1:7452", true, ca, &error);
  g_assert_no_error(error);
  g_assert_true(nc_roster_save(next, roster, pki, NULL));
}
