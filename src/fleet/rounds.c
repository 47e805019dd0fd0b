/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/rounds.h"

#include <glib.h>
#include <math.h>

#define NC_ROUND_SHRINKS 0.95 /* what a round dirties of what it sends: more than this goes on for ever */

double
nc_rounds_dirt(double rate, double working_set, double seconds)
{
  return working_set > 0 ? working_set * (1 - exp(-rate * seconds / working_set)) : rate * seconds;
}

NcRoundEnd
nc_rounds_end(const NcRoundTerms *terms, double left, double kept, double seconds)
{
  NcRoundEnd end = { .dirt = nc_rounds_dirt(terms->dirty_rate, terms->working_set, seconds) };

  end.next = kept + end.dirt;
  if (terms->working_set > 0 && !terms->is_first) /* what is still dirty is not dirtied once more */
    end.next = MIN(end.next, terms->working_set);
  if (end.next <= terms->budget_bytes || end.dirt < NC_ROUND_NOTHING)
    end.verdict = NC_ROUND_LAST;
  else if (terms->may_stall && end.dirt >= NC_ROUND_SHRINKS * (left - kept))
    end.verdict = NC_ROUND_STALL;
  return end;
}
