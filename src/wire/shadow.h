/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shadow: pages that both movers hold.
 *
 * An array of frames of one page each, equal on both sides at the same place in
 * the stream, because both put the same pages into the same frames in the same
 * order. The source chooses the frame of each page (wire/history.h) and names it
 * on the wire; the destination needs to know nothing about RAM blocks. A page
 * that is sent again can then be told as its difference from a frame, or as equal
 * to one. That the frames really are equal is proven by the SHA-256 of every
 * batch that was made with them.
 *
 * Memory is used as frames are written for the first time. One thread at a time.
 */
#pragma once

#include "base/error.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define NC_SHADOW_PAGE_BYTES 4096u
#define NC_SHADOW_FRAMES_MAX (1u << 30) /* 4 TiB */

typedef struct NcShadow NcShadow;

/* ${fd}: a file to map (borrowed; made as long as is needed), or -1 for memory of our own. */
NcShadow *nc_shadow_new(int fd, uint32_t frames, GError **error);
void nc_shadow_free(NcShadow *s); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcShadow, nc_shadow_free)

uint32_t nc_shadow_frames(const NcShadow *s);
/* NC_SHADOW_PAGE_BYTES bytes; zero before anything was put there. ${frame} below nc_shadow_frames(). */
uint8_t *nc_shadow_frame(NcShadow *s, uint32_t frame);
