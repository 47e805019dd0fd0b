/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, certificates and the directory they live in. */
#include "support.h"
#include "base/ident.h"
#include "base/io.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

static void
init_makes_a_cluster_once(void)
{
  g_autoptr(GError) error = NULL;
  char *dir = t_cluster();
  g_autoptr(NcTrust) trust = t_load(dir);
  g_autoptr(NcRoster) roster = nc_trust_roster(trust);

  g_assert_cmpstr(nc_trust_node(trust), ==, "node-a");
  g_assert_cmpstr(nc_trust_cluster(trust), ==, "lab");
  g_assert_true(nc_trust_has_ca_key(trust));
  g_assert_cmpuint(nc_roster_count(roster), ==, 1);
  g_assert_cmpuint(nc_roster_version(roster), ==, 1);
  g_assert_cmpstr(nc_roster_at(roster, 0)->address, ==, "127.0.0.1:7450");
  g_assert_false(nc_pki_init(dir, "lab", "node-a", "127.0.0.1:7450", 0, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_EXISTS);
  g_autoptr(NcTrust) again = t_load(dir);
  g_assert_cmpint(nc_trust_expires_us(again), ==, nc_trust_expires_us(trust));
  t_remove_dir(dir);
}

static void
files_have_their_modes(void)
{
  static const struct {
    const char *name;
    mode_t mode;
  } file[] = { { "ca.key", 0600 }, { "node.key", 0600 }, { "ca.crt", 0644 }, { "node.crt", 0644 }, { "roster.json", 0644 } };
  char *dir = t_cluster();
  struct stat info;

  for (size_t i = 0; i < G_N_ELEMENTS(file); i++) {
    g_autofree char *path = g_build_filename(dir, "pki", file[i].name, NULL);
    g_assert_cmpint(stat(path, &info), ==, 0);
    g_assert_cmpint(info.st_mode & 0777, ==, file[i].mode);
  }
  g_autofree char *pki = nc_pki_dir(dir);
  g_assert_cmpint(stat(pki, &info), ==, 0);
  g_assert_cmpint(info.st_mode & 0777, ==, 0700);
  t_remove_dir(dir);
}

static void
init_refuses_nonsense_and_leaves_nothing(void)
{
  static const struct {
    const char *cluster, *node, *address;
    int days;
  } bad[] = {
    { "lab", "", "h:1", 0 },       { "lab", "../x", "h:1", 0 }, { "lab", "a", "h", 0 },
    { "lab", "a", "h:0", 0 },      { "lab", "a", ":7450", 0 },  { "la b", "a", "h:1", 0 },
    { "lab", "a", "h:1", -1 },     { "lab", "a", "h:65536", 0 }, { "lab", "a", "h:1", NC_PKI_CA_DAYS + 1 },
    { "lab", "a\nb", "h:1", 0 },
  };

  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    char *dir = t_dir();
    g_assert_false(nc_pki_init(dir, bad[i].cluster, bad[i].node, bad[i].address, bad[i].days, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
    g_autoptr(GDir) list = g_dir_open(dir, 0, NULL);
    g_assert_null(g_dir_read_name(list));
    t_remove_dir(dir);
  }
}

static void
init_fills_an_empty_directory(void)
{
  g_autoptr(GError) error = NULL;
  char *dir = t_dir();
  g_autofree char *pki = nc_pki_dir(dir);

  g_assert_cmpint(g_mkdir(pki, 0755), ==, 0);
  nc_pki_init(dir, "lab", "n", "[::1]:7450", 30, &error);
  g_assert_no_error(error);
  g_autoptr(NcTrust) trust = t_load(dir);
  int64_t days = (nc_trust_expires_us(trust) - nc_wall_us()) / G_USEC_PER_SEC / 86400;
  g_assert_cmpint(days, >=, 29);
  g_assert_cmpint(days, <=, 30);
  t_remove_dir(dir);
}

static void
issued_certificate_says_what_we_say(void)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcCa) ca = nc_ca_new("lab", &error);
  g_autoptr(NcKey) key = nc_key_new(&error), other = nc_key_new(&error);
  g_autofree char *csr = nc_key_make_csr(key, "liar", &error);
  g_autoptr(NcCert) cert = nc_ca_issue(ca, csr, "node-b", 4711, 0, &error);
  g_assert_no_error(error);

  g_assert_cmpstr(nc_cert_node(cert), ==, "node-b");
  g_assert_cmpuint(nc_cert_since(cert), ==, 4711);
  g_assert_cmpuint(nc_cert_since(nc_ca_cert(ca)), ==, 0);
  g_assert_false(nc_cert_is_ca(cert));
  g_assert_true(nc_cert_is_ca(nc_ca_cert(ca)));
  g_assert_null(nc_cert_node(nc_ca_cert(ca)));
  g_assert_true(nc_cert_fits_key(cert, key));
  g_assert_false(nc_cert_fits_key(cert, other));
  g_assert_cmpuint(strlen(nc_cert_serial(cert)), ==, 32);
  g_assert_cmpuint(strlen(nc_cert_fingerprint(cert)), ==, 64);
  g_assert_true(nc_cert_check_issuer(cert, nc_ca_cert(ca), NULL));
  g_autoptr(NcCa) stranger = nc_ca_new("lab", NULL);
  g_assert_false(nc_cert_check_issuer(cert, nc_ca_cert(stranger), &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  g_assert_false(nc_cert_check_issuer(cert, cert, NULL));
  g_autoptr(NcCert) copy = nc_cert_parse(nc_cert_pem(cert), NULL);
  g_assert_cmpstr(nc_cert_fingerprint(copy), ==, nc_cert_fingerprint(cert));
}

static void
no_certificate_outlives_its_ca(void)
{
  g_autoptr(NcCa) ca = nc_ca_new("lab", NULL);
  g_autoptr(NcKey) key = nc_key_new(NULL);
  g_autofree char *csr = nc_key_make_csr(key, "n", NULL);
  g_autoptr(NcCert) cert = nc_ca_issue(ca, csr, "n", 1, NC_PKI_CA_DAYS, NULL);

  g_assert_cmpint(nc_cert_not_after_us(cert), <=, nc_cert_not_after_us(nc_ca_cert(ca)));
}

static void
bad_requests_are_refused(void)
{
  g_autoptr(NcCa) ca = nc_ca_new("lab", NULL);
  g_autoptr(NcKey) key = nc_key_new(NULL);
  g_autofree char *csr = nc_key_make_csr(key, "n", NULL);
  g_autofree char *huge = g_strnfill(NC_PKI_PEM_MAX_BYTES + 1, 'A');
  g_autofree char *bent = g_strdup(csr);
  char *middle = bent + strlen(bent) / 2;
  *middle = *middle == 'A' ? 'B' : 'A';
  const char *bad[] = { "", "hello", huge, bent, nc_cert_pem(nc_ca_cert(ca)) };

  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    g_assert_null(nc_ca_issue(ca, bad[i], "n", 1, 0, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
  }
  for (size_t i = 0; i < G_N_ELEMENTS(bad) - 1; i++)
    g_assert_null(nc_cert_parse(bad[i], NULL));
  g_autofree char *two = g_strconcat(nc_cert_pem(nc_ca_cert(ca)), nc_cert_pem(nc_ca_cert(ca)), NULL);
  g_assert_null(nc_cert_parse(two, NULL));
}

static void
readable_key_is_refused(void)
{
  g_autoptr(GError) error = NULL;
  char *dir = t_cluster();
  g_autofree char *path = g_build_filename(dir, "pki", "node.key", NULL);

  g_assert_cmpint(g_chmod(path, 0640), ==, 0);
  g_assert_null(nc_trust_load(dir, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  t_assert_contains(error->message, "chmod 600");
  t_remove_dir(dir);
}

static void
mixed_directory_is_refused(void)
{
  static const char *const file[] = { "node.key", "node.crt", "ca.crt", "ca.key", "roster.json", "roster.sig" };
  char *other = t_cluster();

  for (size_t i = 0; i < G_N_ELEMENTS(file); i++) {
    g_autoptr(GError) error = NULL;
    char *dir = t_cluster();
    g_autofree char *from = g_build_filename(other, "pki", file[i], NULL), *to = g_build_filename(dir, "pki", file[i], NULL);
    g_autofree char *text = nc_file_read(from, 1 << 20, NULL, NULL);
    g_assert_true(nc_file_replace(to, text, strlen(text), 0600, NULL));
    g_assert_null(nc_trust_load(dir, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
    t_remove_dir(dir);
  }
  t_remove_dir(other);
}

static void
no_cluster_is_not_found(void)
{
  g_autoptr(GError) error = NULL;
  char *dir = t_dir();

  g_assert_null(nc_trust_load(dir, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
  t_remove_dir(dir);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/pki/init_makes_a_cluster_once", init_makes_a_cluster_once);
  g_test_add_func("/pki/files_have_their_modes", files_have_their_modes);
  g_test_add_func("/pki/init_refuses_nonsense_and_leaves_nothing", init_refuses_nonsense_and_leaves_nothing);
  g_test_add_func("/pki/init_fills_an_empty_directory", init_fills_an_empty_directory);
  g_test_add_func("/pki/issued_certificate_says_what_we_say", issued_certificate_says_what_we_say);
  g_test_add_func("/pki/no_certificate_outlives_its_ca", no_certificate_outlives_its_ca);
  g_test_add_func("/pki/bad_requests_are_refused", bad_requests_are_refused);
  g_test_add_func("/pki/readable_key_is_refused", readable_key_is_refused);
  g_test_add_func("/pki/mixed_directory_is_refused", mixed_directory_is_refused);
  g_test_add_func("/pki/no_cluster_is_not_found", no_cluster_is_not_found);
  return g_test_run();
}
