/* SPDX-License-Identifier: Apache-2.0 */
/* Who is up, who carries, and the news of it. */
#include "mover/links.h"
#include "base/log.h"
#include "mover/link.h"
#include "mover/outbox.h"
#include "mover/source.h"
#include "mover/urgent.h"

int
nc_mover_carrier(NcMover *m)
{
  return atomic_load(&m->carrier);
}

/* What was not confirmed begins anew with each carrier; before it can take a frame. */
static void
nc_mover_set_carrier_locked(NcMover *m, int index)
{
  nc_urgent_rewind(m->urgent);
  atomic_store(&m->carrier, index);
}

static unsigned
nc_mover_up_locked(const NcMover *m)
{
  return (unsigned)__builtin_popcount(m->links_up);
}

/* Ways that the links which are up take. */
static unsigned
nc_mover_count_paths_locked(const NcMover *m)
{
  unsigned count = 0;

  for (unsigned i = 0; i < m->setup.streams; i++) {
    bool seen = false;
    for (unsigned j = 0; j < i && m->links_up & (1u << i); j++)
      seen = seen || ((m->links_up & (1u << j)) && nc_link_path(m->links[j]) == nc_link_path(m->links[i]));
    count += (m->links_up & (1u << i)) && !seen;
  }
  return count;
}

static void
nc_mover_open(NcMover *m, const char *cipher)
{
  nc_mover_emit(m, json_pack("{s:s, s:s, s:i}", "ev", "ready", "cipher", cipher, "streams", (int)m->setup.streams));
  pthread_mutex_lock(&m->state_lock);
  atomic_store(&m->open, true);
  pthread_cond_broadcast(&m->opened);
  pthread_mutex_unlock(&m->state_lock);
}

void
nc_mover_link_ready(NcMover *m, unsigned index, const char *cipher)
{
  uint32_t bit = 1u << index;

  pthread_mutex_lock(&m->state_lock);
  bool again = m->links_known & bit;
  m->links_up |= bit;
  m->links_known |= bit;
  bool all = !again && (unsigned)__builtin_popcount(m->links_known) == m->setup.streams;
  if (nc_mover_carrier(m) < 0)
    nc_mover_set_carrier_locked(m, (int)index);
  unsigned up = nc_mover_up_locked(m), paths = nc_mover_count_paths_locked(m);
  pthread_mutex_unlock(&m->state_lock);
  if (m->source)
    nc_outbox_paths(nc_source_outbox(m->source), paths);
  if (again) {
    nc_count(&m->counters.reconnects, 1);
    nc_mover_emit(m, json_pack("{s:s, s:i, s:i}", "ev", "back", "index", (int)index, "up", (int)up));
  }
  if (all)
    nc_mover_open(m, cipher);
  nc_mover_wake_links(m);
}

/* Returns how many are left, and how many ways they take. */
static unsigned
nc_mover_take_down(NcMover *m, unsigned index, unsigned *ret_paths)
{
  pthread_mutex_lock(&m->state_lock);
  m->links_up &= ~(1u << index);
  if (nc_mover_carrier(m) == (int)index)
    nc_mover_set_carrier_locked(m, m->links_up ? __builtin_ctz(m->links_up) : -1);
  unsigned up = nc_mover_up_locked(m);
  *ret_paths = nc_mover_count_paths_locked(m);
  pthread_mutex_unlock(&m->state_lock);
  return up;
}

void
nc_mover_lost_link(NcMover *m, unsigned index, GError *error)
{
  unsigned paths, up = nc_mover_take_down(m, index, &paths);

  if (m->source) {
    nc_outbox_lost(nc_source_outbox(m->source), index, up == 0);
    nc_outbox_paths(nc_source_outbox(m->source), paths);
  }
  nc_mover_wake_links(m);
  if (!error)
    return;
  if (atomic_load(&m->peer_left) || nc_mover_is_stopped(m)) {
    nc_log(NC_LOG_INFO, "mover", "connection %u ended: %s", index, error->message);
  } else {
    nc_log(NC_LOG_WARNING, "mover", "connection %u to the %s's mover was lost (%u left): %s", index,
           nc_mover_other_side(m), up, error->message);
    nc_mover_emit(m, json_pack("{s:s, s:i, s:i, s:s, s:s}", "ev", "lost", "index", (int)index, "up", (int)up, "code",
                               nc_error_code_name(error->code), "message", error->message));
  }
  g_error_free(error);
}

void
nc_mover_link_refused(NcMover *m, unsigned index, GError *error)
{
  pthread_mutex_lock(&m->state_lock);
  bool is_up = m->links_up & (1u << index);
  pthread_mutex_unlock(&m->state_lock);
  nc_log(NC_LOG_WARNING, "mover", "%s%s", error->message, is_up ? " (the present one stays)" : "");
  if (!is_up)
    nc_mover_emit(m, json_pack("{s:s, s:i, s:s, s:s}", "ev", "refused", "index", (int)index, "code",
                               nc_error_code_name(error->code), "message", error->message));
  g_error_free(error);
}

bool
nc_mover_link_was_ready(NcMover *m, unsigned index)
{
  pthread_mutex_lock(&m->state_lock);
  bool known = m->links_known & (1u << index);
  pthread_mutex_unlock(&m->state_lock);
  return known;
}

void
nc_mover_send_urgent(NcMover *m, GByteArray *frame)
{
  if (nc_urgent_push(m->urgent, frame))
    nc_mover_wake_carrier(m);
  else /* the senders' own windows are smaller: this is a bug, and not a reason to grow */
    nc_mover_fail(m, g_error_new(NC_ERROR, NC_ERROR_INTERNAL, "too many urgent bytes wait for the other side"));
}

void
nc_mover_send_ack(NcMover *m, uint8_t channel, uint64_t seq, uint64_t offset)
{
  nc_urgent_ack(m->urgent, channel, seq, offset);
  nc_mover_wake_carrier(m);
}

bool
nc_mover_confirmed(NcMover *m, uint64_t count, GError **error)
{
  if (!nc_urgent_confirmed(m->urgent, count, error))
    return false;
  if (m->source)
    nc_outbox_confirmed(nc_source_outbox(m->source));
  return true;
}

void
nc_mover_wait_open(NcMover *m)
{
  pthread_mutex_lock(&m->state_lock);
  while (!atomic_load(&m->open))
    pthread_cond_wait(&m->opened, &m->state_lock);
  pthread_mutex_unlock(&m->state_lock);
}

void
nc_mover_wake_links(NcMover *m)
{
  /* Before all links are there nothing is to be sent; after that the table does not change. */
  if (!atomic_load(&m->open))
    return;
  for (unsigned i = 0; i < m->setup.streams; i++)
    nc_link_wake(m->links[i]);
}

void
nc_mover_wake_carrier(NcMover *m)
{
  int carrier = nc_mover_carrier(m);
  if (atomic_load(&m->open) && carrier >= 0)
    nc_link_wake(m->links[carrier]);
}
