/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/way.h"
#include "base/ident.h"

#include <string.h>

#define NC_CLOCK_SAMPLES 5
#define NC_LOAD_BYTES (64u << 10)  /* of one message */
#define NC_LOAD_MOST (32u << 20)
#define NC_LOAD_US 1000000
#define NC_LOAD_PARTS 8
#define NC_LOAD_STARTS 5 /* of these, those from which is counted */
#define NC_LOAD_LEAST_US 30000 /* in less, a queue more or less is all of it */
#define NC_ANSWER_MS 20000

static json_t *
nc_way_hear(NcPeer *peer, const char *expected, GError **error)
{
  nc_autojson json_t *answer = nc_peer_recv(peer, NC_ANSWER_MS, error);
  const char *type = nc_json_string_or(answer, "type", "?");
  if (!answer)
    return NULL;
  if (g_str_equal(type, expected))
    return g_steal_pointer(&answer);
  if (g_str_equal(type, "refused"))
    nc_error_set_json(error, json_object_get(answer, "error"));
  else
    nc_fail(error, NC_ERROR_PROTOCOL, "it answered %s where %s was due: is its NovaCron older?", type, expected);
  return NULL;
}

json_t *
nc_way_ask(NcPeer *peer, json_t *question, const char *expected, GError **error)
{
  nc_autojson json_t *owned = question;
  return nc_peer_send(peer, owned, error) ? nc_way_hear(peer, expected, error) : NULL;
}

bool
nc_way_measure_clock(NcPeer *peer, int64_t *ret_rtt_us, int64_t *ret_offset_us, GError **error)
{
  int64_t best_us = INT64_MAX;

  for (int i = 0; i < NC_CLOCK_SAMPLES; i++) {
    int64_t t0 = nc_wall_us();
    nc_autojson json_t *answer = nc_way_ask(peer, json_pack("{s:s, s:I}", "type", "clock", "t0", (json_int_t)t0), "clock", error);
    int64_t t3 = nc_wall_us(), t1 = nc_json_int_or(answer, "t1", 0), t2 = nc_json_int_or(answer, "t2", 0);
    if (!answer)
      return false;
    if (t3 - t0 - (t2 - t1) < best_us) {
      best_us = t3 - t0 - (t2 - t1);
      *ret_offset_us = (t1 - t0 + t2 - t3) / 2;
    }
  }
  *ret_rtt_us = MAX(best_us, 0);
  return true;
}

/* Sends, with a question after each part, whose answers are not waited for: the connection stays full. */
static bool
nc_way_load(NcPeer *peer, GError **error)
{
  g_autofree char *data = g_malloc(NC_LOAD_BYTES + 1);
  int64_t start_us = nc_mono_us(), sent = 0;
  unsigned asked = 0;

  memset(data, 'x', NC_LOAD_BYTES); /* TLS does not compress */
  data[NC_LOAD_BYTES] = '\0';
  nc_autojson json_t *load = json_pack("{s:s, s:s}", "type", "mig_load", "data", data);
  nc_autojson json_t *question = json_pack("{s:s}", "type", "mig_measure");
  while (asked < NC_LOAD_PARTS) {
    if (!nc_peer_send(peer, load, error))
      return false;
    sent += NC_LOAD_BYTES;
    int64_t done = MAX((nc_mono_us() - start_us) * NC_LOAD_PARTS / NC_LOAD_US, sent * NC_LOAD_PARTS / NC_LOAD_MOST);
    if (done > asked && !nc_peer_send(peer, question, error))
      return false;
    asked += done > asked;
  }
  return true;
}

typedef struct {
  int64_t bytes, at_us; /* so many had arrived then, by the other side's clock; 0: it does not say */
} NcWayMark;

static bool
nc_way_hear_marks(NcPeer *peer, NcWayMark marks[NC_LOAD_PARTS], GError **error)
{
  for (unsigned i = 0; i < NC_LOAD_PARTS; i++) {
    nc_autojson json_t *answer = nc_way_hear(peer, "mig_measured", error);
    if (!answer)
      return false;
    marks[i] = (NcWayMark){ nc_json_int_or(answer, "bytes", 0), nc_json_int_or(answer, "at_us", 0) };
  }
  return true;
}

static int
nc_way_compare(gconstpointer a, gconstpointer b, gpointer data)
{
  double difference = *(const double *)a - *(const double *)b;
  return (difference > 0) - (difference < 0);
}

/*
 * From each of the first parts to the end; of these the middle one: earlier ones hold the start, in which TCP finds out what the way
 * carries, and one that waited for a lost segment begins late. 0: too short to tell.
 */
static double
nc_way_later_rate(const NcWayMark marks[NC_LOAD_PARTS])
{
  const NcWayMark *end = &marks[NC_LOAD_PARTS - 1];
  double rates[NC_LOAD_STARTS];

  for (unsigned i = 0; i < NC_LOAD_STARTS; i++) {
    int64_t took_us = end->at_us - marks[i].at_us;
    if (marks[i].at_us <= 0 || took_us < NC_LOAD_LEAST_US)
      return 0;
    rates[i] = (double)MAX(end->bytes - marks[i].bytes, 0) * 1e6 / (double)took_us;
  }
  g_qsort_with_data(rates, NC_LOAD_STARTS, sizeof rates[0], nc_way_compare, NULL);
  return rates[NC_LOAD_STARTS / 2];
}

bool
nc_way_measure_rate(NcPeer *peer, int64_t rtt_us, double *ret_bps, GError **error)
{
  int64_t start_us = nc_mono_us();
  NcWayMark marks[NC_LOAD_PARTS];

  if (!nc_way_load(peer, error) || !nc_way_hear_marks(peer, marks, error))
    return false;
  int64_t took_us = MAX(nc_mono_us() - start_us - rtt_us, 1);
  *ret_bps = MAX((double)marks[NC_LOAD_PARTS - 1].bytes * 1e6 / (double)took_us, nc_way_later_rate(marks));
  return true;
}
