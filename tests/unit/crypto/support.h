/* SPDX-License-Identifier: Apache-2.0 */
/* Clusters in temporary directories, loopback connections, and certificates that nobody should ever issue. */
#pragma once

#include "base/tcp.h"
#include "crypto/join.h"
#include "crypto/peer.h"
#include "crypto/pki.h"
#include "crypto/roster.h"
#include "crypto/trust.h"

#define T_LIMIT_MS 5000

/*
 * g_test_init(), and one GError: GLib sets up its error domains at the first,
 * which ThreadSanitizer, blind to GLib's locks, would call a race among threads.
 */
void t_init(int *argc, char ***argv);

/* A new directory, removed with everything in it by t_remove_dir(), which also frees the name. */
char *t_dir(void);
void t_remove_dir(char *dir);

/* A cluster "lab" made on node "node-a"; asserts. */
char *t_cluster(void);
/* A data directory for ${name}, admitted by ${ca_trust} without a network. */
char *t_member(NcTrust *ca_trust, const char *name);
NcTrust *t_load(const char *data_dir);
/* A cluster of two, on the disk and loaded. */
typedef struct {
  char *dir_a, *dir_b;
  NcTrust *a, *b; /* node-a, which has the CA's key, and node-b */
} TPair;
void t_pair_open(TPair *pair);
void t_pair_close(TPair *pair);
/* Lets ${trust} have the roster of ${from}. */
void t_share_roster(NcTrust *from, NcTrust *trust);

/* A connected TCP pair over loopback. */
void t_tcp_pair(int ret_fd[2]);

typedef struct {
  const char *node;         /* the URI; NULL: no subject alternative name */
  const char *usage;        /* extendedKeyUsage */
  int64_t from_s, until_s;  /* relative to now */
  bool self_signed;
  bool unlisted;            /* its serial is not put into the roster */
} TBadCert;

/*
 * Makes what ${bad} says, issued by the CA in ${ca_dir}, and puts it into that
 * CA's roster on disk (all but unlisted).
 */
void t_forge(const char *ca_dir, const TBadCert *bad, NcCert **ret_cert, NcKey **ret_key);

#define t_assert_contains(text, part)                                                                                      \
  do {                                                                                                                     \
    if (!(text) || !strstr(text, part))                                                                                    \
      g_error("%s:%d: \"%s\" is not in \"%s\"", __FILE__, __LINE__, part, (text) ? (text) : "(null)");                     \
  } while (0)
