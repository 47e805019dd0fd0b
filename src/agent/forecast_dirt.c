/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/forecast_dirt.h"

#include <math.h>

/* W / r, the time in which a working set would be written once: tried from the longest, in steps of a tenth. */
#define NC_DIRT_LONGEST 25 /* times the longest that was seen; and before that, none */
#define NC_DIRT_SHORTEST_S 0.02
#define NC_DIRT_SHORTEST 3 /* nor shorter than this part of the shortest that was seen: what was full at the first look shows no rate */
#define NC_DIRT_STEP 1.1
#define NC_DIRT_BETTER 1e-9 /* less is no reason for a smaller working set */

/*
 * For ${seconds_once}, the rate that fits best; *ret_misfit: by how much it does not. In logarithms, since what
 * is seen is wrong by a share of itself. INFINITY: every write is to another page.
 */
static double
nc_dirt_rate(const NcDirtPoint *points, unsigned count, double seconds_once, double *ret_misfit)
{
  double weights = 0, sum = 0, squares = 0;

  for (unsigned i = 0; i < count; i++) {
    double seconds = points[i].seconds, shown_s = isinf(seconds_once) ? seconds : -expm1(-seconds / seconds_once) * seconds_once;
    double weight = 1 / points[i].variance, value = log(points[i].bytes / shown_s);
    weights += weight;
    sum += weight * value;
    squares += weight * value * value;
  }
  *ret_misfit = MAX(squares - sum * sum / weights, 0);
  return exp(sum / weights);
}

/* Between two steps there is one that fits better still. */
static double
nc_dirt_refine(const NcDirtPoint *points, unsigned count, double once)
{
  double low = once / NC_DIRT_STEP, high = once * NC_DIRT_STEP, misfit_low, misfit_high;

  for (int i = 0; i < 40; i++) {
    double third = cbrt(high / low);
    nc_dirt_rate(points, count, low * third, &misfit_low);
    nc_dirt_rate(points, count, high / third, &misfit_high);
    if (misfit_low < misfit_high)
      high /= third;
    else
      low *= third;
  }
  return sqrt(low * high);
}

NcDirt
nc_dirt_fit(const NcDirtPoint *points, unsigned count)
{
  double longest = 0, shortest = INFINITY, misfit, least = 0, once = INFINITY;

  for (unsigned i = 0; i < count; i++) {
    longest = MAX(longest, points[i].seconds);
    shortest = MIN(shortest, points[i].seconds);
  }
  if (longest <= 0)
    return (NcDirt){ 0 };
  for (double tried = INFINITY; tried >= MAX(NC_DIRT_SHORTEST_S, shortest / NC_DIRT_SHORTEST); tried = isinf(tried) ? NC_DIRT_LONGEST * longest : tried / NC_DIRT_STEP) {
    nc_dirt_rate(points, count, tried, &misfit);
    if (isinf(tried) || misfit < least * (1 - NC_DIRT_BETTER) - NC_DIRT_BETTER) {
      least = misfit;
      once = tried;
    }
  }
  if (!isinf(once))
    once = nc_dirt_refine(points, count, once);
  double rate = nc_dirt_rate(points, count, once, &misfit);
  return (NcDirt){ rate, isinf(once) ? 0 : rate * once };
}
