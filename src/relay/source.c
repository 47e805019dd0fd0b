/* SPDX-License-Identifier: Apache-2.0 */
/* `relay connect`: QEMU connects, the session is opened, and at the end the source judges how it went. */
#include "base/io.h"
#include "base/ident.h"
#include "base/tcp.h"
#include "relay/doorstep.h"
#include "relay/session.h"

#include <sys/socket.h>

#define NC_SOURCE_CONNECT_MS 10000
#define NC_SOURCE_ANSWER_MS 15000 /* the listener connects to its QEMU and starts its mover */
#define NC_SOURCE_BYE_MS 5000     /* for the listener to hear the verdict */

static bool
nc_relay_connect_movers(NcRelaySession *s, const char *address, GError **error)
{
  const char *const paths[] = { address, NULL };

  s->dialler = nc_dialler_new(s->mover, s->offer.id, paths, (unsigned)s->offer.streams, NC_SOURCE_CONNECT_MS);
  return nc_dialler_await(s->dialler, error);
}

/* What the listener says to the offer; a node that is none says something else. */
static bool
nc_relay_check_answer(NcPeer *peer, json_t *answer, GError **error)
{
  const char *type = nc_json_string_or(answer, "type", "");

  if (g_str_equal(type, "relay_ready"))
    return true;
  if (!g_str_equal(type, "refused"))
    return nc_fail(error, NC_ERROR_PROTOCOL, "%s (%s) does not answer like a relay", nc_peer_node(peer),
                   nc_peer_address(peer));
  nc_error_set_json(error, json_object_get(answer, "error"));
  g_prefix_error(error, "the destination %s (%s) refused: ", nc_peer_node(peer), nc_peer_address(peer));
  return false;
}

/* In slices, so that being stopped is heard meanwhile. */
static json_t *
nc_relay_await_answer(const NcRelaySetup *setup, NcPeer *peer, GError **error)
{
  int64_t deadline_us = nc_mono_us() + NC_SOURCE_ANSWER_MS * INT64_C(1000);

  for (;;) {
    g_autoptr(GError) problem = NULL;
    json_t *answer = nc_peer_recv(peer, NC_RELAY_SLICE_MS, &problem);
    if (answer)
      return answer;
    if (nc_relay_is_stopped(setup)) {
      nc_fail(error, NC_ERROR_CANCELLED, "the source's relay was stopped");
      return NULL;
    }
    if (!g_error_matches(problem, NC_ERROR, NC_ERROR_TIMEOUT) || nc_mono_us() > deadline_us) {
      g_propagate_error(error, g_steal_pointer(&problem));
      return NULL;
    }
  }
}

static bool
nc_relay_offer_to(const NcRelaySetup *setup, NcPeer *peer, const NcRelayOffer *offer, GError **error)
{
  nc_autojson json_t *question = nc_relay_offer_to_json(offer);
  nc_autojson json_t *answer = NULL;

  return nc_peer_send(peer, question, error) && (answer = nc_relay_await_answer(setup, peer, error)) != NULL &&
         nc_relay_check_answer(peer, answer, error);
}

static NcPeer *
nc_relay_open(const NcRelaySetup *setup, NcTrust *trust, const char *address, const NcRelayOffer *offer, GError **error)
{
  g_autoptr(GError) problem = NULL;
  g_autoptr(NcPeer) peer = nc_peer_connect(trust, address, setup->node, NC_SOURCE_CONNECT_MS, &problem);

  if (peer && nc_relay_offer_to(setup, peer, offer, &problem))
    return g_steal_pointer(&peer);
  g_propagate_error(error, g_steal_pointer(&problem));
  if (!peer)
    g_prefix_error(error,
                   "no session with the destination's relay (is `novacron relay listen` running at %s?): ", address);
  return NULL;
}

/* --- how it ends --- */

/* Judges, and tells the listener; it closes when it has heard that, since our closing first might take it away again.
 */
static bool
nc_relay_conclude(NcRelaySession *s, GError **error)
{
  s->bytes_equal = nc_relay_bytes_equal(&s->facts);
  if (!nc_relay_verdict(&s->facts, error))
    return false;
  s->over = !nc_relay_session_tell(s, json_pack("{s:s, s:i}", "type", "relay_done", "equal", s->bytes_equal));
  s->awaited = "the destination's relay did not take leave";
  s->deadline_us = nc_mono_us() + NC_SOURCE_BYE_MS * INT64_C(1000);
  return true;
}

/* Both halves are known: what QEMU wrote here, and what reached QEMU there. */
static bool
nc_relay_finish_if_ended(NcRelaySession *s, GError **error)
{
  bool delivered = s->peer_ended && (s->stream_ended || !s->facts.whole);
  return s->finishing || !delivered || nc_relay_session_finish(s, error);
}

static bool
nc_relay_source_on_mover(NcRelaySession *s, const char *name, json_t *event, GError **error)
{
  if (g_str_equal(name, "lost") || g_str_equal(name, "refused"))
    nc_dialler_redial(s->dialler, (unsigned)nc_json_int_or(event, "index", NC_DIALLER_MAX_STREAMS));
  if (g_str_equal(name, "end"))
    s->facts.tail = nc_json_bool_or(event, "tail", false);
  if (g_str_equal(name, "done")) {
    if (!event && !s->facts.shut)
      return nc_fail(error, NC_ERROR_INTERNAL, "the mover on the source ended before it had named its digest");
    s->facts.digests_equal = s->peer_sha256 && g_strcmp0(s->peer_sha256, s->sha256) == 0;
    return nc_relay_conclude(s, error);
  }
  return nc_relay_finish_if_ended(s, error);
}

static void
nc_relay_take_peer_end(NcRelaySession *s, json_t *message)
{
  s->peer_ended = true;
  s->facts.whole = nc_json_bool_or(message, "whole", false);
  g_free(s->peer_sha256);
  s->peer_sha256 = g_strdup(nc_json_string_or(message, "sha256", ""));
}

static bool
nc_relay_source_on_peer(NcRelaySession *s, const char *type, json_t *message, GError **error)
{
  if (g_str_equal(type, "gone")) {
    s->over = s->done; /* it has heard the verdict */
    return s->over || nc_fail(error, NC_ERROR_UNREACHABLE, "the destination's relay (%s) is gone", s->node);
  }
  if (g_str_equal(type, "relay_qemu_closed")) {
    s->facts.destination_left = true;
    shutdown(s->qemu, SHUT_RDWR); /* what QEMU would see of its peer without us */
  } else if (g_str_equal(type, "relay_ended")) {
    nc_relay_take_peer_end(s, message);
  } else {
    return nc_fail(error, NC_ERROR_PROTOCOL, "the destination's relay said \"%.32s\", which is no message of a relay",
                   type);
  }
  return nc_relay_finish_if_ended(s, error);
}

/* --- the whole of it --- */

/* QEMU has confirmed, and its acknowledgement has arrived: what is lost after that is only our own politeness. */
static bool
nc_relay_is_confirmed(NcRelaySession *s, GError **problem)
{
  if (!s->facts.shut || !nc_relay_verdict(&s->facts, NULL))
    return false;
  s->bytes_equal = nc_relay_bytes_equal(&s->facts);
  if (!s->stream_ended) {
    g_prefix_error(problem, "the destination's QEMU has loaded the machine, but whether the source's knows is not sure "
                            "(compare `info status` of both): ");
    return false;
  }
  nc_relay_notice(s->setup, "the relays did not end in order, after the migration had been confirmed: %s",
                  (*problem)->message);
  return true;
}

static bool
nc_relay_source_run(NcRelaySession *s, NcTrust *trust, const NcRelayConnect *options, int qemu, GError **error)
{
  nc_autofd int owned = qemu;
  GError *problem = NULL;
  NcPeer *peer = nc_relay_open(s->setup, trust, options->address, &s->offer, error);

  if (!peer)
    return false;
  nc_relay_session_attach_peer(s, peer);
  s->on_mover = nc_relay_source_on_mover;
  s->on_peer = nc_relay_source_on_peer;
  if (nc_relay_session_start_mover(s, nc_fd_steal(&owned), &problem) &&
      nc_relay_connect_movers(s, options->address, &problem) && nc_relay_session_run(s, &problem))
    return true;
  nc_relay_session_abandon(s, &problem);
  if (nc_relay_is_confirmed(s, &problem)) {
    g_error_free(problem);
    return true;
  }
  g_propagate_error(error, problem);
  return false;
}

static void
nc_relay_source_serve(NcRelaySession *s, NcTrust *trust, NcDoorstep *doorstep, const NcRelayConnect *options)
{
  g_autoptr(GError) problem = NULL;

  nc_relay_notice(s->setup, "waiting for QEMU: migrate unix:%s", doorstep->path);
  int qemu = nc_doorstep_accept(doorstep, s->setup, &problem);
  s->started_us = nc_mono_us();
  if (qemu >= 0)
    nc_relay_source_run(s, trust, options, qemu, &problem);
  nc_relay_session_report(s, problem);
}

bool
nc_relay_connect(const NcRelaySetup *setup, const NcRelayConnect *options, GError **error)
{
  NcRelayOffer offer;
  NcDoorstep doorstep;

  if (options->max_cpu < 1 || options->max_cpu > 100)
    return nc_fail(error, NC_ERROR_INVALID, "max cpu: from 1 to 100 percent, not %d", options->max_cpu);
  if (!nc_relay_offer_init(&offer, options->streams, options->compression, options->pause_budget_ms, error))
    return false;
  g_autoptr(NcRelaySession) s = nc_relay_session_new(setup, true, &offer);
  s->max_cpu = options->max_cpu;
  g_autoptr(NcTrust) trust = nc_trust_load(setup->data_dir, error);
  if (!trust || !nc_doorstep_init(&doorstep, setup->path, options->owner, error))
    return false;
  nc_relay_source_serve(s, trust, &doorstep, options);
  nc_doorstep_clear(&doorstep);
  return true;
}
