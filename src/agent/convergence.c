/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/convergence.h"

#include <math.h>

#define NC_CONVERGENCE_STEP 10     /* percent */
#define NC_CONVERGENCE_ROOM 0.8    /* of the effective rate: what a throttled guest should dirty */
#define NC_CONVERGENCE_MB 1e6
#define NC_CONVERGENCE_ROUNDS 2 /* times the first one */

const char *
nc_convergence_action_name(NcConvergenceAction action)
{
  static const char *const names[] = { "go-on", "throttle", "post-copy", "wait", "stop" };
  return names[action];
}

/* The throttle at which the guest's dirt would fit, in steps, at least one more than now. */
static int
nc_convergence_throttle(const NcForecastResult *f, int most, int now)
{
  double share = f->dirty_bps > 0 ? 1 - NC_CONVERGENCE_ROOM * f->effective_bps * (1 - now / 100.0) / f->dirty_bps : 0;
  int wanted = (int)ceil(share * 100 / NC_CONVERGENCE_STEP) * NC_CONVERGENCE_STEP;
  return MIN(MAX(wanted, now + NC_CONVERGENCE_STEP), most);
}

void
nc_convergence_decide(const NcForecastResult *f, const NcConvergenceLimits *limits, int throttle, int64_t elapsed_ms,
                      NcConvergenceDecision *ret)
{
  g_autofree char *rates = g_strdup_printf("dirty rate %.1f MB/s, effective rate %.1f MB/s", f->dirty_bps / NC_CONVERGENCE_MB,
                                           f->effective_bps / NC_CONVERGENCE_MB);
  bool hopeless = f->is_known && !f->converges;
  int64_t patience_ms = hopeless ? limits->timeout_ms : MAX(limits->timeout_ms, NC_CONVERGENCE_ROUNDS * limits->first_round_ms);
  bool late = limits->timeout_ms > 0 && elapsed_ms >= patience_ms;

  *ret = (NcConvergenceDecision){ .throttle = throttle };
  if (limits->may_postcopy && (hopeless || late)) {
    ret->action = NC_CONVERGENCE_POSTCOPY;
    ret->reason = g_strdup_printf("%s: would not converge; the machine goes first and the rest of its memory after it", rates);
  } else if (late && !hopeless) {
    ret->action = NC_CONVERGENCE_STOP;
    ret->reason = g_strdup_printf("not done within %.0f s after its memory was sent once: %s", (double)patience_ms / 1000, rates);
  } else if (late) {
    ret->action = NC_CONVERGENCE_STOP;
    ret->reason = g_strdup_printf("will not converge: %s, it would need %.1f MB/s", rates, f->needed_bps / NC_CONVERGENCE_MB);
  } else if (!hopeless) {
    ret->action = NC_CONVERGENCE_GO_ON;
    ret->reason = f->is_known ? g_strdup_printf("%s: %.1f s to go, pause %.0f ms", rates, f->eta_ms / 1000, f->pause_ms)
                              : g_strdup("too early to tell");
  } else if (throttle < limits->max_throttle) {
    ret->action = NC_CONVERGENCE_THROTTLE;
    ret->throttle = nc_convergence_throttle(f, limits->max_throttle, throttle);
    ret->reason = g_strdup_printf("%s: would not converge; the guest is slowed down by %d %%", rates, ret->throttle);
  } else {
    ret->action = NC_CONVERGENCE_WAIT;
    ret->reason = g_strdup_printf("%s: would not converge, it would need %.1f MB/s; waiting for a lull", rates,
                                  f->needed_bps / NC_CONVERGENCE_MB);
  }
}
