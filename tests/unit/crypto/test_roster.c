/* SPDX-License-Identifier: Apache-2.0 */
/* The roster: nobody but the CA changes it, and it never goes back. */
#include "support.h"
#include "base/bytes.h"
#include "base/io.h"

#include <string.h>

static NcCert *
issue(NcCa *ca, const char *node)
{
  g_autoptr(NcKey) key = nc_key_new(NULL);
  g_autofree char *csr = nc_key_make_csr(key, node, NULL);
  return nc_ca_issue(ca, csr, node, 1, 0, NULL);
}

static NcRoster *
roster_of(NcCa *ca, const char *const *names, size_t n)
{
  g_autoptr(GError) error = NULL;
  NcRoster *roster = nc_roster_new("lab", ca, &error);

  for (size_t i = 0; i < n; i++) {
    g_autoptr(NcCert) cert = issue(ca, names[i]);
    NcRoster *next = nc_roster_with_node(roster, cert, "10.0.0.1:7450", false, ca, &error);
    g_assert_no_error(error);
    nc_roster_free(roster);
    roster = next;
  }
  return roster;
}

static void
adds_finds_and_sorts(void)
{
  static const char *const name[] = { "m", "z", "a", "b.example.org" };
  g_autoptr(NcCa) ca = nc_ca_new("lab", NULL);
  g_autoptr(NcRoster) roster = roster_of(ca, name, 4);
  g_autoptr(NcRoster) copy = nc_roster_parse(nc_roster_document(roster), nc_roster_signature(roster), nc_ca_cert(ca), NULL);

  g_assert_cmpuint(nc_roster_version(copy), ==, 4);
  g_assert_cmpuint(nc_roster_count(copy), ==, 4);
  for (size_t i = 0; i < 4; i++)
    g_assert_cmpstr(nc_roster_find(copy, name[i])->name, ==, name[i]);
  g_assert_null(nc_roster_find(copy, "c"));
  g_assert_null(nc_roster_find(copy, ""));
  for (size_t i = 1; i < 4; i++)
    g_assert_cmpstr(nc_roster_at(copy, i - 1)->name, <, nc_roster_at(copy, i)->name);
  g_assert_cmpint(nc_roster_at(copy, 0)->expires_us, ==, nc_roster_at(roster, 0)->expires_us);
}

static void
every_flipped_byte_is_found(void)
{
  static const char *const name[] = { "node-a", "node-b" };
  g_autoptr(NcCa) ca = nc_ca_new("lab", NULL), other = nc_ca_new("lab", NULL);
  g_autoptr(NcRoster) roster = roster_of(ca, name, 2);
  const char *signature = nc_roster_signature(roster);
  g_autofree char *document = g_strdup(nc_roster_document(roster)), *bent = g_strdup(signature);

  for (size_t i = 0; document[i]; i++) {
    g_autoptr(GError) error = NULL;
    document[i] ^= 1;
    g_assert_null(nc_roster_parse(document, signature, nc_ca_cert(ca), &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
    document[i] ^= 1;
  }
  for (size_t i = 0; bent[i]; i++) {
    char was = bent[i];
    bent[i] = was == '0' ? '1' : '0';
    g_assert_null(nc_roster_parse(document, bent, nc_ca_cert(ca), NULL));
    bent[i] = was;
  }
  g_assert_null(nc_roster_parse(document, signature, nc_ca_cert(other), NULL));
  g_assert_null(nc_roster_parse(document, "", nc_ca_cert(ca), NULL));
  g_assert_null(nc_roster_parse(document, "zz", nc_ca_cert(ca), NULL));
  g_autofree char *longer = g_strconcat(document, " ", NULL), *doubled = g_strconcat(signature, signature, NULL);
  g_assert_null(nc_roster_parse(longer, signature, nc_ca_cert(ca), NULL));
  g_assert_null(nc_roster_parse(document, doubled, nc_ca_cert(ca), NULL));
}

#define NODE(name) "{\"name\":\"" name "\",\"address\":\"h:1\",\"serial\":\"4711\",\"fingerprint\":\"" \
  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\",\"state\":\"joined\",\"expires\":\"2030-01-01T00:00:00Z\"}"
#define CERT "\"serial\":\"4712\",\"fingerprint\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"," \
  "\"expires\":\"2031-01-01T00:00:00Z\""
/* A node whose certificate was renewed: ${more} before what every node has. */
#define RENEWED(more) "{" more ",\"name\":\"a\",\"address\":\"h:1\",\"state\":\"joined\"," CERT "}"
#define HEAD "{\"cluster\":\"lab\",\"version\":3,\"issued\":\"2029-01-01T00:00:00.000Z\",\"nodes\":"

/* Signed, and still nonsense: a CA's host may be broken, too. */
static const struct {
  const char *document;
  bool good;
} signed_document[] = {
  { HEAD "[" NODE("a") "," NODE("b") "]}", true },
  { HEAD "[]}", true },
  { HEAD "[" RENEWED("\"previous\":\"4711\"") "]}", true },
  { HEAD "[" RENEWED("\"next\":{" CERT "}") "]}", true },
  { HEAD "[" RENEWED("\"previous\":\"zz\"") "]}", false },
  { HEAD "[" RENEWED("\"previous\":7") "]}", false },
  { HEAD "[" RENEWED("\"next\":{}") "]}", false },
  { HEAD "[" RENEWED("\"next\":\"4711\"") "]}", false },
  { "{\"cluster\":\"lab\",\"version\":1,\"issued\":\"2029-01-01T00:00:00Z\",\"signer\":\"a\",\"nodes\":[]}", true },
  { "{\"cluster\":\"lab\",\"version\":1,\"issued\":\"2029-01-01T00:00:00Z\",\"signer\":\"../a\",\"nodes\":[]}", false },
  { HEAD "[" NODE("a") "," NODE("b") "," NODE("a") "]}", false },
  { HEAD "[" NODE("../a") "]}", false },
  { HEAD "[" NODE("") "]}", false },
  { HEAD "{}}", false },
  { HEAD "[7]}", false },
  { HEAD "[{}]}", false },
  { HEAD "[" NODE("a") "]", false },
  { "{\"cluster\":\"lab\",\"version\":-1,\"issued\":\"2029-01-01T00:00:00Z\",\"nodes\":[]}", false },
  { "{\"cluster\":\"lab\",\"version\":1.5,\"issued\":\"2029-01-01T00:00:00Z\",\"nodes\":[]}", false },
  { "{\"cluster\":\"lab\",\"version\":1,\"issued\":\"yesterday\",\"nodes\":[]}", false },
  { "{\"cluster\":\"\",\"version\":1,\"issued\":\"2029-01-01T00:00:00Z\",\"nodes\":[]}", false },
  { "[]", false },
  { "", false },
};

static void
signed_nonsense_is_refused(void)
{
  g_autoptr(NcCa) ca = nc_ca_new("lab", NULL);

  for (size_t i = 0; i < G_N_ELEMENTS(signed_document); i++) {
    g_autoptr(GError) error = NULL;
    const char *document = signed_document[i].document;
    g_autoptr(GBytes) signature = nc_ca_sign(ca, document, strlen(document), NULL);
    g_autofree char *hex = nc_hex_encode(g_bytes_get_data(signature, NULL), g_bytes_get_size(signature));
    g_autoptr(NcRoster) roster = nc_roster_parse(document, hex, nc_ca_cert(ca), &error);
    g_assert_cmpint(roster != NULL, ==, signed_document[i].good);
    if (!roster)
      g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
  }
}

static char *
many_nodes(int n)
{
  GString *text = g_string_new(HEAD "[");

  for (int i = 0; i < n; i++)
    g_string_append_printf(text, "%s{\"name\":\"n%d\",\"address\":\"h:1\",\"serial\":\"4711\",\"fingerprint\":\"%064d\","
                           "\"state\":\"removed\",\"expires\":\"2030-01-01T00:00:00Z\"}", i ? "," : "", i, i);
  return g_string_free(g_string_append(text, "]}"), FALSE);
}

static void
bounded_number_of_nodes(void)
{
  g_autoptr(NcCa) ca = nc_ca_new("lab", NULL);

  for (int n = NC_ROSTER_MAX_NODES - 1; n <= NC_ROSTER_MAX_NODES + 1; n++) {
    g_autoptr(GError) error = NULL;
    g_autofree char *document = many_nodes(n);
    g_autoptr(GBytes) signature = nc_ca_sign(ca, document, strlen(document), NULL);
    g_autofree char *hex = nc_hex_encode(g_bytes_get_data(signature, NULL), g_bytes_get_size(signature));
    g_autoptr(NcRoster) roster = nc_roster_parse(document, hex, nc_ca_cert(ca), &error);
    g_assert_cmpint(roster != NULL, ==, n <= NC_ROSTER_MAX_NODES);
    if (n != NC_ROSTER_MAX_NODES)
      continue;
    g_autoptr(NcCert) one_more = issue(ca, "one-more");
    g_assert_null(nc_roster_with_node(roster, one_more, "h:1", false, ca, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_RESOURCE);
  }
}

static void
removed_name_can_join_again(void)
{
  static const char *const name[] = { "node-a", "node-b" };
  g_autoptr(GError) error = NULL;
  g_autoptr(NcCa) ca = nc_ca_new("lab", NULL);
  g_autoptr(NcRoster) roster = roster_of(ca, name, 2);
  g_autoptr(NcCert) again = issue(ca, "node-b");

  g_assert_null(nc_roster_with_node(roster, again, "h:1", false, ca, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_EXISTS);
  g_clear_error(&error);
  g_assert_null(nc_roster_without_node(roster, "node-c", ca, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
  g_clear_error(&error);
  g_autoptr(NcRoster) without = nc_roster_without_node(roster, "node-b", ca, &error);
  g_assert_no_error(error);
  g_assert_cmpint(nc_roster_find(without, "node-b")->state, ==, NC_NODE_REMOVED);
  g_assert_null(nc_roster_without_node(without, "node-b", ca, &error));
  g_autoptr(NcRoster) with = nc_roster_with_node(without, again, "h:2", false, ca, NULL);
  g_assert_cmpint(nc_roster_find(with, "node-b")->state, ==, NC_NODE_JOINED);
  g_assert_cmpstr(nc_roster_find(with, "node-b")->serial, ==, nc_cert_serial(again));
  g_assert_cmpuint(nc_roster_version(with), ==, 4);
  g_assert_cmpuint(nc_roster_count(with), ==, 2);
}

static void
a_version_never_goes_down(void)
{
  g_autoptr(GError) error = NULL;
  char *dir_a = t_cluster();
  g_autoptr(NcTrust) a = t_load(dir_a);
  g_autoptr(NcRoster) old = nc_trust_roster(a);
  char *dir_b = t_member(a, "node-b");
  g_autoptr(NcTrust) b = t_load(dir_b);
  bool replaced = true;

  g_assert_true(nc_trust_replace_roster(b, nc_roster_document(old), nc_roster_signature(old), &replaced, &error));
  g_assert_false(replaced);
  g_assert_cmpuint(nc_trust_roster_version(b), ==, 2);
  g_assert_true(nc_trust_remove_node(a, "node-b", &error));
  t_share_roster(a, b);
  g_assert_cmpuint(nc_trust_roster_version(b), ==, 3);
  /* Also not by way of the disk. */
  g_autofree char *pki = nc_pki_dir(dir_b);
  g_assert_true(nc_roster_save(old, NULL, pki, NULL));
  g_assert_true(nc_trust_reload(b, &error));
  g_assert_cmpuint(nc_trust_roster_version(b), ==, 3);
  t_remove_dir(dir_a);
  t_remove_dir(dir_b);
}

static void
forked_and_foreign_rosters_are_refused(void)
{
  g_autoptr(GError) error = NULL;
  char *dir = t_cluster();
  g_autofree char *pki = nc_pki_dir(dir);
  g_autoptr(NcTrust) trust = t_load(dir);
  g_autoptr(NcCa) ca = nc_ca_load(pki, NULL);
  g_autoptr(NcRoster) current = nc_trust_roster(trust);
  g_autoptr(NcRoster) empty = nc_roster_new("lab", ca, NULL), foreign = nc_roster_new("other", ca, NULL);
  g_autoptr(NcCert) cert = issue(ca, "node-x");
  g_autoptr(NcRoster) fork = nc_roster_with_node(empty, cert, "h:1", false, ca, NULL);

  g_assert_cmpuint(nc_roster_version(fork), ==, nc_roster_version(current));
  g_assert_false(nc_trust_replace_roster(trust, nc_roster_document(fork), nc_roster_signature(fork), NULL, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  g_clear_error(&error);
  g_assert_false(nc_trust_replace_roster(trust, nc_roster_document(foreign), nc_roster_signature(foreign), NULL, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  t_remove_dir(dir);
}

static void
crash_between_the_two_files(void)
{
  g_autoptr(GError) error = NULL;
  char *dir = t_cluster();
  g_autofree char *pki = nc_pki_dir(dir), *document_path = g_build_filename(pki, "roster.json", NULL);
  g_autoptr(NcTrust) trust = t_load(dir);
  g_autoptr(NcRoster) before = nc_trust_roster(trust);
  char *dir_b = t_member(trust, "node-b"); /* writes both */
  const char *old = nc_roster_document(before);

  g_assert_true(nc_file_replace(document_path, old, strlen(old), 0644, NULL)); /* as if the second was not reached */
  g_autoptr(NcTrust) after = nc_trust_load(dir, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(nc_trust_roster_version(after), ==, 1);
  t_remove_dir(dir);
  t_remove_dir(dir_b);
}

static void
only_the_ca_removes_and_not_itself(void)
{
  g_autoptr(GError) error = NULL;
  char *dir_a = t_cluster();
  g_autoptr(NcTrust) a = t_load(dir_a);
  char *dir_b = t_member(a, "node-b");
  g_autoptr(NcTrust) b = t_load(dir_b);

  g_assert_false(nc_trust_has_ca_key(b));
  g_assert_false(nc_trust_remove_node(b, "node-a", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_FORBIDDEN);
  g_clear_error(&error);
  g_assert_false(nc_trust_remove_node(a, "node-a", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  t_remove_dir(dir_a);
  t_remove_dir(dir_b);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/roster/adds_finds_and_sorts", adds_finds_and_sorts);
  g_test_add_func("/roster/every_flipped_byte_is_found", every_flipped_byte_is_found);
  g_test_add_func("/roster/signed_nonsense_is_refused", signed_nonsense_is_refused);
  g_test_add_func("/roster/bounded_number_of_nodes", bounded_number_of_nodes);
  g_test_add_func("/roster/removed_name_can_join_again", removed_name_can_join_again);
  g_test_add_func("/roster/a_version_never_goes_down", a_version_never_goes_down);
  g_test_add_func("/roster/forked_and_foreign_rosters_are_refused", forked_and_foreign_rosters_are_refused);
  g_test_add_func("/roster/crash_between_the_two_files", crash_between_the_two_files);
  g_test_add_func("/roster/only_the_ca_removes_and_not_itself", only_the_ca_removes_and_not_itself);
  return g_test_run();
}
