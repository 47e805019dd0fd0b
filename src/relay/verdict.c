/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/verdict.h"

int
nc_relay_bytes_equal(const NcRelayFacts *facts)
{
  if (facts->shut && facts->shut_status == 0) /* a load that failed may stop reading anywhere */
    return facts->shut_equal;
  return facts->whole ? facts->digests_equal : -1;
}

/* Whoever closed first before anything was confirmed. */
static bool
nc_relay_blame(const NcRelayFacts *facts, const char *before_what, GError **error)
{
  if (facts->destination_left)
    return nc_fail(error, NC_ERROR_QEMU,
                   "the destination's QEMU closed its socket %s: it refused the machine or died; look at its log",
                   before_what);
  return nc_fail(error, NC_ERROR_QEMU,
                 "the source's QEMU closed its socket %s: the migration was cancelled there, or it died; "
                 "look at `info migrate` and its log",
                 before_what);
}

bool
nc_relay_verdict(const NcRelayFacts *facts, GError **error)
{
  /* Before the bytes are compared: it may say so in the middle, and then the rest was never delivered. */
  if (facts->shut && facts->shut_status != 0)
    return nc_fail(error, NC_ERROR_QEMU,
                   "the destination's QEMU could not load the machine (status %" G_GINT64_FORMAT
                   "): look at its log; the machine stays at the source",
                   facts->shut_status);
  if (nc_relay_bytes_equal(facts) == 0)
    return nc_fail(error, NC_ERROR_CORRUPT,
                   "what the destination's QEMU was given is not what the source's QEMU wrote: "
                   "don't let the machine run there, and report this");
  if (facts->shut)
    return true;
  if (facts->return_path)
    return nc_relay_blame(facts, "before the destination had confirmed the migration", error);
  if (facts->whole && facts->tail)
    return true;
  return nc_relay_blame(facts, "before the end of the stream", error);
}
