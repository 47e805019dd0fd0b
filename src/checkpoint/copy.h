/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint from one page store to another: what its manifest names, of that only what the other store lacks.
 *
 * What goes over is content, not files: the two stores may be encrypted with different keys, or one of them not at all, and may
 * keep their packs and manifests as they like. The sender walks through the manifest and names its blocks by their SHA-256, some
 * thousand at a time; the receiver answers which of them it lacks, gets those, and puts them (verified) before it hears the next names:
 *
 *   sender                                            receiver
 *   cp_offer   {id, machine, entries, blocks, block_bytes}
 *                                                     cp_take {id}, or cp_have {id}: it is there already, which ends it
 *   cp_names   {count, bytes} + names                 cp_lack {count, bytes, lacking} + a bit per name, the first one the highest of its byte
 *   cp_blocks  {count, raw, bytes} + content          (nothing; as many of these as it takes, in the order of the names)
 *   ... from cp_names on again
 *   cp_end     {bytes} + the manifest's header        cp_done {id}: it is durable
 *
 * A name is a SHA-256 and u32 length; one of zeros is a hole. `bytes` follow the message as they are. Content is compressed with zstd
 * if `bytes` is less than `raw`. Whoever can't go on says refused {error} instead of what is due.
 *
 * The receiver believes nothing: counts and lengths are bounded by what was offered and by the limits below, every block must
 * have its hash, and the manifest appears at the end, when all that it names is durable; what has arrived before an interruption is
 * in the store until it is next collected, and is not sent again. Memory: less than 4 MiB on each side.
 */
#pragma once

#include "base/msg.h"
#include "store/page_store.h"

#define NC_COPY_NAMES_MAX 2048u         /* of one cp_names */
#define NC_COPY_NAME_BYTES 36u          /* each */
#define NC_COPY_CONTENT_MAX (1u << 20)  /* of one cp_blocks, before compression */
#define NC_COPY_SILENCE_MS 120000       /* of the other side; its disk may be slow */
#define NC_COPY_COMMIT_MS 600000        /* for the receiver to make it all durable */

/* How to talk: messages and bytes in order, as crypto/peer.h does. */
typedef struct {
  gpointer data; /* the first argument of all */
  bool (*send)(gpointer data, json_t *message, const void *bytes, size_t length, GError **error);
  json_t *(*recv)(gpointer data, int timeout_ms, GError **error); /* new reference */
  bool (*recv_bytes)(gpointer data, void *bytes, size_t length, GError **error);
} NcCopyLink;

typedef struct {
  uint64_t blocks;      /* named; a block counts as often as it is named */
  uint64_t block_bytes; /* their lengths */
  uint64_t sent_blocks; /* of them, what the receiver lacked */
  uint64_t sent_bytes;  /* their lengths */
  uint64_t wire_bytes;  /* of names, answers and content, as they were sent, before TLS */
  bool had_it;          /* the receiver had the whole checkpoint */
} NcCopyTotals;

typedef struct {
  NcPageStore *store;
  const NcCopyLink *link;
  const gint *cancelled; /* atomic: not 0, stop with NC_ERROR_CANCELLED */
  uint64_t *progress;    /* atomic: bytes of blocks that the receiver has now */
  const char *base;      /* the receiver's: a checkpoint that it is much like (nc_manifest_set_base()); NULL: none */
} NcCopy;

/*
 * Sends checkpoint ${id}. NC_ERROR_CORRUPT if a block is damaged here; what the receiver refuses comes with its code and text.
 * The link is usable for more after true.
 */
bool nc_copy_send(const NcCopy *copy, const char *id, NcCopyTotals *ret, GError **error);

/* What was offered, checked. */
typedef struct {
  const char *id, *machine; /* the message's */
  uint64_t entries, blocks, block_bytes;
} NcCopyOffer;

bool nc_copy_offer_parse(json_t *message, NcCopyOffer *ret, GError **error);

/*
 * Receives what was offered and commits it under the same id. ${note}: an object for the member "copied" of its description; borrowed.
 * *ret_meta: the description, a new reference; NULL on error.
 * The caller has looked whether there is such a checkpoint. On error nothing is left but blocks that nothing names. The sender waits
 * for nc_copy_confirm() after true, and after false for nc_copy_reject(): what it does then must find what has become of it here.
 */
bool nc_copy_receive(const NcCopy *copy, const NcCopyOffer *offer, json_t *note, NcCopyTotals *ret, json_t **ret_meta, GError **error);

/* Tells the sender that checkpoint ${id} is here: when whoever asks this node for it next finds it. */
void nc_copy_confirm(const NcCopyLink *link, const char *id);

/*
 * Tells the sender why it did not become a checkpoint here: when another try would be taken. Reads what is still under way, so that it
 * comes to hear it; blocks until the sender has closed or is silent, seconds if it behaves.
 */
void nc_copy_reject(const NcCopyLink *link, const GError *error);

/* Tells the other side why not. */
void nc_copy_refuse(const NcCopyLink *link, const GError *error);
/* The next message, which must be of ${type} (or ${other}, if not NULL); a refusal becomes its error. New reference. */
json_t *nc_copy_expect(const NcCopyLink *link, const char *type, const char *other, int timeout_ms, GError **error);
