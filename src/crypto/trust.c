/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This node's trust, as it is now.
 *
 * What is read together is replaced together: one NcTrustSet, immutable, under
 * one lock. Changes are made by one thread at a time (the second lock), and
 * become durable before they become true.
 */
#include "crypto/trust.h"
#include "base/bytes.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/lock.h"
#include "crypto/pki_internal.h"
#include "crypto/pki_pair.h"
#include "crypto/trust_internal.h"

#include <string.h>
#include <unistd.h>

/* Without the roster, which changes more often. */
typedef struct {
  NcCert *ca_cert;
  NcCa *ca; /* NULL: the key is elsewhere */
  NcCert *cert;
  SSL_CTX *context[2]; /* client, server */
} NcTrustSet;

struct NcTrust {
  gint references;
  char *pki_dir;
  char *node;
  char *cluster;
  pthread_mutex_t changing; /* held while something is changed, on disk too; taken before ${lock} */
  pthread_mutex_t lock;     /* protects what follows */
  NcTrustSet *set;
  NcRoster *roster;
  bool anonymous;
  bool newer;
};

static void
nc_trust_set_free(NcTrustSet *set)
{
  if (!set)
    return;
  nc_cert_free(set->ca_cert);
  nc_ca_free(set->ca);
  nc_cert_free(set->cert);
  SSL_CTX_free(set->context[0]);
  SSL_CTX_free(set->context[1]);
  g_free(set);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcTrustSet, nc_trust_set_free)

/* --- loading --- */

static SSL_CTX *
nc_trust_make_context(const NcTrustSet *set, const NcKey *key, GError **error)
{
  g_autoptr(SSL_CTX) context = nc_tls_context_new(error);

  if (!context)
    return NULL;
  /* The CA goes along: a node that wants to join looks for it by its fingerprint. */
  if (SSL_CTX_use_certificate(context, set->cert->x509) != 1 || SSL_CTX_use_PrivateKey(context, key->pkey) != 1 ||
      SSL_CTX_add1_chain_cert(context, set->ca_cert->x509) != 1 ||
      X509_STORE_add_cert(SSL_CTX_get_cert_store(context), set->ca_cert->x509) != 1) {
    nc_ossl_fail(error, NC_ERROR_TRUST, "this node's certificate can't be used");
    return NULL;
  }
  SSL_CTX_set_verify_depth(context, 0); /* between the CA and a node there is nobody */
  SSL_CTX_set_cert_verify_callback(context, nc_trust_verify, NULL);
  return g_steal_pointer(&context);
}

SSL_CTX *
nc_trust_joining_context(GError **error)
{
  SSL_CTX *context = nc_tls_context_new(error);

  if (context)
    SSL_CTX_set_cert_verify_callback(context, nc_trust_verify_joining, NULL);
  return context;
}

static bool
nc_trust_set_check(const NcTrustSet *set, GError **error)
{
  if (!set->cert->node)
    return nc_fail(error, NC_ERROR_TRUST, "the certificate names no node");
  return nc_cert_check_issuer(set->cert, set->ca_cert, error);
}

static bool
nc_trust_set_read(NcTrustSet *set, const char *pki_dir, GError **error)
{
  g_autofree char *ca_path = g_build_filename(pki_dir, "ca.crt", NULL);
  g_autofree char *ca_key_path = g_build_filename(pki_dir, "ca.key", NULL);
  g_autoptr(NcKey) key = NULL;

  set->ca_cert = nc_cert_load(ca_path, error);
  if (!set->ca_cert || !nc_pki_pair_load(pki_dir, &set->cert, &key, error) || !nc_trust_set_check(set, error))
    return false;
  if (access(ca_key_path, F_OK) == 0 && !(set->ca = nc_ca_load(pki_dir, error)))
    return false;
  if (set->ca)
    nc_ca_set_holder(set->ca, set->cert->node);
  for (int i = 0; i < 2; i++)
    if (!(set->context[i] = nc_trust_make_context(set, key, error)))
      return false;
  return true;
}

static NcTrustSet *
nc_trust_set_load(const char *pki_dir, GError **error)
{
  g_autoptr(NcTrustSet) set = g_new0(NcTrustSet, 1);

  if (!nc_trust_set_read(set, pki_dir, error)) {
    g_prefix_error(error, "%s: ", pki_dir);
    return NULL;
  }
  return g_steal_pointer(&set);
}

NcTrust *
nc_trust_load(const char *data_dir, GError **error)
{
  g_autofree char *pki_dir = nc_pki_dir(data_dir);

  if (access(pki_dir, F_OK) < 0) {
    nc_fail(error, NC_ERROR_NOT_FOUND, "this node belongs to no cluster (no %s): make one with `novacron pki init`, "
            "or join one with `novacrond join`", pki_dir);
    return NULL;
  }
  g_autoptr(NcTrustSet) set = nc_trust_set_load(pki_dir, error);
  g_autoptr(NcRoster) roster = set ? nc_roster_load(pki_dir, set->ca_cert, error) : NULL;
  if (!roster)
    return NULL;
  NcTrust *trust = g_new0(NcTrust, 1);
  trust->references = 1;
  pthread_mutex_init(&trust->changing, NULL);
  pthread_mutex_init(&trust->lock, NULL);
  trust->pki_dir = g_steal_pointer(&pki_dir);
  trust->node = g_strdup(set->cert->node);
  trust->cluster = g_strdup(nc_roster_cluster(roster));
  trust->anonymous = set->ca != NULL;
  trust->set = g_steal_pointer(&set);
  trust->roster = g_steal_pointer(&roster);
  return trust;
}

NcTrust *
nc_trust_ref(NcTrust *trust)
{
  g_atomic_int_inc(&trust->references);
  return trust;
}

void
nc_trust_free(NcTrust *trust)
{
  if (!trust || !g_atomic_int_dec_and_test(&trust->references))
    return;
  nc_trust_set_free(trust->set);
  nc_roster_free(trust->roster);
  pthread_mutex_destroy(&trust->changing);
  pthread_mutex_destroy(&trust->lock);
  g_free(trust->pki_dir);
  g_free(trust->node);
  g_free(trust->cluster);
  g_free(trust);
}

/* --- asking --- */

const char *
nc_trust_node(NcTrust *trust)
{
  return trust->node;
}

const char *
nc_trust_cluster(NcTrust *trust)
{
  return trust->cluster;
}

bool
nc_trust_has_ca_key(NcTrust *trust)
{
  nc_hold(&trust->lock);
  return trust->set->ca != NULL;
}

void
nc_trust_ca_fingerprint(NcTrust *trust, uint8_t ret_fingerprint[32])
{
  nc_hold(&trust->lock);
  nc_hex_decode(trust->set->ca_cert->fingerprint, ret_fingerprint, NC_SHA256_BYTES);
}

const char *
nc_trust_pki_dir(NcTrust *trust)
{
  return trust->pki_dir;
}

char *
nc_trust_cert_pem(NcTrust *trust)
{
  nc_hold(&trust->lock);
  return g_strdup(trust->set->cert->pem);
}

char *
nc_trust_ca_pem(NcTrust *trust)
{
  nc_hold(&trust->lock);
  return g_strdup(trust->set->ca_cert->pem);
}

int64_t
nc_trust_expires_us(NcTrust *trust)
{
  nc_hold(&trust->lock);
  return trust->set->cert->not_after_us;
}

NcRoster *
nc_trust_roster(NcTrust *trust)
{
  nc_hold(&trust->lock);
  return nc_roster_ref(trust->roster);
}

uint64_t
nc_trust_roster_version(NcTrust *trust)
{
  nc_hold(&trust->lock);
  return nc_roster_version(trust->roster);
}

/* ${was_let_in}: with this certificate, before the roster became what it is. */
static bool
nc_trust_judge(const NcRoster *roster, const char *name, const char *serial, bool was_let_in, GError **error)
{
  const NcRosterNode *node = nc_roster_find(roster, name);

  if (!node)
    return nc_fail(error, NC_ERROR_TRUST, "node %s is not in the cluster's roster (version %" G_GUINT64_FORMAT ")", name,
                   nc_roster_version(roster));
  if (node->state != NC_NODE_JOINED)
    return nc_fail(error, NC_ERROR_TRUST, "node %s was removed from the cluster: its certificate is revoked", name);
  if (strcmp(node->serial, serial) == 0 || g_strcmp0(node->next.serial, serial) == 0 ||
      (was_let_in && g_strcmp0(node->previous, serial) == 0))
    return true;
  return nc_fail(error, NC_ERROR_TRUST, "node %s has another certificate now (it has renewed it, or joined again): %s is revoked", name,
                 serial);
}

bool
nc_trust_check_node(NcTrust *trust, const char *name, const char *serial, GError **error)
{
  g_autoptr(NcRoster) roster = nc_trust_roster(trust);
  return nc_trust_judge(roster, name, serial, true, error);
}

bool
nc_trust_check_newcomer(NcTrust *trust, const char *name, const char *serial, uint64_t since, GError **error)
{
  g_autoptr(NcRoster) roster = NULL;
  bool newer;

  pthread_mutex_lock(&trust->lock);
  roster = nc_roster_ref(trust->roster);
  newer = trust->newer;
  pthread_mutex_unlock(&trust->lock);
  if (since <= nc_roster_version(roster))
    return nc_trust_judge(roster, name, serial, false, error);
  /* Of a name that we do not know, or know as removed, somebody else has to tell us. */
  const NcRosterNode *node = nc_roster_find(roster, name);
  return (newer && node && node->state == NC_NODE_JOINED) ||
         nc_fail(error, NC_ERROR_TRUST, "the certificate of node %s is newer than the list of nodes here (version %" G_GUINT64_FORMAT
                 "): let novacrond run here until it has fetched it", name, nc_roster_version(roster));
}

SSL_CTX *
nc_trust_context(NcTrust *trust, bool server)
{
  nc_hold(&trust->lock);
  SSL_CTX *context = trust->set->context[server];

  SSL_CTX_up_ref(context);
  return context;
}

void
nc_trust_allow_newer(NcTrust *trust, bool allow)
{
  nc_hold(&trust->lock);
  trust->newer = allow;
}

void
nc_trust_allow_anonymous(NcTrust *trust, bool allow)
{
  nc_hold(&trust->lock);
  trust->anonymous = allow;
}

bool
nc_trust_allows_anonymous(NcTrust *trust)
{
  nc_hold(&trust->lock);
  return trust->anonymous;
}

/* --- changing --- */

/* Makes ${roster} (reference taken) the current one, in memory. */
static void
nc_trust_use_roster(NcTrust *trust, NcRoster *roster)
{
  pthread_mutex_lock(&trust->lock);
  NcRoster *previous = trust->roster;
  trust->roster = roster;
  pthread_mutex_unlock(&trust->lock);
  nc_roster_free(previous);
}

/* ... after the disk. With ${changing} held. */
static bool
nc_trust_take_roster_locked(NcTrust *trust, NcRoster *roster, GError **error)
{
  if (!nc_roster_save(roster, trust->roster, trust->pki_dir, error))
    return false;
  nc_trust_use_roster(trust, nc_roster_ref(roster));
  return true;
}

/* May ${roster} follow what we have? *ret_newer false: there is nothing to do. */
static bool
nc_trust_compare_locked(NcTrust *trust, const NcRoster *roster, bool *ret_newer, GError **error)
{
  uint64_t ours = nc_roster_version(trust->roster), theirs = nc_roster_version(roster);

  if (strcmp(nc_roster_cluster(roster), trust->cluster) != 0)
    return nc_fail(error, NC_ERROR_TRUST, "the roster is that of cluster %s, not %s", nc_roster_cluster(roster), trust->cluster);
  if (ours == theirs && strcmp(nc_roster_document(roster), nc_roster_document(trust->roster)) != 0)
    return nc_fail(error, NC_ERROR_TRUST, "there are two different rosters of version %" G_GUINT64_FORMAT ", both signed: "
                   "was the CA's directory restored from a backup?", ours);
  *ret_newer = theirs > ours;
  return true;
}

bool
nc_trust_replace_roster(NcTrust *trust, const char *document, const char *signature_hex, bool *ret_replaced, GError **error)
{
  nc_hold(&trust->changing);
  g_autoptr(NcRoster) roster = nc_roster_parse(document, signature_hex, trust->set->ca_cert, error);
  bool newer = false;

  if (!roster || !nc_trust_compare_locked(trust, roster, &newer, error))
    return false;
  if (newer && !nc_trust_take_roster_locked(trust, roster, error))
    return false;
  if (ret_replaced)
    *ret_replaced = newer;
  return true;
}

static bool
nc_trust_need_ca(NcTrust *trust, GError **error)
{
  return trust->set->ca || nc_fail(error, NC_ERROR_FORBIDDEN, "node %s does not hold the cluster's CA key: ask the node where the "
                                   "cluster was made", trust->node);
}

bool
nc_trust_remove_node(NcTrust *trust, const char *name, GError **error)
{
  nc_hold(&trust->changing);

  if (!nc_trust_need_ca(trust, error))
    return false;
  if (strcmp(name, trust->node) == 0)
    return nc_fail(error, NC_ERROR_CONFLICT, "node %s holds the CA's key and can't remove itself", name);
  g_autoptr(NcRoster) roster = nc_roster_without_node(trust->roster, name, trust->set->ca, error);
  return roster && nc_trust_take_roster_locked(trust, roster, error);
}

bool
nc_trust_admit(NcTrust *trust, const char *name, const char *address, const char *csr_pem, int validity_days,
               NcCert **ret_cert, NcRoster **ret_roster, GError **error)
{
  nc_hold(&trust->changing);

  if (!nc_trust_need_ca(trust, error))
    return false;
  g_autoptr(NcCert) cert = nc_ca_issue(trust->set->ca, csr_pem, name, nc_roster_version(trust->roster) + 1, validity_days, error);
  g_autoptr(NcRoster) roster = cert ? nc_roster_with_node(trust->roster, cert, address, false, trust->set->ca, error) : NULL;
  if (!roster || !nc_trust_take_roster_locked(trust, roster, error))
    return false;
  *ret_cert = g_steal_pointer(&cert);
  *ret_roster = g_steal_pointer(&roster);
  return true;
}

/* A connection outlives the certificate that it was made with; what is issued over it must not. */
static bool
nc_trust_check_asker_locked(NcTrust *trust, const NcRosterNode *node, const char *serial, GError **error)
{
  const char *name = node->name;

  if (!serial && strcmp(name, trust->node) == 0)
    return true;
  if (g_strcmp0(node->serial, serial) != 0)
    return nc_fail(error, NC_ERROR_CONFLICT, "node %s asks with certificate %s, which is not its present one (%s): connect again, with that, "
                   "and ask again", name, serial ? serial : "none", node->serial);
  if (nc_wall_us() < node->expires_us)
    return true;
  return nc_fail(error, NC_ERROR_CONFLICT, "the certificate of node %s has ended since it connected: let it join again (novacron node remove "
                 "%s and novacron node token here, novacrond join there)", name, name);
}

/* A request that comes late, after another one of the same node, must not replace what that one has got: it may be all that it has on its disk. */
static bool
nc_trust_check_next_locked(NcTrust *trust, const NcNextRequest *asked, GError **error)
{
  const NcRosterNode *node = nc_roster_find(trust->roster, asked->name);

  if (!node || node->state != NC_NODE_JOINED) /* the roster refuses it */
    return true;
  if (!nc_trust_check_asker_locked(trust, node, asked->serial, error))
    return false;
  return strcmp(node->next.serial ? node->next.serial : "", asked->next) == 0 ||
         nc_fail(error, NC_ERROR_CONFLICT, "node %s asks for a certificate by an older list of nodes: another one was given to it since; ask again",
                 asked->name);
}

bool
nc_trust_issue_next(NcTrust *trust, const NcNextRequest *asked, NcCert **ret_cert, NcRoster **ret_roster, GError **error)
{
  nc_hold(&trust->changing);

  if (!nc_trust_need_ca(trust, error) || !nc_trust_check_next_locked(trust, asked, error))
    return false;
  g_autoptr(NcCert) cert = nc_ca_issue(trust->set->ca, asked->csr_pem, asked->name, nc_roster_version(trust->roster) + 1,
                                       asked->validity_days, error);
  g_autoptr(NcRoster) roster = cert ? nc_roster_with_next(trust->roster, cert, trust->set->ca, error) : NULL;
  if (!roster || !nc_trust_take_roster_locked(trust, roster, error))
    return false;
  *ret_cert = g_steal_pointer(&cert);
  *ret_roster = g_steal_pointer(&roster);
  return true;
}

bool
nc_trust_use_next(NcTrust *trust, const char *name, const char *serial, bool *ret_used, GError **error)
{
  nc_hold(&trust->changing);
  const NcRosterNode *node = nc_roster_find(trust->roster, name);

  *ret_used = false;
  if (!trust->set->ca || !node || node->state != NC_NODE_JOINED || g_strcmp0(node->next.serial, serial) != 0)
    return true;
  g_autoptr(NcRoster) roster = nc_roster_with_next_used(trust->roster, name, trust->set->ca, error);
  *ret_used = roster && nc_trust_take_roster_locked(trust, roster, error);
  return *ret_used;
}

static bool
nc_trust_reload_locked(NcTrust *trust, GError **error)
{
  g_autoptr(NcTrustSet) set = nc_trust_set_load(trust->pki_dir, error);
  g_autoptr(NcRoster) roster = set ? nc_roster_load(trust->pki_dir, set->ca_cert, error) : NULL;
  bool newer = false;

  if (!roster || !nc_trust_compare_locked(trust, roster, &newer, error))
    return false;
  if (strcmp(set->cert->node, trust->node) != 0)
    return nc_fail(error, NC_ERROR_TRUST, "the certificate now names node %s, not %s: restart to become another node",
                   set->cert->node, trust->node);
  if (strcmp(set->ca_cert->fingerprint, trust->set->ca_cert->fingerprint) != 0)
    return nc_fail(error, NC_ERROR_TRUST, "there is another CA now: restart to join another cluster");
  pthread_mutex_lock(&trust->lock);
  NcTrustSet *previous = trust->set;
  trust->set = g_steal_pointer(&set);
  pthread_mutex_unlock(&trust->lock);
  nc_trust_set_free(previous);
  if (newer)
    nc_trust_use_roster(trust, g_steal_pointer(&roster));
  return true;
}

bool
nc_trust_reload(NcTrust *trust, GError **error)
{
  nc_hold(&trust->changing);
  return nc_trust_reload_locked(trust, error);
}

bool
nc_trust_replace_certificate(NcTrust *trust, NcCert *cert, GError **error)
{
  nc_hold(&trust->changing);
  return nc_pki_pair_replace(trust->pki_dir, cert, error) && nc_trust_reload_locked(trust, error);
}
