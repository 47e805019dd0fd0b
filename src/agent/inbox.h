/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a migration's thread waits for: one queue into which the readers of
 * QMP, mover and peer, and the API, put their messages. Bounded: a flood of
 * progress events replaces older progress instead of growing.
 */
#pragma once

#include "base/msg.h"

typedef enum {
  NC_FROM_QMP,     /* json: a QMP event; NULL: the connection ended */
  NC_FROM_MOVER,   /* json: the mover's message; NULL: the mover is gone */
  NC_FROM_PEER,    /* json: the other agent's message; NULL: the connection ended */
  NC_FROM_CANCEL,  /* somebody asked for the migration to end */
  NC_FROM_RESOLVE, /* the operator decided: run here */
  NC_FROM_LIMITS,  /* rate or class of service are others now: the record has them */
  NC_FROM_QUIT     /* novacrond stops: leave everything as it is */
} NcInboxSource;

typedef struct {
  NcInboxSource source;
  json_t *message; /* owned; NULL as above */
} NcInboxItem;

typedef struct NcInbox NcInbox;

#define NC_INBOX_MAX 4096 /* more than a migration of a day has undelivered events */

/* Reference counted: the readers hold one each. */
NcInbox *nc_inbox_new(void);
NcInbox *nc_inbox_ref(NcInbox *inbox);
void nc_inbox_unref(NcInbox *inbox);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcInbox, nc_inbox_unref)

/* Takes ${message} (may be NULL). Any thread. When full, the item is dropped with a log line unless it ends something. */
void nc_inbox_push(NcInbox *inbox, NcInboxSource source, json_t *message);
/* The next item within ${timeout_ms}, to be freed with nc_inbox_item_free(); NULL: time is up. */
NcInboxItem *nc_inbox_pop(NcInbox *inbox, int timeout_ms);
/* Takes out what ${source} has said so far, in order; the rest stays, in order. Free the queue's items and the queue. One thread: the reader. */
GQueue *nc_inbox_take_all(NcInbox *inbox, NcInboxSource source);
/* Throws that away: of a mover that has been ended. */
void nc_inbox_drop_all(NcInbox *inbox, NcInboxSource source);
void nc_inbox_item_free(NcInboxItem *item);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcInboxItem, nc_inbox_item_free)
