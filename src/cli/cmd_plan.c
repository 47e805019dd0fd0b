/* SPDX-License-Identifier: Apache-2.0 */
/* novacron plan: what a move would be like, before it. */
#include "cli/client.h"
#include "cli/move_options.h"
#include "cli/table.h"
#include "cli/units.h"

#include <stdio.h>

/* --- what it says --- */

/* False if it is null. */
static bool
nc_plan_number(json_t *plan, const char *key, double *ret)
{
  json_t *value = json_object_get(plan, key);
  *ret = json_number_value(value);
  return json_is_number(value);
}

/* "4.2 s +- 1.3 s" */
static void
nc_plan_print_time(json_t *plan, const char *name, const char *key, const char *error_key)
{
  double ms, error_ms;

  if (!nc_plan_number(plan, key, &ms)) {
    nc_print_fact(name, "not known");
    return;
  }
  nc_plan_number(plan, error_key, &error_ms);
  g_autofree char *text = nc_format_ms(ms);
  g_autofree char *error = nc_format_ms(error_ms);
  nc_print_fact(name, "%s +- %s", text, error);
}

static void
nc_plan_print_wire(json_t *plan)
{
  double bytes, ratio;

  if (!nc_plan_number(plan, "wire_bytes", &bytes)) {
    nc_print_fact("wire", "not known");
    return;
  }
  g_autofree char *text = nc_format_bytes((int64_t)bytes);
  if (nc_plan_number(plan, "ratio", &ratio))
    nc_print_fact("wire", "%s (memory shrunk to 1/%.1f)", text, ratio);
  else
    nc_print_fact("wire", "%s", text);
}

static void
nc_plan_print_memory(json_t *plan)
{
  double total, content;

  nc_plan_number(plan, "ram_total_bytes", &total);
  g_autofree char *all = nc_format_bytes((int64_t)total);
  if (nc_plan_number(plan, "content_bytes", &content)) {
    g_autofree char *used = nc_format_bytes((int64_t)content);
    nc_print_fact("memory", "%s, of which %s were ever written", all, used);
  } else {
    nc_print_fact("memory", "%s", all);
  }
}

static void
nc_plan_print_rate(json_t *plan, const char *name, const char *key, const char *what)
{
  double bps;

  if (!nc_plan_number(plan, key, &bps))
    return;
  g_autofree char *rate = nc_format_rate(bps);
  nc_print_fact(name, "%s %s", rate, what);
}

static void
nc_plan_print_link(json_t *plan)
{
  double bps, rtt_us;

  if (!nc_plan_number(plan, "link_rate_bps", &bps) || !nc_plan_number(plan, "link_rtt_us", &rtt_us))
    return;
  g_autofree char *rate = nc_format_rate(bps);
  nc_print_fact("link", "%s by one connection within a second, round trip %.1f ms", rate, rtt_us / 1000);
}

static void
nc_plan_print_disks(json_t *plan)
{
  size_t i;
  json_t *disk;

  json_array_foreach(json_object_get(plan, "disks"), i, disk)
  {
    double bytes = 0, wire = 0, ms = 0, written = 0;
    nc_plan_number(disk, "bytes", &bytes);
    nc_plan_number(disk, "wire_bytes", &wire);
    nc_plan_number(disk, "eta_ms", &ms);
    nc_plan_number(disk, "write_rate_bps", &written);
    g_autofree char *name = g_strdup_printf("disk %s", nc_json_string_or(disk, "name", "?"));
    g_autofree char *clean = nc_text_clean(name), *all = nc_format_bytes((int64_t)bytes), *sent = nc_format_bytes((int64_t)wire);
    g_autofree char *time = nc_format_ms(ms), *rate = nc_format_rate(written);
    nc_print_fact(clean, "%s, %s on the wire, %s; the guest writes %s%s%s", all, sent, time, rate,
                  nc_json_bool_or(disk, "slowed", false) ? ", and would have to wait for the copy" : "",
                  nc_json_bool_or(disk, "flattened", false)    ? "; flattened"
                  : nc_json_bool_or(disk, "chain_kept", false) ? "; on the backing chain that is there"
                                                               : "");
  }
}

static const char *
nc_plan_basis(json_t *plan)
{
  const char *basis = nc_json_string_or(plan, "basis", "");

  return g_str_equal(basis, "vm")      ? "this sample, and earlier migrations of this machine"
         : g_str_equal(basis, "nodes") ? "this sample, and other machines' migrations on this way"
                                       : "this sample alone: nothing like it was migrated before";
}

static void
nc_plan_print(json_t *plan)
{
  bool converges = nc_json_bool_or(plan, "converges", false);
  g_autofree char *title = g_strdup_printf("%s, %s -> %s: %s%s", nc_json_string_or(plan, "vm", "?"), nc_json_string_or(plan, "from", "?"),
                                           nc_json_string_or(plan, "to", "?"), nc_json_string_or(plan, "algorithm", "?"),
                                           converges ? "" : ", would not come to an end");
  g_autofree char *clean = nc_text_clean(title);

  printf("%s\n", clean);
  if (converges) {
    nc_plan_print_time(plan, "time", "eta_ms", "eta_error_ms");
    nc_plan_print_time(plan, "pause", "pause_ms", "pause_error_ms");
    nc_plan_print_wire(plan);
  }
  nc_plan_print_memory(plan);
  nc_plan_print_disks(plan);
  nc_plan_print_rate(plan, "dirtied", "dirty_rate_bps", "by the guest");
  nc_plan_print_rate(plan, "sent", "effective_rate_bps", "of memory, before coding");
  nc_plan_print_link(plan);
  nc_print_fact("because", "%s", nc_json_string_or(plan, "reason", "?"));
  nc_print_fact("known by", "%s", nc_plan_basis(plan));
}

/* --- asking --- */

static bool
nc_plan_run(NcCli *cli, const char *vm, const NcMoveOptions *options, bool keep_chain, GError **error)
{
  nc_autojson json_t *body = nc_move_options_body(vm, options, error);
  if (!body || !nc_move_chain_body(body, keep_chain, false, error))
    return false;
  nc_autojson json_t *plan = nc_client_call(cli, "POST", "/api/v2/plans", body, error);
  if (!plan)
    return false;
  if (cli->json)
    nc_cli_print_json(plan);
  else
    nc_plan_print(plan);
  if (!nc_json_bool_or(plan, "converges", false))
    cli->status = nc_error_exit_status(NC_ERROR_CONVERGENCE);
  return true;
}

bool
nc_cmd_plan(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  NcMoveOptions options = { 0 };
  int keep_chain = 0;
  const GOptionEntry entries[] = {
    { "to", 0, 0, G_OPTION_ARG_STRING, &options.to, "node it would go to", "NODE" },
    NC_MOVE_OPTION_ENTRIES(options),
    { "keep-chain", 0, 0, G_OPTION_ARG_NONE, &keep_chain, "overlays only: same backing files are there", NULL },
    { NULL },
  };

  bool ok = nc_cli_parse(cli, command, entries, &argc, &argv, error) && nc_plan_run(cli, argv[0], &options, keep_chain, error);
  nc_move_options_clear(&options);
  return ok;
}
