/* SPDX-License-Identifier: Apache-2.0 */
/* Branch and bound over nodes in the order of their free memory. */
#include "fleet/placement.h"
#include "fleet/disk_room.h"

#include <inttypes.h>

#define NC_SCORE_MEMORY 100.0
#define NC_SCORE_NEAR 20.0
#define NC_SCORE_INCOMING 10.0
#define NC_SCORE_MOST_INCOMING 4u
#define NC_SCORE_FAILED 50.0
#define NC_MIB (1u << 20)

static const char *const nc_refusal_names[] = {
  [NC_REFUSAL_NONE] = "",          [NC_REFUSAL_OWN] = "own_node",      [NC_REFUSAL_DOWN] = "down",   [NC_REFUSAL_CORDONED] = "cordoned",
  [NC_REFUSAL_EXCLUDED] = "excluded", [NC_REFUSAL_LABEL] = "label",   [NC_REFUSAL_BUSY] = "busy",   [NC_REFUSAL_MEMORY] = "memory",
  [NC_REFUSAL_CPUS] = "cpus",      [NC_REFUSAL_DISK] = "disk",
};
G_STATIC_ASSERT(G_N_ELEMENTS(nc_refusal_names) == NC_REFUSAL_COUNT);

const char *
nc_refusal_name(NcRefusal refusal)
{
  return nc_refusal_names[refusal];
}

/* --- one node --- */

static bool
nc_placement_is_busy(const NcFleet *f, uint32_t node, const NcPlacementTerms *terms)
{
  unsigned own = nc_fleet_node(f, node)->in_limit, limit = own > 0 ? own : terms->in_limit;
  return terms->in_limit > 0 && terms->incoming && terms->incoming[node] >= limit;
}

static NcRefusal
nc_placement_filter(const NcFleet *f, uint32_t machine, uint32_t node, const NcPlacementTerms *terms)
{
  const NcMachine *m = nc_fleet_machine(f, machine);
  const NcNode *n = nc_fleet_node(f, node);
  NcRoom room = nc_fleet_free_room(f, node);

  return m->node == node                                                   ? NC_REFUSAL_OWN
         : n->is_down                                                      ? NC_REFUSAL_DOWN
         : n->is_cordoned                                                  ? NC_REFUSAL_CORDONED
         : terms->is_excluded && terms->is_excluded(node, terms->user_data) ? NC_REFUSAL_EXCLUDED
         : nc_fleet_missing_label(f, machine, node) != NC_FLEET_NONE       ? NC_REFUSAL_LABEL
         : nc_placement_is_busy(f, node, terms)                            ? NC_REFUSAL_BUSY
         : m->need.memory_bytes > room.memory_bytes                        ? NC_REFUSAL_MEMORY
         : m->need.cpus > room.cpus                                        ? NC_REFUSAL_CPUS
         : m->need.disk_bytes > room.disk_bytes                            ? NC_REFUSAL_DISK
         : !nc_fleet_has_disk_room(f, machine, node, NULL)                 ? NC_REFUSAL_DISK
                                                                           : NC_REFUSAL_NONE;
}

static double
nc_placement_memory_score(const NcFleet *f, uint64_t free_bytes, uint64_t need_bytes)
{
  uint64_t largest = MAX(nc_fleet_largest_memory(f), 1);
  return NC_SCORE_MEMORY * (double)(free_bytes - need_bytes) / (double)largest;
}

static bool
nc_placement_is_near(const NcFleet *f, uint32_t machine, uint32_t node)
{
  return nc_fleet_node(f, nc_fleet_machine(f, machine)->node)->link == nc_fleet_node(f, node)->link;
}

NcRefusal
nc_placement_judge(const NcFleet *f, uint32_t machine, uint32_t node, const NcPlacementTerms *terms, double *ret_score)
{
  NcRefusal refusal = nc_placement_filter(f, machine, node, terms);
  unsigned incoming = terms->incoming ? MIN(terms->incoming[node], NC_SCORE_MOST_INCOMING) : 0;

  if (refusal != NC_REFUSAL_NONE)
    return refusal;
  *ret_score =
      nc_placement_memory_score(f, nc_fleet_free_room(f, node).memory_bytes, nc_fleet_machine(f, machine)->need.memory_bytes) +
      (nc_placement_is_near(f, machine, node) ? NC_SCORE_NEAR : 0) - NC_SCORE_INCOMING * incoming -
      (terms->failed == node ? NC_SCORE_FAILED : 0);
  return refusal;
}

/* --- the best --- */

typedef struct {
  const NcFleet *fleet;
  const NcPlacementTerms *terms;
  uint32_t machine;
  double bonus; /* the most that those visited can have besides their memory's score */
  uint32_t best;
  double best_score;
} NcPlacementSearch;

/* As nodes are visited: more free memory first, then the first added. */
static bool
nc_placement_goes_before(const NcFleet *f, uint32_t a, uint32_t b)
{
  uint64_t a_free = nc_fleet_free_room(f, a).memory_bytes, b_free = nc_fleet_free_room(f, b).memory_bytes;
  return a_free != b_free ? a_free > b_free : a < b;
}

static bool
nc_placement_visit(const NcRoomEntry *entry, void *user_data)
{
  NcPlacementSearch *s = user_data;
  uint64_t need_bytes = nc_fleet_machine(s->fleet, s->machine)->need.memory_bytes;
  double score;

  if (s->best != NC_FLEET_NONE &&
      nc_placement_memory_score(s->fleet, entry->room.memory_bytes, need_bytes) + s->bonus < s->best_score)
    return false;
  if (nc_placement_judge(s->fleet, s->machine, entry->id, s->terms, &score) != NC_REFUSAL_NONE)
    return true;
  if (s->best == NC_FLEET_NONE || score > s->best_score ||
      (score == s->best_score && nc_placement_goes_before(s->fleet, entry->id, s->best))) {
    s->best = entry->id;
    s->best_score = score;
  }
  /* Those that follow have no more memory: nothing is better than all bonuses. */
  return score < nc_placement_memory_score(s->fleet, entry->room.memory_bytes, need_bytes) + s->bonus;
}

uint32_t
nc_placement_choose(const NcFleet *f, uint32_t machine, const NcPlacementTerms *terms)
{
  const NcMachine *m = nc_fleet_machine(f, machine);
  uint32_t link = nc_fleet_node(f, m->node)->link;
  NcPlacementSearch search = { .fleet = f, .terms = terms, .machine = machine, .best = NC_FLEET_NONE };

  /* First those nearby, then all, which can be better only without that bonus if there are links at all. */
  if (link != NC_FLEET_NONE) {
    search.bonus = NC_SCORE_NEAR;
    nc_room_tree_visit(nc_fleet_tree_of_link(f, link), &m->need, nc_placement_visit, &search);
  }
  search.bonus = link != NC_FLEET_NONE ? 0 : NC_SCORE_NEAR;
  nc_room_tree_visit(nc_fleet_tree_for(f, machine), &m->need, nc_placement_visit, &search);
  return search.best;
}

/* --- saying why --- */

typedef struct {
  uint32_t node;
  NcRefusal refusal;
  double score;
} NcPlacementLine;

static int
nc_placement_line_compare(const void *a, const void *b, void *user_data)
{
  const NcPlacementLine *x = a, *y = b;

  if ((x->refusal == NC_REFUSAL_NONE) != (y->refusal == NC_REFUSAL_NONE))
    return x->refusal == NC_REFUSAL_NONE ? -1 : 1;
  if (x->refusal == NC_REFUSAL_NONE && x->score != y->score)
    return x->score > y->score ? -1 : 1;
  if (x->refusal == NC_REFUSAL_NONE)
    return nc_placement_goes_before(user_data, x->node, y->node) ? -1 : 1;
  return x->node < y->node ? -1 : x->node > y->node;
}

/* Of a node that lacks it. */
static char *
nc_placement_disk_detail(const NcFleet *f, uint32_t machine, uint32_t node)
{
  NcDiskLack lack;

  if (nc_fleet_has_disk_room(f, machine, node, &lack)) /* then it has said how much there is in all */
    return g_strdup_printf("%" PRIu64 " MiB of disk needed, %" PRIu64 " free", nc_fleet_machine(f, machine)->need.disk_bytes / NC_MIB,
                           nc_fleet_free_room(f, node).disk_bytes / NC_MIB);
  const char *directory = nc_fleet_directory_name(f, lack.directory);
  if (lack.is_unknown)
    return g_strdup_printf("it has not said yet how much room %s has", directory);
  if (lack.is_missing)
    return g_strdup_printf("there is no directory %s, where its disks go", directory);
  return g_strdup_printf("%" PRIu64 " MiB of disk needed in %s, %" PRIu64 " free; a disk that both nodes see needs none, with `shared = yes` in the machine's file",
                         lack.need_bytes / NC_MIB, directory, lack.free_bytes / NC_MIB);
}

static char *
nc_placement_detail(const NcFleet *f, uint32_t machine, uint32_t node, NcRefusal refusal)
{
  const NcRoom *need = &nc_fleet_machine(f, machine)->need;
  NcRoom room = nc_fleet_free_room(f, node);

  switch (refusal) {
  case NC_REFUSAL_OWN:
    return g_strdup("the machine is there");
  case NC_REFUSAL_DOWN:
    return g_strdup("the node does not answer");
  case NC_REFUSAL_CORDONED:
    return g_strdup("nothing more may come to it");
  case NC_REFUSAL_EXCLUDED:
    return g_strdup("it was excluded");
  case NC_REFUSAL_LABEL:
    return g_strdup_printf("it lacks the label %s", nc_fleet_label_name(f, nc_fleet_missing_label(f, machine, node)));
  case NC_REFUSAL_BUSY:
    return g_strdup("as many migrations as it takes are on their way to it");
  case NC_REFUSAL_MEMORY:
    return g_strdup_printf("%" PRIu64 " MiB of memory needed, %" PRIu64 " free", need->memory_bytes / NC_MIB,
                           room.memory_bytes / NC_MIB);
  case NC_REFUSAL_CPUS:
    return g_strdup_printf("%" PRIu64 " processors needed, %" PRIu64 " free", need->cpus, room.cpus);
  case NC_REFUSAL_DISK:
    return nc_placement_disk_detail(f, machine, node);
  default:
    return g_strdup("");
  }
}

char *
nc_placement_why_not(const NcFleet *f, uint32_t machine, uint32_t node, const NcPlacementTerms *terms)
{
  NcRefusal refusal = nc_placement_filter(f, machine, node, terms);
  return refusal != NC_REFUSAL_NONE ? nc_placement_detail(f, machine, node, refusal) : NULL;
}

json_t *
nc_placement_explain(const NcFleet *f, uint32_t machine, const NcPlacementTerms *terms)
{
  g_autofree NcPlacementLine *lines = g_new0(NcPlacementLine, MAX(nc_fleet_node_count(f), 1));
  uint32_t count = 0;
  json_t *nodes = json_array();

  for (uint32_t i = 0; i < nc_fleet_node_count(f); i++) {
    if (!nc_fleet_node(f, i)->name)
      continue; /* removed */
    lines[count].node = i;
    lines[count].refusal = nc_placement_judge(f, machine, i, terms, &lines[count].score);
    count++;
  }
  g_qsort_with_data(lines, (gint)count, sizeof lines[0], nc_placement_line_compare, (gpointer)f);
  for (uint32_t i = 0; i < count; i++) {
    g_autofree char *detail = nc_placement_detail(f, machine, lines[i].node, lines[i].refusal);
    const char *name = nc_fleet_node(f, lines[i].node)->name;
    json_array_append_new(nodes, lines[i].refusal == NC_REFUSAL_NONE
                                     ? json_pack("{s:s, s:f}", "node", name, "score", lines[i].score)
                                     : json_pack("{s:s, s:s, s:s}", "node", name, "refused", nc_refusal_name(lines[i].refusal),
                                                 "detail", detail));
  }
  json_t *chosen = count > 0 && lines[0].refusal == NC_REFUSAL_NONE ? json_string(nc_fleet_node(f, lines[0].node)->name) : json_null();
  return json_pack("{s:s, s:o, s:o}", "machine", nc_fleet_machine(f, machine)->name, "chosen", chosen, "nodes", nodes);
}

static void
nc_placement_say(GString *text, unsigned count, const char *one, const char *several)
{
  if (count > 0)
    g_string_append_printf(text, "%s%u %s", text->len > 0 ? ", " : "", count, count == 1 ? one : several);
}

char *
nc_placement_complaint(const NcFleet *f, uint32_t machine, const NcPlacementTerms *terms)
{
  unsigned counts[NC_REFUSAL_COUNT] = { 0 };
  g_autoptr(GString) text = g_string_new(NULL);
  const NcMachine *m = nc_fleet_machine(f, machine);
  uint32_t no_disk = NC_FLEET_NONE; /* the first that lacks it */
  uint64_t most_bytes = 0;
  unsigned nodes = 0;
  double score;

  for (uint32_t i = 0; i < nc_fleet_node_count(f); i++) {
    if (!nc_fleet_node(f, i)->name)
      continue; /* removed */
    nodes++;
    NcRefusal refusal = nc_placement_judge(f, machine, i, terms, &score);
    counts[refusal]++;
    if (refusal == NC_REFUSAL_MEMORY)
      most_bytes = MAX(most_bytes, nc_fleet_free_room(f, i).memory_bytes);
    if (refusal == NC_REFUSAL_DISK && no_disk == NC_FLEET_NONE)
      no_disk = i;
  }
  if (counts[NC_REFUSAL_NONE] > 0)
    return g_strdup_printf("%u nodes can take %s now", counts[NC_REFUSAL_NONE], m->name);
  nc_placement_say(text, counts[NC_REFUSAL_OWN], "is its own", "are its own");
  nc_placement_say(text, counts[NC_REFUSAL_DOWN], "is down", "are down");
  nc_placement_say(text, counts[NC_REFUSAL_CORDONED], "is cordoned", "are cordoned");
  nc_placement_say(text, counts[NC_REFUSAL_EXCLUDED], "is excluded", "are excluded");
  nc_placement_say(text, counts[NC_REFUSAL_LABEL], "lacks a label", "lack a label");
  nc_placement_say(text, counts[NC_REFUSAL_BUSY], "is busy", "are busy");
  nc_placement_say(text, counts[NC_REFUSAL_CPUS], "lacks processors", "lack processors");
  nc_placement_say(text, counts[NC_REFUSAL_DISK], "lacks disk", "lack disk");
  if (no_disk != NC_FLEET_NONE) {
    g_autofree char *detail = nc_placement_disk_detail(f, machine, no_disk);
    g_string_append_printf(text, " (%s: %s)", nc_fleet_node(f, no_disk)->name, detail);
  }
  nc_placement_say(text, counts[NC_REFUSAL_MEMORY], "lacks memory", "lack memory");
  if (counts[NC_REFUSAL_MEMORY] > 0)
    g_string_append_printf(text, " (it needs %" PRIu64 " MiB, the most free is %" PRIu64 " MiB)", m->need.memory_bytes / NC_MIB,
                           most_bytes / NC_MIB);
  return g_strdup_printf("no node can take %s: of %u nodes %s", m->name, nodes, text->str);
}
