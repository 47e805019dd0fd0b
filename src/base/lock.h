/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mutex held to the end of a scope.
 *
 * pthread's, not GLib's: ThreadSanitizer can't see into GLib's futex, and
 * would call every use of a GMutex a race.
 */
#pragma once

#include <glib.h>
#include <pthread.h>

static inline pthread_mutex_t *
nc_lock(pthread_mutex_t *mutex)
{
  pthread_mutex_lock(mutex);
  return mutex;
}

static inline void
nc_unlock_held(pthread_mutex_t **held)
{
  pthread_mutex_unlock(*held);
}

/* `nc_hold(&thing->lock);` until the end of the scope. One per scope. */
#define nc_hold(mutex) G_GNUC_UNUSED __attribute__((cleanup(nc_unlock_held))) pthread_mutex_t *nc_held = nc_lock(mutex)
