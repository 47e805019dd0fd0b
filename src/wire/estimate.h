/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How well bytes will compress, guessed from a sample: a few microseconds for
 * 256 KiB, where compressing to find out takes hundreds.
 *
 * Two windows of 32 bytes in every 4 KiB (more of them in short input), at places that
 * differ from page to page. The sample's entropy says what an entropy coder gains;
 * how many of its words were seen before says what a match finder gains. What repeats
 * over a distance and nowhere near is not seen: who acts on the guess must try the
 * opposite now and then (wire/tuner.h does).
 *
 * Pure computation, any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* At and above this, compression saves too little to be worth its time. */
#define NC_ESTIMATE_INCOMPRESSIBLE 0.96

/* Bytes that zstd:1 would need for one byte of ${data}: nearly 0 to 1. The same for the same bytes; 1 if ${length} is
 * 0. */
double nc_estimate(const uint8_t *data, size_t length);
